"""What finetuning did to FINs: R² by scikit-learn on a store's own labels, moves known beforehand."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import r2_score

import fins
from fins.data.store import Store
from fins.features import compute_feature, get_feature
from fins.networks import FinConfig, StridedFin
from fins.tensors import load_tensors, save_tensors
from ser_heads.evaluation.drift import DriftOptions, in_unit, largest_move, moved, picture_name, report_drift
from ser_heads.evaluation.plots import plot_moved
from ser_heads.experiments.config import configure
from ser_heads.experiments.run import train_classifier


@pytest.fixture(scope="module")
def tuned(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a finetuned phase, on a store of own own that a test may take away."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copy(small_store, folder / "made.h5")
    options = {"frozen_epochs": 1, "finetuned_epochs": 1, "copies": 0, "fin_rate": 1e-2}
    stores = (folder / "made.h5",)
    train_classifier(configure("fin", fins=("rms", "chroma"), store=stores, out=folder / "run", **options))
    return folder / "run"


@pytest.fixture
def run(tuned: Path, tmp_path: Path) -> Path:
    """A copy whose weights after finetuning are those of before: a test changes what it wants."""
    shutil.copytree(tuned, tmp_path / "run")
    shutil.copy(tuned / "frozen.safetensors", tmp_path / "run" / "weights.safetensors")
    (tmp_path / "run" / "digests.json").unlink()  # else it is seen
    return tmp_path / "run"


def change(run: Path, name: str, by: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change one tensor of the weights after finetuning."""
    tensors, header = load_tensors(run / "weights.safetensors")
    save_tensors(run / "weights.safetensors", {**tensors, name: by(tensors[name])}, header)


def report_of(out: Path, *runs: Path, **options: object) -> list[dict]:
    report_drift(DriftOptions(runs, out=out, **options))  # type: ignore[arg-type]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((out / "report.json").read_text(), parse_constant=refuse)["runs"]


def store_of(run: Path) -> Path:
    """The store that a run was trained on."""
    return Path(json.loads((run / "config.json").read_text())["config"]["store"][0])


def part(run: Path, *names: str) -> list[str]:
    with (run / "split.csv").open() as file:
        return [row["utterance"] for row in csv.DictReader(file) if row["part"] in names]


def expected(path: Path, utterances: list[str], fin: torch.nn.Module, feature: str) -> list[float]:
    """R² of each output by scikit-learn, against the labels that the store holds."""
    with Store(path) as store:
        columns = store.utterances
        names = [f"{c}/{i}" for c, i in zip(columns["corpus"], columns["id"], strict=True)]
        slices = [store.window_slice(row) for row, name in enumerate(names) if name in utterances]
        truth = np.concatenate([store.labels(feature, windows.start, windows.stop) for windows in slices])
        windows = np.concatenate([store.windows(windows.start, windows.stop) for windows in slices])
    with torch.no_grad():
        imitation = fin(torch.from_numpy(windows)).numpy()
    assert truth.shape[1] == get_feature(feature).n_outputs
    return r2_score(truth.astype(float), imitation, multioutput="raw_values")


def test_r2_before_and_after_are_those_of_scikit_learn(run: Path, tmp_path: Path) -> None:
    change(run, "frontend.members.rms.weights", lambda weights: 0.81 * weights)
    change(run, "frontend.members.chroma.classes.weights", lambda weights: weights + 0.02)
    (row,) = report_of(tmp_path / "out", run)
    tensors, _ = load_tensors(run / "weights.safetensors")
    store, test = store_of(run), part(run, "test")
    for feature in ("rms", "chroma"):
        own = row["fins"][feature]
        fin = fins.load(feature)
        before = expected(store, test, fin, feature)
        np.testing.assert_allclose(own["r2_before"]["per_output"], before, atol=1e-6)
        prefix = f"frontend.members.{feature}."
        state = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        fin.load_state_dict(state)
        after = expected(store, test, fin, feature)
        np.testing.assert_allclose(own["r2_after"]["per_output"], after, atol=1e-6)
        np.testing.assert_allclose(own["r2_after"]["uniform"], after.mean(), atol=1e-6)
        assert before.min() > 0.999 and after.max() < 0.99
        assert own["n_windows"] == own["r2_before"]["n_windows"] == own["r2_after"]["n_windows"]


