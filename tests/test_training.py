"""Streams against plain slices of the store; training that resumes to the same numbers; the run's folder."""

from __future__ import annotations

import csv
import itertools
import json
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_recordings

import fins
from fins import runs
from fins.audio import WINDOW
from fins.command import read_options
from fins.data.protocols import Division
from fins.data.store import Store, write_store
from fins.features import FEATURES, STORED
from fins.learning.budget import Budget
from fins.learning.report import FinReportConfig, read_results, report_fins
from fins.learning.run import FinRunConfig, train_fin
from fins.learning.run_page import describe_scores
from fins.learning.scoring import imitate, score
from fins.learning.trainer import WindowRecipe, WindowTrainer, validation_share
from fins.learning.windows import WindowStream, epoch_order
from fins.networks import FinConfig, build_fin, load_fin
from fins.progress import SILENT, Bar, TqdmWatch, Watch
from fins.runs import locked
from fins.tensors import load_tensors, save_tensors

CPU = torch.device("cpu")
AT_RANDOM = Division(protocol="random")


def make_trainer(
    store: Path,
    checkpoint: Path,
    feature: str = "rms",
    seconds: float | None = None,
    watch: Watch = SILENT,
    **changes: Any,
) -> WindowTrainer:
    stream = WindowStream([store], feature)
    torch.manual_seed(0)
    values: dict[str, Any] = {"loss": "mse", "batch_size": 64, "learning_rate": 1e-3, "epochs": 4}
    recipe = WindowRecipe(**{**values, "n_shares": 1, "seed": 0, **changes})
    fin, parts = build_fin(FinConfig(feature, "paper")), stream.split(AT_RANDOM, 0)
    budget = Budget(None if seconds is None else seconds / 60)
    return WindowTrainer(fin, stream, parts, recipe, checkpoint, CPU, budget, watch)


class Killed(Exception):
    """Stands for a kill between two steps."""


class KillingWatch(Watch):
    """Kills at that step, over all bars."""

    def __init__(self, at: int) -> None:
        self.left = at

    def note(self, text: str) -> None:
        """Nothing."""

    def bar(self, total: int | None, unit: str, what: str = "") -> KillingBar:
        return KillingBar(self)


class KillingBar(Bar):
    def __init__(self, watch: KillingWatch) -> None:
        self.watch = watch

    def update(self, n: int = 1) -> None:
        self.watch.left -= n > 0
        if n and self.watch.left == 0:
            raise Killed

    def describe(self, text: str) -> None:
        """Nothing."""

    def __exit__(self, *error: object) -> None:
        """Nothing."""


def test_an_epoch_sees_every_training_window_once(small_store: Path, other_store: Path) -> None:
    stream = WindowStream([small_store, other_store], "mfcc")
    references = [*stream.all_utterances(0), *stream.all_utterances(1)]
    expected = set()
    for path in (small_store, other_store):
        with Store(path) as store:
            windows, labels = store.windows(0, store.n_windows), store.labels("mfcc", 0, store.n_windows)
            expected |= {(w.tobytes(), label.tobytes()) for w, label in zip(windows, labels, strict=True)}
    for n_shares in (1, 3):
        seen = []
        for epoch in range(n_shares, 2 * n_shares):
            for block in stream.blocks(stream.group(epoch_order(references, epoch, n_shares, seed=5))):
                windows, labels = block.batch(np.random.default_rng(0).permutation(len(block)), CPU)
                seen += [
                    (w.tobytes(), label.tobytes())
                    for w, label in zip(windows.numpy(), labels.numpy(), strict=True)
                ]
        assert len(seen) == stream.count_windows(references)
        assert set(seen) == expected
    assert epoch_order(references, 0, 1, 5) != epoch_order(references, 1, 1, 5)


