"""pipelines.tune: draws, rungs and trials by oracles; searches that lose workers or are killed; a cluster."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import needs_ray, only_ray
from matplotlib.image import imread
from scipy import stats

from fins.data.protocols import divide
from fins.data.table import UtteranceTable
from fins.runs import read_json
from pipelines.tune import main
from ser_heads.experiments import RunConfig, cluster, configure
from ser_heads.experiments.config import command_of, read_command_line
from ser_heads.experiments.run import train_classifier
from ser_heads.experiments.search import SHIPPED, SearchOptions, plan_trials
from ser_heads.experiments.search.space import (
    Choice,
    LogUniform,
    SearchSpace,
    Uniform,
    draw_trials,
    read_space,
    value_of,
    with_options,
)
from ser_heads.experiments.search.trials import Journal, checkpoint_of, train_trial

TINY = """'''A rate and a batch.'''

from ser_heads.experiments.search import Choice, LogUniform
from ser_heads.experiments import configure


def default():
    return configure("feature_cnn", batch_size=16)


def space():
    return {"learning_rate": LogUniform(1e-4, 1e-2), "batch_size": Choice(8, 16)}
"""
CPU = torch.device("cpu")


def read_search(named: str) -> SearchSpace:
    return read_space(named, SHIPPED)


def search_in(folder: Path, text: str = TINY) -> str:
    path = folder / "tiny.py"
    path.write_text(text)
    return str(path)


def asked(folder: Path, store: Path, **changes: Any) -> SearchOptions:
    """A search of three trials of two epochs, one at a time."""
    usual: dict[str, Any] = {"trials": 3, "epochs": 2, "grace": 1, "at_once": 1, "out": folder / "out"}
    return SearchOptions(search_in(folder), (store,), **{**usual, **changes})


def epochs_of(out: Path) -> dict[int, list[dict[str, Any]]]:
    """Trial → what the journal has of its epochs, without times."""
    trials: dict[int, list[dict[str, Any]]] = {}
    for line in Journal(out / "journal.jsonl").lines:
        if "epoch" in line:
            timeless = {key: value for key, value in line.items() if key not in ("seconds", "at")}
            trials.setdefault(line["trial"], []).append(timeless)
    return trials


@pytest.mark.parametrize("name", SHIPPED)
def test_every_space_of_the_package_gives_configurations_that_train_takes(name: str) -> None:
    search = read_search(name)
    assert search.about and search.default == configure(search.default.model)
    drawn, planned = plan_trials(search, SearchOptions(name, (Path("a.h5"),), trials=30))
    assert drawn[0] == {option: value_of(search.default, option) for option in search.options}
    for its, config in zip(drawn, planned, strict=True):
        assert config == with_options(planned[0], its) and config.model == search.default.model
    for option, distribution in search.options.items():
        values = [its[option] for its in drawn[1:]]
        if isinstance(distribution, Choice):
            assert set(values) == set(distribution.values)
        else:
            assert distribution.low <= min(values) < max(values) <= distribution.high


def test_draws_have_the_distributions_that_scipy_knows() -> None:
    rng = np.random.default_rng(0)
    rates = [LogUniform(1e-4, 1e-1).draw(rng) for _ in range(2000)]
    assert stats.kstest(rates, stats.loguniform(1e-4, 1e-1).cdf).pvalue > 0.01
    shares = [Uniform(-1, 3).draw(rng) for _ in range(2000)]
    assert stats.kstest(shares, stats.uniform(-1, 4).cdf).pvalue > 0.01
    counts = np.bincount([Choice(0, 1, 2).draw(rng) for _ in range(2000)])
    assert stats.chisquare(counts).pvalue > 0.01
    assert all(float(f"{rate:.3g}") == rate for rate in rates)  # what a command shows is what was trained


def test_a_seed_draws_the_same_and_more_trials_start_with_fewer(tmp_path: Path) -> None:
    search = read_search(search_in(tmp_path))
    drawn = draw_trials(search, 8, seed=1)
    assert drawn == draw_trials(search, 8, seed=1) and drawn[:3] == draw_trials(search, 3, seed=1)
    assert drawn[0] == {"learning_rate": 1e-3, "batch_size": 16}
    assert drawn[1:] != draw_trials(search, 8, seed=2)[1:]
    small = replace(search, options={"batch_size": Choice(8, 16, 32)})
    assert sorted(its["batch_size"] for its in draw_trials(small, 3, 0)) == [8, 16, 32]
    with pytest.raises(ValueError, match="no 4 different configurations"):
        draw_trials(small, 4, 0)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("LogUniform(1e-4, 1e-2)", "LogUniform(1e-2, 1e-4)", "is broken, line 12.*0 < low < high"),
        ("Choice(8, 16)", "Choice(8)", "is broken, line 12.*two values"),
        ("Choice(8, 16)", "Uniform(8, 16)", "is broken, line 12.*NameError"),
        ("Choice(8, 16)", "LogUniform(8, 16)", "batch_size can't be LogUniform.*whole numbers"),
        ("Choice(8, 16)", "Choice(8, 16.5)", "batch_size can't be Choice.*whole numbers"),
        ("Choice(8, 16)", "[8, 16]", "batch_size has no distribution"),
        ('batch_size": Choice(8, 16)', 'batch": Choice(8, 16)', "'batch' can't be searched"),
        ('batch_size": Choice(8, 16)', 'seed": Choice(8, 16)', "'seed' can't be searched"),
        ('batch_size": Choice(8, 16)', 'frozen_epochs": Choice(8, 16)', "can't be searched"),
        ('batch_size": Choice(8, 16)', "loss\": Choice('focal', 'square')", "--loss 'square'"),
        ('batch_size": Choice(8, 16)', 'augmentation": Choice(8, 16)', "parts.*augmentation.mixup"),
        ('batch_size": Choice(8, 16)', 'augmentation.mix": Choice(8, 16)', "no such option"),
        ("feature_cnn", "spectral_svm", "no epochs to stop at"),
        ("def space", "def room", "is empty"),
        ("def default", "def usual", "has no default"),
        ("return {", "return 1, {", "is empty"),
        ("batch_size=16)", "batch_size=16, seed=3)", "sets seed, which is for the command line"),
    ],
)
def test_a_space_that_cannot_be_meant_is_told_in_one_sentence(
    tmp_path: Path, before: str, after: str, reason: str
) -> None:
    assert before in TINY
    with pytest.raises(ValueError, match=reason) as said:
        read_search(search_in(tmp_path, TINY.replace(before, after)))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"store": ()}, "--store"),
        ({"trials": 0}, "at least 1"),
        ({"grace": 3}, "--grace at most --epochs"),
        ({"reduction": 1}, "--reduction is at least 2"),
        ({"minutes": 0.1}, "--minutes"),
        ({"fold": "ravdess:9"}, "no fold"),
        ({"search": "fim"}, "there is no search space fim: give one of fin, wavelet_packet_net"),
    ],
)
def test_options_that_cannot_be_meant(
    small_store: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        main(replace(asked(tmp_path, small_store), **changes))
    assert not (tmp_path / "out").exists()


def test_a_value_that_training_refuses_is_told_before_any_training(tmp_path: Path) -> None:
    text = TINY.replace(
        "LogUniform(1e-4, 1e-2)", "LogUniform(1e-4, 1e-2), 'label_smoothing': Choice(0.0, 1.0)"
    )
    with pytest.raises(ValueError, match=r"lets label_smoothing be 1.0: --label-smoothing is .* below 1"):
        read_search(search_in(tmp_path, text))


def test_without_ray_the_extra_is_named(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fin-ser\[cluster\]'"):
        main(asked(tmp_path, small_store))


@pytest.mark.parametrize(
    "config",
    [
        configure("fin", store=(Path("a b.h5"), Path("c.h5")), learning_rate=1.23e-4, fold="ravdess:1"),
        configure("wavelet_packet_net", share_bands=True, conjugate=False, depth=7, sharing="node", seed=3),
        configure("feature_cnn", fins=("rms", "zcr"), emotions=("angry", "sad"), optimizer="adamw"),
        with_options(configure("fin"), {"augmentation.mixup": 0.0, "augmentation.noise": (-40.0, -1e-5)}),
        configure("fin", finetuned_epochs=0, frozen_epochs=7, protocol="corpus", test_corpus=("esd",)),
    ],
    ids=lambda config: config.model,
)
def test_a_command_says_its_configuration(config: RunConfig) -> None:
    python, m, module, *words = shlex.split(command_of(config))
    assert (python, m, module) == ("python", "-m", "pipelines.train")
    assert read_command_line("", None, words) == (config, None)


def test_a_journal_that_a_kill_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.write(0, {"epoch": 1, "uar": 0.25})
    first.write(1, {"epoch": 1, "uar": 0.5, "ended": "stopped"})
    first.write(0, {"lost": True})
    with path.open("a") as file:
        file.write('{"trial": 0, "epo')
    again = Journal(path)
    again.write(0, {"epoch": 2, "uar": 0.375, "ended": "finished"})
    told = [Journal(path).record(number) for number in (0, 1, 2)]
    assert [[row["uar"] for row in its.rows] for its in told] == [[0.25, 0.375], [0.5], []]
    assert [(its.ended, its.retries) for its in told] == [("finished", 1), ("stopped", 0), ("", 0)]
    assert Journal(path).seconds() >= again.lines[-1]["at"] >= first.lines[-1]["at"]
    path.write_text("{}\n[\n")
    with pytest.raises(ValueError, match=r"journal.jsonl is damaged"):
        Journal(path)


def config_of(store: Path, **changes: Any) -> RunConfig:
    usual = {"frozen_epochs": 6, "finetuned_epochs": 0, "batch_size": 16, "store": (store,)}
    return configure("feature_cnn", **{**usual, **changes})


def test_a_trial_is_the_run_of_its_command_and_never_meets_the_test_part(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a store of its own, beside which nothing is kept yet
    config = config_of(Path(shutil.copy(small_store, tmp_path / "own.h5")), learning_rate=3e-3)
    met: set[int] = set()
    rows: list[dict[str, Any]] = []
    with monkeypatch.context() as patched:
        patched.setattr(UtteranceTable, "signal", reading(UtteranceTable.signal, met))
        patched.setattr(UtteranceTable, "stored_features", reading(UtteranceTable.stored_features, met))
        train_trial(config, tmp_path / "checkpoint.safetensors", rows.append, CPU)
    parts = divide(UtteranceTable(config.store).rows, config.division, config.seed)
    assert met == set(map(int, [*parts["train"], *parts["validation"]])) and len(parts["test"])

    train_classifier(replace(config, out=tmp_path / "run"))
    with (tmp_path / "run" / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == list(range(1, 7))
    for key in ("validation_uar", "validation_loss", "train_loss"):
        assert [row[key] for row in rows] == [float(row[key]) for row in history]
    assert [row["last"] for row in rows] == [False] * 5 + [True]
    uars = [row["validation_uar"] for row in rows]  # of the first five epochs their mean, then of each five
    means = [np.mean(uars[:n]) for n in range(1, 6)] + [np.mean(uars[1:6])]
    np.testing.assert_allclose([row["uar"] for row in rows], np.maximum.accumulate(means))


def reading(read: Callable[..., Any], met: set[int]) -> Callable[..., Any]:
    def reads(self: UtteranceTable, utterance: int, *rest: Any) -> Any:
        met.add(int(utterance))
        return read(self, utterance, *rest)

    return reads


def test_a_trial_goes_on_from_its_checkpoint_and_tells_all_of_it(small_store: Path, tmp_path: Path) -> None:
    config = config_of(small_store, frozen_epochs=4)
    whole: list[dict[str, Any]] = []
    train_trial(config, tmp_path / "whole.safetensors", whole.append, CPU)

    class Killed(Exception):
        pass

    def die(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train_trial(config, tmp_path / "killed.safetensors", die, CPU)
    rows: list[dict[str, Any]] = []
    train_trial(config, tmp_path / "killed.safetensors", rows.append, CPU)
    assert [timeless(row) for row in rows] == [timeless(row) for row in whole] and len(rows) == 4
    rows.clear()
    train_trial(config, tmp_path / "killed.safetensors", rows.append, CPU)  # nothing is left to train
    assert [timeless(row) for row in rows] == [timeless(row) for row in whole]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def test_a_trial_that_diverges_says_so(small_store: Path, tmp_path: Path) -> None:
    config = config_of(small_store, optimizer="sgd", learning_rate=1e38, weight_decay=1e30)
    rows: list[dict[str, Any]] = []
    train_trial(config, tmp_path / "checkpoint.safetensors", rows.append, CPU)
    assert "diverged" in rows[-1]["failed"]


@needs_ray
@pytest.mark.parametrize("reduction", [2, 3])
def test_rungs_by_an_oracle_also_when_a_journal_goes_on(tmp_path: Path, reduction: int) -> None:
    """ASHA's rule by hand: at grace · reductionᵏ epochs a trial stops if its score is below the quantile
    1 - 1 / reduction of those that came to this rung before it. The default isn't stopped."""
    from ser_heads.experiments.search.asha import Asha

    rng = np.random.default_rng(reduction)
    n_trials, n_epochs, grace = 12, 12, 2
    scores = np.sort(rng.random((n_trials, n_epochs)), axis=1)
    scores[0] = 0.0
    rungs: dict[int, list[float]] = {grace * reduction**k: [] for k in range(5)}
    going = dict.fromkeys(range(n_trials), 0)
    journal = Journal(tmp_path / "journal.jsonl")
    asha = Asha(journal, n_epochs, grace, reduction)
    n_stopped = 0
    while going:
        number = int(rng.choice(list(going)))
        epoch = going[number] = going[number] + 1
        score = float(scores[number, epoch - 1])
        stops = False
        if epoch in rungs and epoch < n_epochs:
            before = sorted(rungs[epoch])
            if before:
                place = (1 - 1 / reduction) * (len(before) - 1)
                low, high = before[int(place)], before[min(int(place) + 1, len(before) - 1)]
                stops = score < low + (place - int(place)) * (high - low) and number != 0
            rungs[epoch].append(score)
        row = dict.fromkeys(("validation_uar", "validation_loss", "train_loss", "seconds"), 0.0)
        row |= {"epoch": epoch, "uar": score, "last": False}
        trial = SimpleNamespace(config={"number": number})
        action = asha.on_trial_result(None, trial, row)
        assert asha.on_trial_result(None, trial, row) == action  # told again, it changes nothing
        assert action == ("STOP" if stops or epoch == n_epochs else "CONTINUE")
        assert journal.record(number).ended == (
            "stopped" if stops else "finished" if action == "STOP" else ""
        )
        if action == "STOP":
            del going[number]
            n_stopped += stops
        if rng.random() < 0.2:  # the search is killed, and goes on
            journal = Journal(journal.path)
            asha = Asha(journal, n_epochs, grace, reduction)
    assert 3 <= n_stopped < n_trials - 1 and journal.record(0).ended == "finished"
    assert [len(its.rows) for _, its in sorted(journal.trials.items())] != [n_epochs] * n_trials


