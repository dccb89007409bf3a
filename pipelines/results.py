"""What a classifier's runs and evaluations write alike: scores, predictions, pictures, a page."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fins.runs import read_json
from fins.store import EMOTIONS
from ser_heads.data import UtteranceTable
from ser_heads.plots import plot_confusion, plot_groups, plot_recalls
from ser_heads.scores import restrict, score, score_groups, scores_as_json

PREDICTIONS, SPLIT = "predictions.csv", "split.csv"
SCORES = ("uar", "wa", "macro_f1", "weighted_f1")


@dataclass(frozen=True)
class Predictions:
    """What a model said of utterances.

    names : "corpus/id"; speakers : "corpus/speaker"; truth, answer : (n,) emotions; probabilities :
    (n, n_labels); labels : the emotions that could be answered, in the order of EMOTIONS
    """

    names: list[str]
    speakers: list[str]
    truth: list[str]
    answer: list[str]
    probabilities: NDArray[np.float64]
    labels: tuple[str, ...]

    def write(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["utterance", "speaker", "emotion", "answer", *self.labels])
            columns = (self.names, self.speakers, self.truth, self.answer)
            for row, shares in zip(zip(*columns, strict=True), self.probabilities, strict=True):
                writer.writerow([*row, *(f"{share:.6f}" for share in shares)])


def read_predictions(path: Path) -> Predictions:
    """ValueError in one sentence for a file that is missing or no such table."""
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        labels = tuple(header[4:])
        if (
            header[:4] != ["utterance", "speaker", "emotion", "answer"]
            or not rows
            or set(labels) - set(EMOTIONS)
        ):
            raise ValueError
        columns = list(zip(*rows, strict=True))
        names, speakers, truth, answer = (list(column) for column in columns[:4])
        probabilities = np.array(columns[4:], dtype=float).T
        if not {*truth, *answer} <= set(labels) or probabilities.shape != (len(rows), len(labels)):
            raise ValueError
        return Predictions(names, speakers, truth, answer, probabilities, labels)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is the run finished?") from error
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no table of predictions: the run has to be made again") from error


def answer(
    table: UtteranceTable, utterances: NDArray[np.int64], logits: NDArray[np.float32], known: Sequence[str]
) -> tuple[Predictions, NDArray[np.bool_]]:
    """Predictions among the emotions that both the model and the corpora of these utterances know.

    returns : the predictions, and (n,) which utterances they are of: an emotion that the model doesn't know
        can't be answered, and calm counts as neutral where the corpora have none
    """
    truth = table.columns["emotion"][utterances]
    corpora = table.columns["corpus"]
    wanted = set(table.columns["emotion"][np.isin(corpora, list(set(corpora[utterances])))])
    probabilities, labels = restrict(logits, known, sorted(wanted))
    used = np.isin(truth, labels)
    answers = np.array(labels, dtype=object)[probabilities.argmax(axis=1)]
    chosen = utterances[used]
    return (
        Predictions(
            [table.names[utterance] for utterance in chosen],
            list(table.speakers[chosen]),
            list(truth[used]),
            list(answers[used]),
            probabilities[used],
            labels,
        ),
        used,
    )


def scores_of(predictions: Predictions, seed: int = 0) -> dict[str, Any]:
    """Scores with their intervals, and those of each corpus, speaker and emotion."""
    labels = predictions.labels
    truth = np.array([labels.index(emotion) for emotion in predictions.truth])
    answers = np.array([labels.index(emotion) for emotion in predictions.answer])
    speakers = predictions.speakers
    corpora = [speaker.split("/")[0] for speaker in speakers]
    result = scores_as_json(score(truth, answers, speakers, labels, seed))
    result["per_corpus"] = score_groups(truth, answers, corpora, labels)
    result["per_speaker"] = score_groups(truth, answers, speakers, labels)
    result["per_emotion"] = {
        corpus: {
            label: float((answers[chosen] == number).mean())
            for number, label in enumerate(labels)
            if (chosen := (truth == number) & (np.array(corpora) == corpus)).any()
        }
        for corpus in sorted(set(corpora))
    }
    return result


def draw_scores(out: Path, result: Mapping[str, Any], title: str) -> list[str]:
    """The pictures of some scores; returns their names."""
    labels = result["labels"]
    plot_confusion(out / "confusion.png", result["confusion"], labels, title)
    plot_recalls(out / "emotions.png", result["per_emotion"], title)
    plot_groups(out / "speakers.png", result["per_speaker"], title, len(labels))
    return ["confusion", "emotions", "speakers"]


def describe_scores(result: Mapping[str, Any]) -> list[str]:
    """Scores and intervals as Markdown, and each corpus where there are several."""
    names = {"uar": "UAR", "wa": "WA", "macro_f1": "macro-F1", "weighted_f1": "weighted-F1"}
    lines = ["| score | % | 95 % interval, speakers resampled |", "|---|--:|--:|"]
    for key in SCORES:
        interval = result["interval_95"][key]
        between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else "– (one speaker)"
        lines.append(f"| {names[key]} | {100 * result[key]:.1f} | {between} |")
    if len(result["per_corpus"]) > 1:
        lines += ["", "| corpus | utterances | UAR % | WA % |", "|---|--:|--:|--:|"]
        lines += [
            f"| {corpus} | {row['n_utterances']:,} | {100 * row['uar']:.1f} | {100 * row['wa']:.1f} |"
            for corpus, row in result["per_corpus"].items()
        ]
    chance = 100 / len(result["labels"])
    n, speakers = result["n_utterances"], result["n_speakers"]
    of = "one speaker" if speakers == 1 else f"{speakers} speakers"
    lines += ["", f"{n:,} utterances of {of}; chance is {chance:.1f} % UAR."]
    return lines


def part_facts(table: UtteranceTable, parts: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Part → how many utterances, which speakers, how many of each corpus."""
    return {
        part: {
            "n_utterances": len(rows),
            "speakers": sorted(set(table.speakers[rows])),
            "corpora": dict(sorted(Counter(table.columns["corpus"][rows]).items())),
        }
        for part, rows in parts.items()
    }


def write_split(path: Path, table: UtteranceTable, parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Which utterance was in which part, with its checksum."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "speaker", "emotion", "sha256", "part"])
        for part, rows in parts.items():
            for row in rows:
                sha = table.columns["sha256"][row]
                emotion = table.columns["emotion"][row]
                writer.writerow([table.names[row], table.speakers[row], emotion, sha, part])


def seen_in_training(run: Path) -> tuple[set[str], set[str]]:
    """Names and checksums of what a run trained on or chose by."""
    path = run / SPLIT
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["part"] in ("train", "validation")]
        return {row["utterance"] for row in rows}, {row["sha256"] for row in rows} - {""}
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is {run} the folder of a finished run?") from error
    except KeyError as error:
        raise ValueError(f"{path} is no split of this version: the run has to be made again") from error


def read_result(run: Path) -> dict[str, Any]:
    """The result of a finished run of pipelines.train."""
    result = read_json(run / "result.json")
    if not {"model", "uar", "labels"} <= set(result):
        raise ValueError(f"{run} holds no run of pipelines.train")
    return result