@pytest.mark.parametrize("at", [1, 9, 23, 30])
def test_a_killed_run_goes_on_to_the_same_numbers(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr("fins.learning.windows.BLOCK", 300)  # several blocks an epoch
    monkeypatch.setattr("fins.learning.trainer.SAVE_EVERY", 0.0)  # a checkpoint after each
    whole = make_trainer(small_store, tmp_path / "whole.safetensors", n_shares=2)
    expected = whole.run()

    killed = make_trainer(small_store, tmp_path / "killed.safetensors", n_shares=2, watch=KillingWatch(at))
    with pytest.raises(Killed):
        killed.run()
    resumed = make_trainer(small_store, tmp_path / "killed.safetensors", n_shares=2)
    state = resumed.run()
    assert [(e.train_loss, e.validation_loss, e.learning_rate) for e in state.history] == [
        (e.train_loss, e.validation_loss, e.learning_rate) for e in expected.history
    ]
    assert state.windows_seen == expected.windows_seen
    for name, tensor in whole.fin.state_dict().items():
        torch.testing.assert_close(resumed.fin.state_dict()[name], tensor, rtol=0, atol=0)


def test_it_learns_and_keeps_the_best_weights(small_store: Path, tmp_path: Path) -> None:
    fit = make_trainer(small_store, tmp_path / "c.safetensors", epochs=15)
    state = fit.run()
    losses = [epoch.validation_loss for epoch in state.history]
    assert state.best_epoch == int(np.argmin(losses)) < len(losses) - 1
    assert state.history[-1].train_loss < 0.3 * state.history[0].train_loss
    kept = score(fit.fin, fit.stream, fit.parts["validation"], CPU).result().uniform
    assert kept == pytest.approx(state.history[state.best_epoch].validation_r2, abs=1e-6)


def test_the_rate_falls_after_two_epochs_without_progress_and_training_ends_after_eight(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 0.9, *[0.95] * 20])
    fit = make_trainer(small_store, tmp_path / "c.safetensors", epochs=100)
    monkeypatch.setattr(fit, "_validate", lambda: (next(losses), 0.0))
    state = fit.run()
    rates = [epoch.learning_rate / 1e-3 for epoch in state.history]
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.4, 0.4, 0.16, 0.16, 0.064, 0.064])
    assert (state.stopped, state.best_epoch, state.epoch) == ("converged", 1, 10)


def test_a_spent_budget_ends_well_and_more_of_it_goes_on(small_store: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    state = make_trainer(small_store, checkpoint, epochs=10_000, seconds=0.1).run()
    assert state.stopped == "minutes" and state.history
    same = make_trainer(small_store, checkpoint, epochs=10_000, seconds=0.1).run()
    assert same.history == state.history  # killed before its result was written: nothing is trained twice
    more = make_trainer(small_store, checkpoint, epochs=state.epoch + 2).run()
    assert more.stopped == "epochs" and len(more.history) == len(state.history) + 2


def test_a_loss_that_is_no_number_is_an_error(small_store: Path, tmp_path: Path) -> None:
    fit = make_trainer(small_store, tmp_path / "c.safetensors", feature="zcr", learning_rate=1e30)
    with pytest.raises(ValueError, match="training diverged"):
        fit.run()


def test_epochs_are_never_empty_and_validation_never_tiny(small_store: Path, tmp_path: Path) -> None:
    config = FinRunConfig(
        "rms", "paper", store=(small_store,), epoch_windows=1, epochs=60, out=tmp_path / "run"
    )
    train_fin(config)
    with (tmp_path / "run" / "history.csv").open() as file:
        seen = [int(row["windows_seen"]) for row in csv.DictReader(file)]
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))
    references = list(range(100))
    assert len(validation_share(references, 1_000)) >= 16  # type: ignore[arg-type]
    assert len(validation_share(references, 2)) == 50  # type: ignore[arg-type]
    assert len(validation_share(references[:5], 9)) == 5  # type: ignore[arg-type]


def test_overlapping_stores_share_nothing_between_parts(tmp_path: Path) -> None:
    recordings = make_recordings(96, n_speakers=6)
    paths = [tmp_path / "first.h5", tmp_path / "second.h5"]
    write_store(paths[0], recordings[:64])
    write_store(paths[1], recordings[32:])
    stream = WindowStream(paths, "rms")
    for protocol, column in (("random", "sha256"), ("speaker", "speaker")):
        for seed in range(5):
            parts = stream.split(Division(protocol=protocol), seed)
            values = [
                {stream.stores[number].utterances[column][row] for number, row in references}
                for references in parts.values()
            ]
            assert all(values) and sum(map(len, values)) == len(set.union(*values))