@needs_ray
def test_why_a_trial_failed_is_told_in_one_line(tmp_path: Path) -> None:
    from ser_heads.experiments.search.asha import JournalCallback

    journal = Journal(tmp_path / "journal.jsonl")
    watch = JournalCallback(journal, None)
    texts = {
        1: "Traceback:\n  File\nray.exceptions.ActorDiedError: The actor died.\n  pid: 7\n",
        2: "Traceback:\n  File\nRuntimeError: can't allocate memory\n\n",
    }
    for number, text in texts.items():
        trial = SimpleNamespace(config={"number": number}, get_error=lambda text=text: text)
        watch.on_trial_error(0, [], trial)
    told = [journal.record(number) for number in texts]
    assert [its.ended for its in told] == ["failed", "failed"]
    assert "lost 4 times" in told[0].why and told[1].why == "RuntimeError: can't allocate memory"


@pytest.fixture(scope="module")
def searched(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials of two epochs, one after another."""
    folder = tmp_path_factory.mktemp("searched")
    with only_ray(tmp_path_factory):
        main(asked(folder, small_store))
    return folder / "out"


@needs_ray
@pytest.mark.slow
def test_a_search_and_what_it_leaves(searched: Path, small_store: Path, tmp_path: Path) -> None:
    assert {path.name for path in searched.iterdir()} == {
        *(
            "config.json",
            "result.json",
            "digests.json",
            "journal.jsonl",
            "trials.csv",
            "trials.png",
            "README.md",
        )
    }
    result = read_json(searched / "result.json")
    trials = result["trials"]
    assert [its["trial"] for its in trials] == [0, 1, 2] and result["n_lost"] == 0
    assert result["default"] == trials[0] and trials[0]["state"] == "finished" and trials[0]["epochs"] == 2
    assert all(its["state"] in ("finished", "stopped") for its in trials)
    assert result["best"]["uar"] == max(its["uar"] for its in trials)
    assert result["gain"] == pytest.approx(result["best"]["uar"] - trials[0]["uar"])
    assert set(result["parts"]) == {"train", "validation"}
    with (searched / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in table] == [
        its["options"]["learning_rate"] for its in trials
    ]
    assert [float(row["uar"]) for row in table] == [its["uar"] for its in trials]
    assert imread(searched / "trials.png").std() > 0.01
    page = (searched / "README.md").read_text()
    assert result["command"] in page and "too good" in page and "test part hasn't been touched" in page

    words = shlex.split(result["command"])[3:]
    config, _ = read_command_line("", None, words)
    rows: list[dict[str, Any]] = []
    train_trial(config, tmp_path / "checkpoint.safetensors", rows.append, CPU)
    assert rows[result["best"]["epochs"] - 1]["uar"] == result["best"]["uar"]


@needs_ray
@pytest.mark.slow
def test_a_finished_search_stays_as_it_is(
    searched: Path, small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (searched / "journal.jsonl").read_text()
    config = replace(asked(tmp_path, small_store), out=searched)
    main(config)
    assert "holds the result of this very search" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds another run"):
        main(replace(config, epochs=3))
    assert (searched / "journal.jsonl").read_text() == before


@needs_ray
@pytest.mark.slow
def test_more_trials_go_on_with_a_finished_search(searched: Path, small_store: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "out")
    main(asked(tmp_path, small_store, trials=4))
    result, before = (read_json(out / "result.json") for out in (tmp_path / "out", searched))
    assert result["trials"][:3] == before["trials"] and result["trials"][3]["epochs"] > 0
    assert (
        (tmp_path / "out" / "journal.jsonl").read_text().startswith((searched / "journal.jsonl").read_text())
    )


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster(small_store: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match=r"no cluster of Ray can be joined|give host:port") as said:
        main(asked(tmp_path, small_store, address=address))
    assert "\n" not in str(said.value)


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_is_started_again_to_the_same_numbers(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_heads.experiments.search.asha import JournalCallback

    (tmp_path / "calm").mkdir()
    main(asked(tmp_path / "calm", small_store, trials=2, epochs=4, grace=4))
    record, killed = JournalCallback.on_trial_result, []

    def kill(
        self: JournalCallback, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
    ) -> None:
        record(self, iteration, trials, trial, result, **info)
        if trial.config["number"] == 1 and result["epoch"] == 2 and not killed:
            killed.append(result["pid"])
            os.kill(result["pid"], signal.SIGKILL)

    monkeypatch.setattr(JournalCallback, "on_trial_result", kill)
    main(asked(tmp_path, small_store, trials=2, epochs=4, grace=4))
    result = read_json(tmp_path / "out" / "result.json")
    assert killed and result["n_lost"] == 1 and result["trials"][1]["lost"] == 1
    assert "1 processes lost" in (tmp_path / "out" / "README.md").read_text()
    assert epochs_of(tmp_path / "out") == epochs_of(tmp_path / "calm" / "out")


@needs_ray
@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_numbers(
    searched: Path, small_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.tune", search_in(tmp_path), "--store", str(small_store)]
    command += ["--trials", "3", "--epochs", "2", "--grace", "1", "--at-once", "1", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(Journal(out / "journal.jsonl").lines) < 3:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (out / "result.json").exists() and (out / "trials").is_dir()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert read_json(out / "result.json")["n_trials"] == 3
    assert epochs_of(out) == epochs_of(searched)


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes(searched: Path, small_store: Path, tmp_path: Path) -> None:
    """Two trials at once, one on each node; numbers are those of one machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        main(asked(tmp_path, small_store, grace=2, at_once=None, address=cluster.address))
        with pytest.raises(ValueError, match="no trial can have 2 CPUs"):
            main(asked(tmp_path, small_store, out=tmp_path / "two", cpus=2, address=cluster.address))
    finally:
        cluster.shutdown()
    result = read_json(tmp_path / "out" / "result.json")
    assert [its["epochs"] for its in result["trials"]] == [2, 2, 2]
    for number, rows in epochs_of(searched).items():
        of_both = epochs_of(tmp_path / "out")[number][: len(rows)]
        assert [{**row, "ended": ""} for row in of_both] == [{**row, "ended": ""} for row in rows]


@needs_ray
@pytest.mark.slow
def test_a_budget_ends_a_search_with_its_result_and_a_larger_one_goes_on(
    small_store: Path, tmp_path: Path
) -> None:
    config = asked(tmp_path, small_store, trials=2, epochs=5000, grace=5000, minutes=1.0)
    search_in(tmp_path, TINY.replace("batch_size=16", "batch_size=16, patience=5000"))
    main(config)
    result = read_json(tmp_path / "out" / "result.json")
    assert 10 < result["seconds"] < 90 and result["trials"][0]["state"] == "unfinished"
    assert checkpoint_of(tmp_path / "out", 0).exists()
    n_before = result["trials"][0]["epochs"]
    main(replace(config, minutes=1.5))
    result = read_json(tmp_path / "out" / "result.json")
    assert 0 < n_before < result["trials"][0]["epochs"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if line["trial"] == 0 and "epoch" in line]
    assert epochs == list(range(1, len(epochs) + 1))
