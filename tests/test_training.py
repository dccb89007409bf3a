"""Streams against plain slices of the store; training that resumes to the same numbers; the run's folder."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_recordings

from fins import runs
from fins.audio import WINDOW
from fins.checkpoints import load_fin, save_tensors
from fins.features import FEATURES
from fins.networks import build_fin
from fins.report import ReportConfig
from fins.report import main as report
from fins.runs import held
from fins.store import Store, write_store
from fins.streams import WindowStream, epoch_order
from fins.train import TrainConfig
from fins.train import main as train
from fins.training import Fit, FitOptions, FitState, imitate, score, validation_share

CPU = torch.device("cpu")


def options(**changes: Any) -> FitOptions:
    values: dict[str, Any] = {"loss": "mse", "batch_size": 64, "learning_rate": 1e-3, "epochs": 4}
    return FitOptions(**{**values, "n_shares": 1, "seed": 0, **changes})


def make_fit(store: Path, checkpoint: Path, feature: str = "rms", **changes: Any) -> Fit:
    stream = WindowStream([store], feature)
    torch.manual_seed(0)
    return Fit(
        build_fin(feature, "paper"), stream, stream.split("random", 0), options(**changes), checkpoint, CPU
    )


def ignore(state: FitState, n_windows: int) -> None:
    """No progress to show."""


class Killed(Exception):
    """Stands for a kill between two steps."""


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
            for buffer in stream.buffers(stream.group(epoch_order(references, epoch, n_shares, seed=5))):
                windows, labels = buffer.batch(np.random.default_rng(0).permutation(len(buffer)), CPU)
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
    monkeypatch.setattr("fins.streams.BUFFER", 300)  # several buffers an epoch
    monkeypatch.setattr("fins.training.SAVE_EVERY", 0.0)  # a checkpoint after each
    whole = make_fit(small_store, tmp_path / "whole.safetensors", n_shares=2)
    expected = whole.run(ignore)

    steps = 0

    def kill(state: FitState, n_windows: int) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            raise Killed

    killed = make_fit(small_store, tmp_path / "killed.safetensors", n_shares=2)
    with pytest.raises(Killed):
        killed.run(kill)
    resumed = make_fit(small_store, tmp_path / "killed.safetensors", n_shares=2)
    state = resumed.run(ignore)
    assert [(e.train_loss, e.validation_loss, e.learning_rate) for e in state.history] == [
        (e.train_loss, e.validation_loss, e.learning_rate) for e in expected.history
    ]
    assert state.windows_seen == expected.windows_seen
    for name, tensor in whole.fin.state_dict().items():
        torch.testing.assert_close(resumed.fin.state_dict()[name], tensor, rtol=0, atol=0)


def test_it_learns_and_keeps_the_best_weights(small_store: Path, tmp_path: Path) -> None:
    fit = make_fit(small_store, tmp_path / "c.safetensors", epochs=15)
    state = fit.run(ignore)
    losses = [epoch.validation_loss for epoch in state.history]
    assert state.best_epoch == int(np.argmin(losses)) < len(losses) - 1
    assert state.history[-1].train_loss < 0.3 * state.history[0].train_loss
    kept = score(fit.fin, fit.stream, fit.parts["validation"], CPU).result().uniform
    assert kept == pytest.approx(state.history[state.best_epoch].validation_r2, abs=1e-6)


def test_the_rate_falls_after_two_epochs_without_progress_and_training_ends_after_eight(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 0.9, *[0.95] * 20])
    fit = make_fit(small_store, tmp_path / "c.safetensors", epochs=100)
    monkeypatch.setattr(fit, "_validate", lambda: (next(losses), 0.0))
    state = fit.run(ignore)
    rates = [epoch.learning_rate / 1e-3 for epoch in state.history]
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.4, 0.4, 0.16, 0.16, 0.064, 0.064])
    assert (state.stopped, state.best_epoch, state.epoch) == ("converged", 1, 10)


def test_a_spent_budget_ends_well_and_more_of_it_goes_on(small_store: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    state = make_fit(small_store, checkpoint, epochs=10_000, seconds=0.1).run(ignore)
    assert state.stopped == "minutes" and state.history
    same = make_fit(small_store, checkpoint, epochs=10_000, seconds=0.1).run(ignore)
    assert same.history == state.history  # killed before its result was written: nothing is trained twice
    more = make_fit(small_store, checkpoint, epochs=state.epoch + 2).run(ignore)
    assert more.stopped == "epochs" and len(more.history) == len(state.history) + 2


def test_a_loss_that_is_no_number_is_an_error(small_store: Path, tmp_path: Path) -> None:
    fit = make_fit(small_store, tmp_path / "c.safetensors", feature="zcr", learning_rate=1e30)
    with pytest.raises(ValueError, match="training diverged"):
        fit.run(ignore)


def test_epochs_are_never_empty_and_validation_never_tiny(small_store: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        "rms", "paper", store=(small_store,), epoch_windows=1, epochs=60, out=tmp_path / "run"
    )
    train(config)
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
            parts = stream.split(protocol, seed)  # type: ignore[arg-type]
            values = [
                {stream.stores[number].utterances[column][row] for number, row in references}
                for references in parts.values()
            ]
            assert all(values) and sum(map(len, values)) == len(set.union(*values))


def test_what_training_sees_can_not_be_tested_on(
    small_store: Path, other_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="given twice"):
        train(TrainConfig("rms", "paper", store=(small_store, small_store), out=tmp_path / "run"))
    with pytest.raises(ValueError, match="given twice"):
        train(
            TrainConfig("rms", "paper", store=(small_store,), test_store=(small_store,), out=tmp_path / "run")
        )
    some = tmp_path / "some.h5"
    write_store(some, [*make_recordings(3), *make_recordings(3, corpus="other")])
    with pytest.raises(ValueError, match=r"3 recordings of the test store .* are in the training stores too"):
        train(TrainConfig("rms", "paper", store=(small_store,), test_store=(some,), out=tmp_path / "run"))


def test_a_command_that_fails_spoils_neither_its_folder_nor_a_result(
    small_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    write_store(tmp_path / "two.h5", make_recordings(32, n_speakers=2))
    with pytest.raises(ValueError, match="needs a corpus of 3 speakers"):
        train(TrainConfig("rms", "paper", store=(tmp_path / "two.h5",), protocol="speaker", out=out))
    train(TrainConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))
    result = (out / "result.json").read_text()
    with pytest.raises(ValueError, match="too few"):
        train(TrainConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, minutes=1e-6, out=out))
    assert (out / "result.json").read_text() == result
    (out / "config.json").write_text('{"config": null}')
    with pytest.raises(ValueError, match="no configuration of a run"):
        train(TrainConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))
    with held(out), pytest.raises(ValueError, match="another process is at work"):
        train(TrainConfig("rms", "paper", store=(tmp_path / "two.h5",), epochs=2, out=out))


def test_a_checkpoint_that_is_none_is_refused(small_store: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    save_tensors(checkpoint, build_fin("rms", "paper").state_dict(), {"feature": "rms"})
    with pytest.raises(ValueError, match="no whole state of this run"):
        make_fit(small_store, checkpoint)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no whole state of this run"):
        make_fit(small_store, checkpoint)


def test_silence_and_constant_labels_train_without_nan(tmp_path: Path) -> None:
    silence = np.zeros(2 * WINDOW, np.int16)
    write_store(tmp_path / "silent.h5", [replace(made, signal=silence) for made in make_recordings(24)])
    for feature in FEATURES:
        fit = make_fit(tmp_path / "silent.h5", tmp_path / f"{feature}.safetensors", feature, epochs=1)
        fit.run(ignore)
        assert all(parameter.isfinite().all() for parameter in fit.fin.parameters())


@pytest.fixture(scope="module")
def run_folder(small_store: Path, other_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rms"
    train(TrainConfig("rms", "paper", store=(small_store,), test_store=(other_store,), epochs=6, out=folder))
    return folder


def test_the_run_folder_holds_what_is_promised(
    run_folder: Path, small_store: Path, other_store: Path
) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert names == {
        *("config.json", "result.json", "history.csv", "README.md"),
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
    config = TrainConfig(
        "rms", "paper", store=(small_store,), test_store=(other_store,), epochs=6, out=run_folder
    )
    train(config)
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run_folder.iterdir()} == before
    with pytest.raises(ValueError, match="seed 0 there, 1 here"):
        train(
            TrainConfig(
                "rms", "paper", store=(small_store,), seed=1, test_store=(other_store,), out=run_folder
            )
        )


def test_the_same_seed_gives_the_same_weights(run_folder: Path, small_store: Path, tmp_path: Path) -> None:
    train(TrainConfig("rms", "paper", store=(small_store,), epochs=6, out=tmp_path / "again"))
    first, again = load_fin(run_folder).state_dict(), load_fin(tmp_path / "again").state_dict()
    for name in first:
        torch.testing.assert_close(first[name], again[name], rtol=0, atol=0)


@pytest.mark.parametrize("feature", ["chroma", "mfcc", "mel"])
def test_the_large_stacks_run(tmp_path: Path, feature: str) -> None:
    write_store(tmp_path / "made.h5", make_recordings(24, n_speakers=3))
    config = TrainConfig(
        feature,
        "paper",
        store=(tmp_path / "made.h5",),
        epochs=1,
        epoch_windows=100,
        protocol="speaker",
        out=tmp_path / "run",
    )
    train(config)
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
        train(
            TrainConfig(
                **{
                    "feature": "rms",
                    "topology": "paper",
                    "store": (small_store,),
                    "out": tmp_path / "run",
                    **changes,
                }
            )
        )


def test_the_report_sets_runs_beside_the_published_figures(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(ReportConfig((run_folder,), out=tmp_path))
    printed = capsys.readouterr().out
    result = json.loads((run_folder / "result.json").read_text())
    pooled = next(row for row in result["r2"] if (row["corpus"], row["part"]) == ("all", "test"))
    assert f"{pooled['uniform']:.4f}" in printed and "*rms, published* | 66,241 | | | 0.985" in printed
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["runs"][0]["r2"] == result["r2"] and content["published"]["rms"]["esd_uniform"] == 0.968
    assert (tmp_path / "report.png").stat().st_size > 5_000 and (tmp_path / "report.md").exists()


def test_two_stores_of_one_corpus_are_told_apart(
    small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = make_recordings(20, corpus="csv")
    write_store(tmp_path / "a.h5", recordings[:10])
    write_store(tmp_path / "b.h5", recordings[10:])
    stores = (tmp_path / "a.h5", tmp_path / "b.h5")
    train(
        TrainConfig("rms", "paper", store=(small_store,), test_store=stores, epochs=1, out=tmp_path / "run")
    )
    report(ReportConfig((tmp_path / "run",), out=tmp_path / "report"))
    printed = capsys.readouterr().out
    assert printed.count("csv (a), all") == printed.count("csv (b), all") == 2


def test_the_report_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        report(ReportConfig((), utterances=0))
    with pytest.raises(ValueError, match="is missing"):
        report(ReportConfig((tmp_path,), out=tmp_path))
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no result of fins\.train"):
        report(ReportConfig((tmp_path,), out=tmp_path))
    keys = ("parameters", "multiply_adds_per_window", "seconds", "seed")
    bare = {"feature": "rms", "topology": "paper", **dict.fromkeys(keys, 1), "r2": []}
    (tmp_path / "result.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="no R² of held-out windows"):
        report(ReportConfig((tmp_path,), out=tmp_path))
    (tmp_path / "result.json").write_text("{half")
    with pytest.raises(ValueError, match="no JSON"):
        report(ReportConfig((tmp_path,), out=tmp_path))


def test_imitations_come_in_the_order_of_the_windows(small_store: Path) -> None:
    stream = WindowStream([small_store], "zcr")
    references = stream.all_utterances(0)[3:9]
    truth = torch.cat([truth for _, truth in imitate(build_fin("zcr", "paper"), stream, references, CPU)])
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
        runs.begin_run(tmp_path, {"minutes": 2})
    assert not (tmp_path / "result.json").exists()