def test_what_training_sees_can_not_be_tested_on(
    small_store: Path, other_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="given twice"):
        train_fin(FinRunConfig("rms", "paper", store=(small_store, small_store), out=tmp_path / "run"))
    with pytest.raises(ValueError, match="given twice"):
        train_fin(
            FinRunConfig(
                "rms", "paper", store=(small_store,), test_store=(small_store,), out=tmp_path / "run"
            )
        )
    some = tmp_path / "some.h5"
    write_store(some, [*make_recordings(3), *make_recordings(3, corpus="other")])
    with pytest.raises(ValueError, match=r"3 recordings of the test store .* are in the training stores too"):
        train_fin(
            FinRunConfig("rms", "paper", store=(small_store,), test_store=(some,), out=tmp_path / "run")
        )


def test_a_command_that_fails_spoils_neither_its_folder_nor_a_result(
    small_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    write_store(tmp_path / "two.h5", make_recordings(32, n_speakers=2))
    with pytest.raises(ValueError, match="needs a corpus of 3 speakers"):
        train_fin(FinRunConfig("rms", "paper", store=(tmp_path / "two.h5",), protocol="speaker", out=out))
    train_fin(FinRunConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))
    result = (out / "result.json").read_text()
    with pytest.raises(ValueError, match="too few"):
        train_fin(FinRunConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, minutes=1e-6, out=out))
    assert (out / "result.json").read_text() == result
    (out / "config.json").write_text('{"config": null}')
    with pytest.raises(ValueError, match="no configuration of a run"):
        train_fin(FinRunConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))
    with locked(out), pytest.raises(ValueError, match="another process is at work"):
        train_fin(FinRunConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))


