"""Inner folds: the length is chosen among training speakers alone, then all of them train for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_recordings
from safetensors.torch import load_file

from fins.data.store import write_store
from fins.progress import SILENT, Watch
from fins.runs import read_config
from fins.tables import read_table
from ser_heads.experiments import configure
from ser_heads.experiments.run import train_classifier

pytestmark = pytest.mark.usefixtures("runs_here", "no_pictures_at_all")


def run_with(store: Path, out: Path, watch: Watch = SILENT, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "store": (store,),
        "out": out,
        "frozen_epochs": 3,
        "copies": 0,
        "inner_folds": 3,
        **changes,
    }
    return train_classifier(configure("feature_cnn", **values), watch).result


def speakers_by_part(out: Path) -> dict[str, set[str]]:
    split = read_table(out / "split.csv")
    return {part: set(rows["speaker"]) for part, rows in split.groupby("part")}


@pytest.fixture(scope="module")
def eight_speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 utterances."""
    path = tmp_path_factory.mktemp("stores") / "eight.h5"
    write_store(path, make_recordings(64, n_speakers=8))
    return path


@pytest.fixture(scope="module")
def chosen(eight_speakers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("inner") / "out"
    return out, run_with(eight_speakers, out)


def test_each_training_speaker_validates_once_and_no_test_speaker_takes_part(
    chosen: tuple[Path, dict[str, Any]],
) -> None:
    out, result = chosen
    validating = [speaker for row in result["inner_folds"] for speaker in row["validation_speakers"]]
    parts = speakers_by_part(out)
    assert set(parts) == {"train", "test"}
    assert len(validating) == len(set(validating)) and set(validating) == parts["train"]
    assert not parts["train"] & parts["test"] and len(parts["train"] | parts["test"]) == 8
    assert result["parts"]["validation"]["n_utterances"] == 0
    assert result["by_part"]["validation"]["n_utterances"] == result["parts"]["train"]["n_utterances"]


def test_all_train_for_the_median_of_the_inner_folds_and_the_last_epoch_is_kept(
    chosen: tuple[Path, dict[str, Any]],
) -> None:
    out, result = chosen
    median = round(float(np.median([row["best_epoch"] for row in result["inner_folds"]])))
    assert result["epochs"] == result["best_epoch"] == median == len(read_table(out / "history.csv"))
    uars = [row["validation_uar"] for row in result["inner_folds"]]
    assert result["validation_uar"] == pytest.approx(np.mean(uars))
    assert not list(out.glob("*inner*")) and not (out / "checkpoint.safetensors").exists()
    page = (out / "README.md").read_text()
    assert "3 folds of the training speakers" in page and "nan" not in page.lower()


def test_what_the_test_speakers_say_chooses_nothing(
    eight_speakers: Path, chosen: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, result = chosen
    split = read_table(out / "split.csv")
    test = split.index[split["part"] == "test"]
    split.loc[test[: len(test) // 2], "part"] = "unused"
    # a split that comes as a file has to have a validation part
    speaker = split.loc[split["part"] == "train", "speaker"].iloc[0]
    split.loc[(split["part"] == "train") & (split["speaker"] == speaker), "part"] = "validation"
    split.to_csv(tmp_path / "split.csv", index=False)
    again = run_with(eight_speakers, tmp_path / "again", split=tmp_path / "split.csv")
    without_time = [[{**row, "seconds": 0} for row in each["inner_folds"]] for each in (result, again)]
    assert without_time[0] == without_time[1]
    weights = [load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "again")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_seeds_of_one_split_share_the_choice(
    eight_speakers: Path, chosen: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    other = run_with(eight_speakers, tmp_path / "other", seed=5, split_seed=0)
    mine = chosen[1]
    assert [row["best_epoch"] for row in other["inner_folds"]] == [
        row["best_epoch"] for row in mine["inner_folds"]
    ]
    first, second = (load_file(folder / "weights.safetensors") for folder in (chosen[0], tmp_path / "other"))
    assert any((first[name] != second[name]).any() for name in first)


class Killed:
    """Stops when the second inner fold begins."""

    bar = staticmethod(SILENT.bar)

    def note(self, text: str) -> None:
        if text.startswith("inner fold 2"):
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_weights(
    eight_speakers: Path, chosen: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run_with(eight_speakers, out, Killed())
    assert (out / "inner-1.safetensors").exists() and not (out / "result.json").exists()
    run_with(eight_speakers, out)
    weights = [load_file(folder / "weights.safetensors") for folder in (chosen[0], out)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    pd.testing.assert_frame_equal(
        read_table(out / "predictions.csv"), read_table(chosen[0] / "predictions.csv")
    )


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        ("feature_cnn", {"inner_folds": 1}, "at least 2"),
        ("feature_cnn", {"minutes": 3.0}, "without --minutes"),
        ("feature_cnn", {"inner_folds": 40}, "40 folds can't be made"),
        ("spectral_svm", {}, "isn't trained by gradient"),
    ],
)
def test_what_inner_folds_cannot_be_is_one_sentence(
    eight_speakers: Path, tmp_path: Path, model: str, changes: dict[str, Any], sentence: str
) -> None:
    values = {"store": (eight_speakers,), "out": tmp_path / "out", "inner_folds": 3, **changes}
    with pytest.raises(ValueError, match=sentence):
        train_classifier(configure(model, **values))
    assert not (tmp_path / "out").exists()


def test_what_a_kill_at_the_very_end_left_is_removed(chosen: tuple[Path, dict[str, Any]]) -> None:
    left = chosen[0] / "inner-2.safetensors"
    left.write_bytes(b"a state")
    assert read_config(chosen[0])["inner_folds"] == 3
    assert not left.exists() and (chosen[0] / "weights.safetensors").exists()
