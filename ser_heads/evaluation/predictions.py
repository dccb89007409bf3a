"""What a classifier answered about recordings: predictions as a table, their scores, pictures and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from fins.digests import check_digest
from fins.documents import table_of_rows
from fins.runs import CONFIG, RESULT, read_json
from fins.tables import TableError, read_table, write_table
from ser_heads.evaluation.calibration import confidence_error, risk_coverage
from ser_heads.evaluation.plots import plot_confusion, plot_groups, plot_recalls, plot_risk
from ser_heads.evaluation.scores import (
    bounds_of,
    count_confusions,
    macro_precision,
    resample,
    restrict,
    score_each_label,
    score_groups,
    score_labels,
    scores_as_json,
)
from ser_heads.inference.shares import match_each_speaker

PREDICTIONS = "predictions.csv"
COLUMNS = ("utterance", "corpus", "speaker", "emotion", "answer")
TITLES = {
    "uar": "UAR",
    "wa": "WA",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted-F1",
    "precision": "precision",
}
OF_A_RUN: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "parameters": int,
    "protocol": str,
    "parts": dict,
    "labels": list,
    "uar": (int, float),
    "n_utterances": int,
}
"""Key of a result → what its value is."""


@dataclass(frozen=True)
class Predictions:
    """What a model answered about utterances.

    table : utterance ("corpus/id"), corpus, speaker ("corpus/speaker"), emotion and answer of each
    probabilities : (n, n_labels); labels : the words that could be answered, in the order of these columns
    """

    table: pd.DataFrame
    probabilities: NDArray[np.float64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def write(self, path: Path) -> None:
        """As CSV, with a column of probabilities for each label."""
        shares = {
            label: [f"{share:.6f}" for share in self.probabilities[:, place]]
            for place, label in enumerate(self.labels)
        }
        write_table(path, pd.concat([self.table, pd.DataFrame(shares, index=self.table.index)], axis=1))

    def over(self, labels: Sequence[str]) -> Predictions:
        """The same over more labels, of which those that couldn't be answered have a probability of 0."""
        probabilities = np.zeros((len(self), len(labels)))
        probabilities[:, [list(labels).index(label) for label in self.labels]] = self.probabilities
        return Predictions(self.table, probabilities, tuple(labels))


def read_predictions(run: Path) -> Predictions:
    """Of a finished run or evaluation; ValueError in one sentence if they are missing or not whole."""
    path = run / PREDICTIONS
    predictions = predictions_in(path)
    if len(predictions) != read_result(run)["n_utterances"]:
        raise ValueError(f"{path} isn't whole: make the run again")
    check_digest(path)
    return predictions


