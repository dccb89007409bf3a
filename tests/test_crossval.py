"""Cross-validation: every utterance tests once, folds know nothing of each other, finished ones stay."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import make_recordings, needs_ray
from safetensors.torch import load_file
from sklearn.metrics import recall_score

from data_manifests.labels import EMOTIONS
from fins.data.folds import folds as folds_of
from fins.data.protocols import Division
from fins.data.store import write_store
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import read_json
from pipelines.crossval import ABOUT
from ser_heads.evaluation.predictions import read_predictions
from ser_heads.evaluation.unseen import EvaluateOptions, evaluate
from ser_heads.experiments import configure, parallel
from ser_heads.experiments import folds as crossval
from ser_heads.experiments.config import read_command_line
from ser_heads.experiments.folds import CrossvalOptions, cross_validate
from ser_heads.experiments.parallel import make_apart
from ser_heads.experiments.run import RunResult, train_classifier

pytestmark = pytest.mark.usefixtures("runs_here", "no_pictures_at_all")


OWN = ("folds", "n_folds", "workers", "address")


def folded(store: Path | tuple[Path, ...], out: Path, **changes: object) -> RunResult:
    """Four folds of two epochs, but for what is changed."""
    stores = store if isinstance(store, tuple) else (store,)
    usual = {"frozen_epochs": 2, "finetuned_epochs": 0, "store": stores, "out": out, "n_folds": 4}
    values = usual | changes
    own = {name: values.pop(name) for name in OWN if name in values}
    return cross_validate(configure("feature_cnn", **values), CrossvalOptions(**own))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def by_speaker(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crossval") / "out"
    folded(small_store, out)
    return out


def test_every_utterance_is_tested_once_by_a_model_that_never_met_its_speaker(by_speaker: Path) -> None:
    tested = read_predictions(by_speaker).table["utterance"]
    assert len(tested) == tested.nunique() == 64
    result = read_json(by_speaker / "result.json")
    folds = [read_json(by_speaker / f"fold-{number}" / "result.json") for number in range(1, 5)]
    assert result["uar_of_runs"] == [fold["uar"] for fold in folds]
    assert result["deviation_uar_of_runs"] == pytest.approx(np.std([f["uar"] for f in folds], ddof=1))
    assert result["wa"] == pytest.approx(np.mean([fold["wa"] for fold in folds]))  # as many in each
    for fold in folds:
        speakers = [set(its["speakers"]) for its in fold["parts"].values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 4
    assert "deviation" in (by_speaker / "README.md").read_text()


def test_no_state_passes_between_folds(by_speaker: Path, small_store: Path, tmp_path: Path) -> None:
    """The third fold alone, from its split, is the third fold after two others."""
    usual = {"frozen_epochs": 2, "finetuned_epochs": 0, "store": (small_store,)}
    split = by_speaker / "fold-3.csv"
    train_classifier(configure("feature_cnn", split=split, out=tmp_path / "alone", **usual))
    first, second = (
        load_file(run / "weights.safetensors") for run in (by_speaker / "fold-3", tmp_path / "alone")
    )
    assert all((first[name] == second[name]).all() for name in first)


def test_finished_folds_stay_and_a_missing_one_comes_out_the_same(
    by_speaker: Path, small_store: Path
) -> None:
    before = read_predictions(by_speaker)
    kept = (by_speaker / "fold-1" / "result.json").stat().st_mtime_ns
    for path in (by_speaker / "fold-2").iterdir():
        path.unlink()
    folded(small_store, by_speaker)
    assert (by_speaker / "fold-1" / "result.json").stat().st_mtime_ns == kept
    after = read_predictions(by_speaker)
    assert after.table.equals(before.table)
    np.testing.assert_array_equal(after.probabilities, before.probabilities)


def assert_same(out: Path, other: Path) -> None:
    one, two = read_predictions(out), read_predictions(other)
    assert one.table.equals(two.table)
    np.testing.assert_array_equal(one.probabilities, two.probabilities)


@pytest.mark.slow  # test_compare.py does the same with two runs
def test_two_folds_at_a_time_say_the_same(
    by_speaker: Path, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "make_apart", make_apart)
    folded(small_store, tmp_path / "out", workers=2)
    assert_same(tmp_path / "out", by_speaker)


def test_a_fold_that_cannot_be_made_is_named_and_the_others_are_made(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(job: parallel.Job, *rest: object) -> None:
        if job.label == "fold-2":
            raise ValueError("its process was killed")
        job.make()

    monkeypatch.setattr(parallel, "make_apart", make)
    with pytest.raises(ValueError, match=r"^fold-2 failed: its process was killed$"):
        folded(small_store, tmp_path / "out")
    made = [(tmp_path / "out" / f"fold-{number}" / "result.json").exists() for number in range(1, 5)]
    assert made == [True, False, True, True] and not (tmp_path / "out" / "result.json").exists()


@needs_ray
@pytest.mark.slow
def test_folds_on_a_cluster_of_two_nodes_outlive_a_lost_process(
    by_speaker: Path, small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fold is told to kill its process at its first try; another one makes it."""
    from ray.cluster_utils import Cluster

    class Deadly(parallel.Job):
        def make(self, watch: Watch = SILENT) -> None:
            marker = tmp_path / "killed"
            if self.label == "fold-2" and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.label == "fold-3" and not (tmp_path / "told").exists():
                (tmp_path / "told").touch()
                raise RuntimeError("no reader has foreseen this")
            super().make(watch)

    monkeypatch.setattr(crossval, "Job", Deadly)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        with pytest.raises(ValueError, match=f"fold-3 failed: {parallel.BUG}"):
            folded(small_store, tmp_path / "out", address=cluster.address)
        folded(small_store, tmp_path / "out", address=cluster.address)
    finally:
        cluster.shutdown()
    assert (tmp_path / "killed").exists()
    assert_same(tmp_path / "out", by_speaker)