def test_fins_as_they_were_have_not_moved(run: Path, tmp_path: Path) -> None:
    (row,) = report_of(tmp_path / "out", run)
    for own in row["fins"].values():
        assert set(own["moved"].values()) == {0.0} and own["r2_before"] == own["r2_after"]
        assert own["drift"]["median"] == own["drift"]["p95"] == 0 < own["drift"]["rounding"]
        assert own["frozen"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert page.count("| – | 0 % | frozen |") == 2 and "kept the FINs of its frozen phase" in page


def test_a_scaled_parameter_moved_by_that_share(run: Path, tmp_path: Path) -> None:
    change(run, "frontend.members.chroma.spectrum.map", lambda weights: 1.1 * weights)
    (row,) = report_of(tmp_path / "out", run)
    shares = row["fins"]["chroma"]["moved"]
    assert shares.pop("spectrum.map") == pytest.approx(0.1, rel=1e-5)
    assert set(shares.values()) == {0.0} and set(row["fins"]["rms"]["moved"].values()) == {0.0}
    names = {"spectrum.window", "spectrum.kernels", "spectrum.factors", "classes.weights"}
    assert set(shares) == names  # with the map: all that chroma learns
    assert "| spectrum.map | 10 % |" in (tmp_path / "out" / "README.md").read_text()


def test_drift_is_in_the_unit_of_the_feature(run: Path, tmp_path: Path) -> None:
    change(run, "frontend.members.rms.weights", lambda weights: 4 * weights)  # twice the amplitude: 6.02 dB
    (row,) = report_of(tmp_path / "out", run)
    drift = row["fins"]["rms"]["drift"]
    assert drift["unit"] == "dB" and not row["fins"]["rms"]["frozen"] and row["fins"]["chroma"]["frozen"]
    assert drift["median"] == pytest.approx(20 * np.log10(2), rel=1e-4)
    assert 0 < drift["rounding"] < 0.1
    assert "| 6 (6) dB |" in (tmp_path / "out" / "README.md").read_text()


def test_units_that_a_person_knows() -> None:
    values, unit = in_unit(get_feature("zcr"), np.array([[0.1], [0.2]], np.float32))
    assert unit == "Hz" and values == pytest.approx(np.array([[1102.5], [2205]]))
    time = np.arange(2048) / 22_050
    windows = np.array([np.sin(2 * np.pi * f * time) for f in (150.0, 200.0)], np.float32)
    values, unit = in_unit(get_feature("pitch"), compute_feature(get_feature("pitch"), windows))
    assert unit == "semitones" and values[:, 0] == pytest.approx(12 * np.log2([1.5, 2.0]), abs=0.6)
    values, unit = in_unit(get_feature("mel"), np.array([[1e-3, 1e-20]], np.float32))
    assert unit == "dB" and values == pytest.approx(np.array([[-30, -100]]))
    assert in_unit(get_feature("chroma"), np.ones((1, 12), np.float32))[1] == "share of the largest"


def test_a_parameter_that_was_nothing_moved_by_no_share(tmp_path: Path) -> None:
    before, after = (StridedFin(FinConfig("own:two", n_outputs=2)) for _ in range(2))
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        before.first.bias.zero_()
        before.second.bias.zero_()
        after.second.bias.zero_()
    shares = moved(before, after)
    assert shares["first.bias"] is None and shares["second.bias"] == 0.0
    assert largest_move(shares | {"second.weight": 3.0}) == ("first.bias", "from 0")
    assert largest_move({"a": 0.02, "b": 25.4}) == ("b", "25 times")
    none = {"per_output": (None, -3.0)}
    plot_moved(tmp_path / "a.png", before, after, {"r2_before": none, "r2_after": none, "moved": shares}, "a")
    assert imread(tmp_path / "a.png").std() > 0.05


def test_pictures_show_each_fin_of_each_run(run: Path, tuned: Path, tmp_path: Path) -> None:
    change(run, "frontend.members.rms.weights", lambda weights: 1.1 * weights)
    other = shutil.copytree(tuned, tmp_path / "other")
    rows = report_of(tmp_path / "out", run, other, run)  # the third one is the first
    assert [Path(row["run"]).name for row in rows] == ["run", "other"]
    pictures = {path.name: path for path in (tmp_path / "out").glob("*.png")}
    assert set(pictures) == {"rms.png", "chroma.png", "other-rms.png", "other-chroma.png"}
    page = (tmp_path / "out" / "README.md").read_text()
    coloured = {}
    for name, path in pictures.items():
        image = imread(path)[..., :3]
        height, width = image.shape[:2]
        for rows_of in (image[: height // 2], image[height // 2 :]):
            for quarter in (rows_of[:, : width // 2], rows_of[:, width // 2 :]):
                assert quarter.std() > 0.05
        coloured[name] = (np.ptp(image[:, 2 * width // 3 :], axis=2) > 0.3).mean()
        assert f"]({name})" in page
    assert coloured["rms.png"] > coloured["chroma.png"] + 0.001  # blue, what moved: more than axes have
    assert picture_name(1, Path("a/run"), "my.own:form", ["run-my.own_form.png"]) == "run-my.own_form-2.png"


def test_a_store_is_scored_but_for_what_the_run_learned_from(
    run: Path, other_store: Path, tmp_path: Path
) -> None:
    own, test = store_of(run), part(run, "test")
    # the same recordings under another name are told by their checksums
    (run / "split.csv").write_text((run / "split.csv").read_text().replace("made/made", "made/renamed"))
    (row,) = report_of(tmp_path / "own", run, store=(own,))
    with Store(own) as store:
        names = [f"made/{name}" for name in store.utterances["id"]]
        counts = dict(zip(names, store.utterances["n_windows"].tolist(), strict=True))
    assert row["fins"]["rms"]["n_windows"] == sum(counts[name] for name in test)
    (row,) = report_of(tmp_path / "out", run, store=(other_store,))
    with Store(other_store) as store:
        assert row["fins"]["rms"]["n_windows"] == store.n_windows
    (row,) = report_of(tmp_path / "few", run, store=(other_store,), utterances=3)
    with Store(other_store) as store:  # evenly spread
        of_each = store.utterances["n_windows"]
        assert row["fins"]["rms"]["n_windows"] == of_each[0] + of_each[8] + of_each[15]


def test_errors_are_sentences_that_say_what_to_do(run: Path, small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"result.json is missing: is the run finished\?"):
        report_drift(DriftOptions((tmp_path,)))
    with pytest.raises(ValueError, match="give the folder of a run"):
        report_drift(DriftOptions(()))
    with pytest.raises(ValueError, match="--utterances is at least 1"):
        report_drift(DriftOptions((run,), utterances=0))
    with pytest.raises(ValueError, match="choose another --out"):
        report_drift(DriftOptions((run,), out=run))
    known = json.loads((run / "config.json").read_text())
    known["config"]["store"] = [str(tmp_path / "gone.h5")]
    (run / "config.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match=r"the stores of .*run aren't there any more: give --store"):
        report_drift(DriftOptions((run,)))
    text = (run / "split.csv").read_text()
    known["config"]["store"] = [str(small_store)]
    (run / "config.json").write_text(json.dumps(known))
    (run / "split.csv").write_text(f"{text}made/999,made/s9,sad,sha-x,test\n")
    with pytest.raises(ValueError, match="what was trained on isn't known"):
        report_drift(DriftOptions((run,)))
    (run / "split.csv").write_text(text.replace(",test", ",validation"))
    parts = json.loads((run / "result.json").read_text())
    parts["parts"]["validation"]["n_utterances"] += parts["parts"]["test"]["n_utterances"]
    parts["parts"]["test"]["n_utterances"] = 0
    (run / "result.json").write_text(json.dumps(parts))
    with pytest.raises(ValueError, match="learned from every utterance of the stores"):
        report_drift(DriftOptions((run,), store=(small_store,)))
    (run / "frozen.safetensors").unlink()
    finetuned_none = "run finetuned no FINs: train it with --finetuned-epochs above 0 and FINs"
    with pytest.raises(ValueError, match=finetuned_none):
        report_drift(DriftOptions((run,)))
    assert not (run / "report").exists()