def predictions_in(path: Path) -> Predictions:
    """Of a file as `Predictions.write` makes it; ValueError in one sentence if it is none."""
    try:
        table = read_table(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is {path.parent} the folder of a finished run?") from error
    except TableError as error:
        raise ValueError(f"{path} is damaged: make the run again") from error
    labels = tuple(table.columns[len(COLUMNS) :])
    try:
        probabilities = table[list(labels)].to_numpy(dtype=float)
        whole = tuple(table.columns[: len(COLUMNS)]) == COLUMNS
        whole &= {*table["emotion"], *table["answer"]} <= set(labels)
    except (KeyError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is no table of predictions: make the run again")
    return Predictions(table[list(COLUMNS)], probabilities, labels)


def label_predictions(
    rows: pd.DataFrame, places: NDArray[np.int64], logits: NDArray[np.float32], labels: Sequence[str]
) -> tuple[Predictions, NDArray[np.bool_]]:
    """Predictions among the labels that both the model and the corpora of these utterances have.

    rows : as `UtteranceTable.rows`; places : (n,) of the utterances; logits : (n, n_classes) of a model with
        these labels, divided by its temperature
    returns : the predictions, and (n,) which utterances they are of: a word that the model doesn't know can't
        be answered, and calm counts as neutral where the corpora have none
    """
    chosen = rows.iloc[places]
    wanted = rows["emotion"][rows["corpus"].isin(chosen["corpus"].unique())].unique()
    probabilities, shared = restrict(logits, labels, order_labels(wanted))
    used = chosen["emotion"].isin(shared).to_numpy()
    answers = np.array(shared, dtype=object)[probabilities.argmax(axis=1)]
    table = pd.DataFrame(
        {
            "utterance": chosen["name"],
            "corpus": chosen["corpus"],
            "speaker": chosen["person"],
            "emotion": chosen["emotion"],
            "answer": answers,
        }
    )
    return Predictions(table[used].reset_index(drop=True), probabilities[used], shared), used


def match_to_even_shares(predictions: Predictions) -> Predictions:
    """The answers with which all labels are as frequent among each speaker's recordings, or nearly so."""
    matched = match_each_speaker(predictions.probabilities, predictions.table["speaker"].tolist())
    answers = np.array(predictions.labels, dtype=object)[matched.argmax(axis=1)]
    return Predictions(predictions.table.assign(answer=answers), matched, predictions.labels)


def join_predictions(tables: Sequence[Predictions]) -> Predictions:
    """Several as one, over the labels that any of them has."""
    labels = order_labels(label for predictions in tables for label in predictions.labels)
    widened = [predictions.over(labels) for predictions in tables]
    return Predictions(
        pd.concat([predictions.table for predictions in widened], ignore_index=True),
        np.concatenate([predictions.probabilities for predictions in widened]),
        labels,
    )


def scores_of(predictions: Predictions, seed: int = 0) -> dict[str, Any]:
    """Scores with their intervals, those of each corpus, speaker and label, and those of confidence."""
    scores = score_table(predictions.table, predictions.labels, seed)
    return scores | score_confidence(*confidence_of(predictions))


def confidence_of(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) of the likeliest label, and (n,) whether that is right."""
    likeliest = np.array(predictions.labels, dtype=object)[predictions.probabilities.argmax(axis=1)]
    right = np.equal(likeliest, predictions.table["emotion"].to_numpy(object)).astype(bool)
    return predictions.probabilities.max(axis=1), right


def score_confidence(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    """calibration_error and risk_coverage of (n,) answers, as results have them."""
    curve = risk_coverage(confidence, right)
    return {"calibration_error": confidence_error(confidence, right), "risk_coverage": curve.as_json()}


def score_table(table: pd.DataFrame, labels: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """The same of a table with corpus, speaker, emotion and answer, whose words are all among the labels."""
    place_of = {label: place for place, label in enumerate(labels)}
    truth = table["emotion"].map(place_of).to_numpy(np.int64)
    answers = table["answer"].map(place_of).to_numpy(np.int64)
    speakers, corpora = table["speaker"].tolist(), table["corpus"].to_numpy(dtype=object)
    result = scores_as_json(score_labels(truth, answers, speakers, labels, seed))
    _, by_speaker = count_confusions(truth, answers, speakers, len(labels))
    result["precision"] = float(macro_precision(by_speaker.sum(axis=0)))
    resampled = resample(by_speaker, np.random.default_rng(seed)) if len(by_speaker) > 1 else None
    result["interval_95"]["precision"] = (
        None if resampled is None else list(bounds_of(macro_precision(resampled)))
    )
    result["per_label"] = score_each_label(by_speaker.sum(axis=0), labels)
    result["per_corpus"] = score_groups(truth, answers, corpora.tolist(), labels)
    result["per_speaker"] = score_groups(truth, answers, speakers, labels)
    result["per_emotion"] = {
        corpus: {
            label: float((answers[chosen] == place).mean())
            for place, label in enumerate(labels)
            if (chosen := (truth == place) & (corpora == corpus)).any()
        }
        for corpus in sorted(set(corpora))
    }
    return result


def draw_scores(out: Path, result: Mapping[str, Any], title: str) -> list[str]:
    """The pictures of some scores; returns their names."""
    labels = result["labels"]
    plot_confusion(out / "confusion.png", result["confusion"], labels, title)
    plot_recalls(out / "emotions.png", result["per_emotion"], labels, title)
    pictures = ["confusion", "emotions"]
    if result["per_speaker"]:
        plot_groups(out / "speakers.png", result["per_speaker"], title, len(labels))
        pictures.append("speakers")
    if result.get("risk_coverage"):
        plot_risk(out / "risk_coverage.png", result["risk_coverage"], title)
        pictures.append("risk_coverage")
    return pictures


def describe_scores(result: Mapping[str, Any], resampled: str = "speaker") -> list[str]:
    """Scores and intervals as Markdown, and each corpus where there are several.

    resampled : what `n_speakers` counts, and intervals are from
    """
    rows = []
    for key in (name for name in TITLES if name in result):
        interval = result["interval_95"][key]
        between = (
            f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else f"– (one {resampled})"
        )
        rows.append((TITLES[key], f"{100 * result[key]:.1f}", between))
    lines = [table_of_rows(("score", "%", f"95 % interval, {resampled}s resampled"), rows)]
    if len(result["per_corpus"]) > 1:
        corpora = [
            (corpus, f"{row['n_utterances']:,}", f"{100 * row['uar']:.1f}", f"{100 * row['wa']:.1f}")
            for corpus, row in result["per_corpus"].items()
        ]
        lines += ["", table_of_rows(("corpus", "utterances", "UAR %", "WA %"), corpora)]
    chance = 100 / len(result["labels"])
    n, speakers = result["n_utterances"], result["n_speakers"]
    of = f"of one {resampled}" if speakers == 1 else f"of {speakers} {resampled}s"
    of = of if resampled == "speaker" else "of unknown speakers"
    return [*lines, "", f"{n:,} utterances {of}; chance is {chance:.1f} % UAR."]


def describe_confidence(result: Mapping[str, Any]) -> str:
    """Whether probabilities mean what they say, and whether they know where it is wrong, in a sentence."""
    curve = result["risk_coverage"]
    places = [int(np.searchsorted(curve["coverage"], share - 1e-6)) for share in (0.5, 1.0)]
    half, whole = (100 * curve["risk"][place] for place in places)
    return (
        f"Confidence is off by {100 * result['calibration_error']:.1f} points (ECE). Of all answers "
        f"{whole:.1f} % are wrong, of the surer half {half:.1f} %; the area under the risk–coverage curve is "
        f"{curve['area']:.3f}."
    )


def describe_parts(rows: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Part → how many utterances, which speakers, how many of each corpus."""
    described = {}
    for part, places in parts.items():
        chosen = rows.iloc[places]
        described[part] = {
            "n_utterances": len(chosen),
            "speakers": sorted(set(chosen["person"])),
            "corpora": dict(sorted(chosen["corpus"].value_counts().items())),
        }
    return described


def read_result(run: Path) -> dict[str, Any]:
    """The result of a finished run of pipelines.train."""
    result = read_json(run / RESULT)
    if not set(result) >= set(OF_A_RUN):
        raise ValueError(f"{run} holds no run of pipelines.train")
    for name, kind in OF_A_RUN.items():
        if not isinstance(result[name], kind):
            raise ValueError(f"{run / RESULT} is damaged: its {name} is none; make the run again")
    return result


def check_out(folder: Path) -> None:
    """ValueError if what is written there would overwrite a run's own files."""
    if (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds a run: choose another --out")