def test_the_parts_of_each_kind_of_folds(small_store: Path, tmp_path: Path) -> None:
    table = UtteranceTable([small_store])

    def parts_of(**changes: object) -> list[dict[str, set[int]]]:
        asked = {"n_folds": 4, "division": Division(), **changes}
        divided = folds_of(table.rows, **asked)  # type: ignore[arg-type]
        return [{part: set(rows.tolist()) for part, rows in fold.parts.items()} for fold in divided]

    everything = set(range(64))
    for kind in ("speaker", "random"):
        folds = parts_of(kind=kind)
        assert sorted(row for fold in folds for row in fold["test"]) == sorted(everything)
        assert all(set.union(*fold.values()) == everything for fold in folds)
        assert all(sum(map(len, fold.values())) == 64 for fold in folds)
    with pytest.raises(ValueError, match="8 recordings of an emotion"):
        parts_of(kind="ninety_ten")
    write_store(tmp_path / "more.h5", make_recordings(160))
    table, everything = UtteranceTable([tmp_path / "more.h5"]), set(range(160))
    folds = parts_of(kind="ninety_ten", n_folds=3)
    assert len({frozenset(fold["test"]) for fold in folds}) == 1
    assert set.union(*(fold["validation"] for fold in folds)) == everything - folds[0]["test"]
    assert sum(len(fold["validation"]) for fold in folds) == 160 - len(folds[0]["test"])
    assert all(sum(map(len, fold.values())) == 160 for fold in folds)


def test_what_can_not_be_folded_is_refused(small_store: Path, tmp_path: Path) -> None:
    for changes, reason in (
        ({"folds": "published"}, "one corpus with published folds"),
        ({"fold": "ravdess:1"}, "go without --fold"),
        ({"n_folds": 5}, "5 folds can't be made of 4 speakers"),
        ({"workers": 0}, "--workers is at least 1"),
        ({"workers": 2, "address": "auto"}, "a cluster at --address has its own"),
    ):
        with pytest.raises(ValueError, match=reason):
            folded(small_store, tmp_path / "out", **changes)


def test_options_are_the_models_own() -> None:
    config, own = read_command_line(ABOUT, CrossvalOptions, ["--model", "feature_cnn", "--n-folds", "3"])
    assert config == configure("feature_cnn") and config.recipe.optimizer == "adam"
    assert own == CrossvalOptions(n_folds=3)
    assert read_command_line(ABOUT, CrossvalOptions, []) == (configure("fin"), CrossvalOptions())


def test_folds_of_another_division_arent_taken_for_these(
    by_speaker: Path, small_store: Path, tmp_path: Path
) -> None:
    for changes in ({"n_folds": 2}, {"folds": "random"}, {"seed": 1}):
        with pytest.raises(ValueError, match=rf"^{by_speaker} holds another run"):
            folded(small_store, by_speaker, **changes)
    assert read_json(by_speaker / "config.json")["config"]["n_folds"] == 4
    with pytest.raises(ValueError, match="give --store"):
        folded((), tmp_path / "out")
    with pytest.raises(ValueError, match="--minutes is a number above"):
        folded(small_store, tmp_path / "out", minutes=0.5)
    assert not (tmp_path / "out").exists()


def test_a_split_of_other_content_is_another_run(by_speaker: Path, small_store: Path, tmp_path: Path) -> None:
    split = tmp_path / "mine.csv"
    split.write_bytes((by_speaker / "fold-1.csv").read_bytes())
    usual = {"frozen_epochs": 1, "finetuned_epochs": 0, "store": (small_store,)}
    config = configure("feature_cnn", split=split, out=tmp_path / "run", **usual)
    train_classifier(config)
    split.write_bytes((by_speaker / "fold-2.csv").read_bytes())
    with pytest.raises(ValueError, match=r"holds another run \(split_holds"):
        train_classifier(config)


def test_corpora_with_other_emotions_are_scored_together(small_store: Path, tmp_path: Path) -> None:
    """Two speakers of a corpus of eight emotions and two of one of four: each fold tests one of them."""
    few = [its for its in make_recordings(64, "few") if its.utterance.speaker in ("s0", "s1")]
    few = [its for its in few if its.utterance.emotion in EMOTIONS[1::2]]
    all_eight = [its for its in make_recordings(64) if its.utterance.speaker in ("s0", "s1")]
    stores = (tmp_path / "few.h5", tmp_path / "made.h5")
    for path, recordings in zip(stores, (few, all_eight), strict=True):
        write_store(path, recordings)
    folded(stores, tmp_path / "out")
    result, predictions = read_json(tmp_path / "out" / "result.json"), read_predictions(tmp_path / "out")
    table = predictions.table
    assert result["n_utterances"] == len(few) + len(all_eight) == 48 and result["protocol"] == "speaker"
    assert result["labels"] == list(predictions.labels) == list(EMOTIONS)
    assert result["uar"] == pytest.approx(recall_score(table["emotion"], table["answer"], average="macro"))
    of_few = (table["corpus"] == "few").to_numpy()
    unknown = [predictions.labels.index(emotion) for emotion in EMOTIONS[::2]]
    assert (predictions.probabilities[of_few][:, unknown] == 0).all()
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)
    runs = tuple(tmp_path / "out" / f"fold-{number}" for number in range(1, 5))
    with pytest.raises(ValueError, match="evaluate runs of a kind together"):
        evaluate(EvaluateOptions(runs, out=tmp_path / "together"))