def test_a_checkpoint_that_is_none_is_refused(small_store: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    save_tensors(checkpoint, build_fin(FinConfig("rms", "paper")).state_dict(), {"feature": "rms"})
    with pytest.raises(ValueError, match="no whole state of this run"):
        make_trainer(small_store, checkpoint)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no whole state of this run"):
        make_trainer(small_store, checkpoint)


def test_silence_and_constant_labels_train_without_nan(tmp_path: Path) -> None:
    silence = np.zeros(2 * WINDOW, np.int16)
    write_store(tmp_path / "silent.h5", [replace(made, signal=silence) for made in make_recordings(24)])
    for feature in STORED:
        fit = make_trainer(tmp_path / "silent.h5", tmp_path / f"{feature}.safetensors", feature, epochs=1)
        fit.run()
        assert all(parameter.isfinite().all() for parameter in fit.fin.parameters())


@pytest.fixture(scope="module")
def run_folder(small_store: Path, other_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rms"
    train_fin(
        FinRunConfig("rms", "paper", store=(small_store,), test_store=(other_store,), epochs=6, out=folder)
    )
    return folder


def test_the_run_folder_holds_what_is_promised(
    run_folder: Path, small_store: Path, other_store: Path
) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert names == {
        *("config.json", "result.json", "history.csv", "README.md", "digests.json"),
        *("weights.safetensors", "checkpoint.safetensors"),
        *("learning_curve.png", "true_against_imitated.png", "r2_per_output.png"),
    }
    result = json.loads((run_folder / "result.json").read_text())
    contract = {"feature", "topology", "parameters", "multiply_adds_per_window", "seconds", "seed", "r2"}
    assert contract <= result.keys()
    rows = {(row["corpus"], row["part"]): row for row in result["r2"]}
    assert set(rows) == {
        *(("made", part) for part in ("train", "validation", "test")),
        *(("all", part) for part in ("train", "validation", "test")),
        ("other", "all"),
    }
    row_keys = {"store", "corpus", "part", "n_windows", "uniform", "variance_weighted", "constant_outputs"}
    assert all(row.keys() == {*row_keys, "per_output"} for row in rows.values())

    fin = load_fin(run_folder)
    with Store(other_store) as store:
        truth, windows = store.labels("rms", 0, store.n_windows), store.windows(0, store.n_windows)
    with torch.no_grad():
        error = np.square(fin(torch.from_numpy(windows)).numpy() - truth).sum()
    r2 = 1 - error / np.square(truth - truth.mean()).sum()
    assert rows[("other", "all")]["uniform"] == pytest.approx(r2, abs=1e-5)
    assert rows[("other", "all")]["n_windows"] == len(truth)

    config = json.loads((run_folder / "config.json").read_text())
    assert config["config"]["seed"] == 0 and "torch" in config["versions"]
    with (run_folder / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


def test_the_same_command_again_changes_nothing_and_another_is_refused(
    run_folder: Path, small_store: Path, other_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_folder.iterdir()}
    config = FinRunConfig(
        "rms", "paper", store=(small_store,), test_store=(other_store,), epochs=6, out=run_folder
    )
    train_fin(config, TqdmWatch())
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run_folder.iterdir()} == before
    with pytest.raises(ValueError, match="seed 0 there, 1 here"):
        train_fin(
            FinRunConfig(
                "rms", "paper", store=(small_store,), seed=1, test_store=(other_store,), out=run_folder
            )
        )


def test_the_same_seed_gives_the_same_weights(run_folder: Path, small_store: Path, tmp_path: Path) -> None:
    train_fin(FinRunConfig("rms", "paper", store=(small_store,), epochs=6, out=tmp_path / "again"))
    first, again = load_fin(run_folder).state_dict(), load_fin(tmp_path / "again").state_dict()
    for name in first:
        torch.testing.assert_close(first[name], again[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "feature", ["chroma", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mfcc", "mel"))]
)
def test_the_large_stacks_run(tmp_path: Path, feature: str) -> None:
    write_store(tmp_path / "made.h5", make_recordings(24, n_speakers=3))
    config = FinRunConfig(
        feature,
        "paper",
        store=(tmp_path / "made.h5",),
        epochs=1,
        epoch_windows=100,
        protocol="speaker",
        out=tmp_path / "run",
    )
    train_fin(config)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["protocol"] == "speaker" and result["windows_seen"] >= 70
    assert len(result["r2"][0]["per_output"]) == FEATURES[feature].n_outputs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"store": ()}, "give --store"),
        ({"epochs": 0}, "at least 1"),
        ({"epoch_windows": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"minutes": float("inf")}, "above 0"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"minutes": -1.0}, "above 0"),
        ({"minutes": 1e-6}, "too few"),
    ],
)
def test_options_that_can_not_be_meant_are_refused(
    small_store: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        train_fin(
            FinRunConfig(
                **{
                    "feature": "rms",
                    "topology": "paper",
                    "store": (small_store,),
                    "out": tmp_path / "run",
                    **changes,
                }
            )
        )


def test_the_report_sets_runs_beside_the_published_figures(run_folder: Path, tmp_path: Path) -> None:
    printed = report_fins(FinReportConfig((run_folder,), out=tmp_path))
    result = json.loads((run_folder / "result.json").read_text())
    pooled = next(row for row in result["r2"] if (row["corpus"], row["part"]) == ("all", "test"))
    assert f"{pooled['uniform']:.4f}" in printed and "*rms, published* | 66,241 | | | 0.985" in printed
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["runs"][0]["r2"] == result["r2"] and content["published"]["rms"]["esd_uniform"] == 0.968
    assert (tmp_path / "report.png").stat().st_size > 5_000 and (tmp_path / "report.md").exists()
    page = (tmp_path / "index.html").read_text()
    assert "rms, published" in page and page.count("data:image/png") == 4


def test_two_stores_of_one_corpus_are_told_apart(small_store: Path, tmp_path: Path) -> None:
    recordings = make_recordings(20, corpus="csv")
    write_store(tmp_path / "a.h5", recordings[:10])
    write_store(tmp_path / "b.h5", recordings[10:])
    stores = (tmp_path / "a.h5", tmp_path / "b.h5")
    config = FinRunConfig(
        "rms", "paper", store=(small_store,), test_store=stores, epochs=1, out=tmp_path / "run"
    )
    described = describe_scores(train_fin(config).r2)
    reported = report_fins(FinReportConfig((tmp_path / "run",), out=tmp_path / "report"))
    for name in ("csv (a), all", "csv (b), all"):
        assert described.count(name) == reported.count(name) == 1


def test_the_report_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        report_fins(FinReportConfig((), utterances=0))
    with pytest.raises(ValueError, match="is missing"):
        report_fins(FinReportConfig((tmp_path,), out=tmp_path))
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no result of fins\.train"):
        report_fins(FinReportConfig((tmp_path,), out=tmp_path))
    keys = ("parameters", "multiply_adds_per_window", "seconds", "seed")
    bare = {"feature": "rms", "topology": "paper", **dict.fromkeys(keys, 1), "r2": []}
    (tmp_path / "result.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="no R² of held-out windows"):
        report_fins(FinReportConfig((tmp_path,), out=tmp_path))
    (tmp_path / "result.json").write_text("{half")
    with pytest.raises(ValueError, match="no JSON"):
        report_fins(FinReportConfig((tmp_path,), out=tmp_path))


def test_imitations_come_in_the_order_of_the_windows(small_store: Path) -> None:
    stream = WindowStream([small_store], "zcr")
    references = stream.all_utterances(0)[3:9]
    truth = torch.cat(
        [truth for _, truth in imitate(build_fin(FinConfig("zcr", "paper")), stream, references, CPU)]
    )
    with Store(small_store) as store:
        expected = np.concatenate([store.labels("zcr", *slice_of(store, row)) for _, row in references])
    np.testing.assert_array_equal(truth.numpy(), expected)


def slice_of(store: Store, row: int) -> tuple[int, int]:
    windows = store.window_slice(row)
    return windows.start, windows.stop


def test_what_a_run_leaves_can_be_read_by_whom_its_other_files_can(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(2)}, {})
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_kill_while_a_run_begins_leaves_no_result_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, content: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "result.json").write_text("{}")
    monkeypatch.setattr(runs, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.start_run(tmp_path, {"minutes": 2})
    assert not (tmp_path / "result.json").exists()


def test_a_split_of_another_seed_leaves_the_weights_as_they_were_drawn(
    small_store: Path, tmp_path: Path
) -> None:
    stream = WindowStream([small_store], "rms")
    parts = [stream.split(Division(protocol="random", split_seed=seed), 0)["test"] for seed in (None, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    config = FinRunConfig("rms", "paper", store=(small_store,), epochs=1, split_seed=1, out=tmp_path / "run")
    assert config.division.split_seed == 1
    result = train_fin(config)
    assert (result.seed, result.split_seed) == (0, 1)
    with pytest.raises(ValueError, match="split_seed 1 there, None here"):
        train_fin(replace(config, split_seed=None))
    with pytest.raises(ValueError, match="--split-seed is at least 0"):
        replace(config, split_seed=-1)
    with pytest.raises(ValueError, match="--test-store"):
        replace(config, protocol="corpus")


def test_a_run_of_version_0_1_is_read_and_goes_on(
    run_folder: Path, small_store: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run_folder, old)
    content = json.loads((old / "config.json").read_text())
    assert content.pop("format") == 2 and content["config"].pop("split_seed") is None
    (old / "config.json").write_text(json.dumps(content))
    result = json.loads((old / "result.json").read_text())
    assert result.pop("split_seed") == 0
    (old / "result.json").write_text(json.dumps(result))
    tensors, header = load_tensors(old / "checkpoint.safetensors")
    header["buffer"] = header.pop("block")
    save_tensors(old / "checkpoint.safetensors", tensors, header)

    stores = [Path(path) for path in content["config"]["test_store"]]
    config = FinRunConfig("rms", "paper", store=(small_store,), test_store=tuple(stores), epochs=6, out=old)
    assert train_fin(config).r2 == result["r2"]  # it is finished
    more = train_fin(replace(config, epochs=7))
    assert more.epochs == 7
    text = report_fins(FinReportConfig((old,), out=tmp_path / "report"))
    assert "rms, published" in text and fins.load(old).config.feature == "rms"


def test_the_report_passes_over_what_is_no_run_of_its_own(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, empty, file = tmp_path / "classifier", tmp_path / "empty", tmp_path / "notes.txt"
    for folder in (classifier, empty):
        folder.mkdir()
    (classifier / "result.json").write_text('{"model": "fin", "uar": 0.5}')
    file.touch()
    (result,) = read_results([classifier, run_folder, empty, file], TqdmWatch())
    assert result["run"] == str(run_folder)
    assert capsys.readouterr().out == "passed over 3 of 4, which hold no result of fins.train\n"
    with pytest.raises(ValueError, match=r"none of these 2 is a finished run of fins\.train"):
        read_results([classifier, file])
    with pytest.raises(ValueError, match=r"nowhere.*is missing"):
        read_results([run_folder, tmp_path / "nowhere"])


def test_a_budget_ends_training_when_what_follows_just_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("fins.learning.budget.time.monotonic", lambda: now[0])
    budget = Budget(2.0, started=90.0, n_afterwards=1_000, closing=5.0)
    assert budget.left() == 120 - 10 - 5  # nothing was measured yet
    budget.scored(200, 10.0)  # 50 s for all, a tenth more to be sure
    assert budget.left() == pytest.approx(120 - 10 - 5 - 55)
    budget.scored(2_000, 20.0)  # it is faster once it is warm: the latest counts
    assert budget.left() == pytest.approx(120 - 10 - 5 - 11)
    budget.spent_before = 30.0
    now[0] = 130.0
    assert budget.left() == pytest.approx(120 - 40 - 5 - 11 - 30)
    assert Budget(None).left() == np.inf


def test_only_a_budget_that_can_not_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("fins.learning.budget.time.monotonic", lambda: now[0])
    with pytest.raises(ValueError, match=r"0\.01 minutes are too few: writing and drawing"):
        Budget(0.01).check()
    tight = Budget(1.0, n_afterwards=1_000)
    tight.scored(10, 0.9)  # 90 s of scoring in a minute: it may yet be faster
    tight.check()
    assert tight.left() == 2  # trained for a moment, and the end comes later
    now[0] = 3.0
    assert tight.left() < 0
    tight.scored(10, 1.3)
    with pytest.raises(ValueError, match=r"too few: scoring 1,000 windows alone takes about 2\.2"):
        tight.check()


def test_a_budget_of_seconds_trains_and_is_kept(small_store: Path, other_store: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    stores = {"store": (small_store,), "test_store": (other_store,)}
    options = {"minutes": 0.1, "epochs": 100_000, "learning_rate": 1e-6}  # so slow that it never converges
    config = FinRunConfig("rms", "paper", **stores, **options, out=tmp_path / "run")
    result = train_fin(config)
    assert result.stopped == "minutes" and result.epochs > 1 and len(result.r2) == 7
    assert time.monotonic() - started < 6 + 10  # on a busy machine


def test_a_refused_budget_leaves_no_folder(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fins.learning.run.measure_scoring", lambda *_: (1, 3600.0))
    config = FinRunConfig("rms", "paper", store=(small_store,), minutes=1, out=tmp_path / "runs" / "rms")
    with pytest.raises(ValueError, match="too few: scoring"):
        train_fin(config)
    assert list(tmp_path.iterdir()) == []


def test_a_page_names_the_command_that_makes_it_again(run_folder: Path, small_store: Path) -> None:
    text = (run_folder / "README.md").read_text()
    (line,) = (line.strip() for line in text.splitlines() if "python -m" in line)
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "fins.train"]
    config = read_options(FinRunConfig, arguments=words[3:])
    assert (config.feature, config.topology, config.epochs) == ("rms", "paper", 6)
    assert config.store == (small_store,) and config.folder == run_folder
