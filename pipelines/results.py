"""What a classifier's runs and evaluations write alike: scores, predictions, pictures, a page."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fins.runs import CONFIG, read_json
from fins.splits import PARTS
from fins.store import EMOTIONS
from ser_heads.base import UtteranceModel
from ser_heads.data import UtteranceTable
from ser_heads.plots import plot_confusion, plot_groups, plot_recalls
from ser_heads.scores import METRICS, restrict, score, score_groups, scores_as_json

PREDICTIONS, SPLIT = "predictions.csv", "split.csv"
SPLIT_COLUMNS = ("utterance", "speaker", "emotion", "sha256", "part")


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


def read_predictions(run: Path) -> Predictions:
    """Of a finished run or evaluation; ValueError in one sentence if they are missing or not whole."""
    path = run / PREDICTIONS
    header, rows = read_table(path)
    labels = tuple(header[4:])
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(header)
    try:
        names, speakers, truth, answers = columns[:4]
        probabilities = np.array(columns[4:], dtype=float).T
    except ValueError as error:
        raise ValueError(f"{path} is no table of predictions: make the run again") from error
    whole = header[:4] == ["utterance", "speaker", "emotion", "answer"] and set(labels) <= set(EMOTIONS)
    if not whole or not {*truth, *answers} <= set(labels):
        raise ValueError(f"{path} is no table of predictions: make the run again")
    if len(rows) != read_result(run)["n_utterances"]:
        raise ValueError(f"{path} isn't whole: make the run again")
    return Predictions(names, speakers, truth, answers, probabilities, labels)


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV, all as long as the header; ValueError for anything else."""
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is {path.parent} the folder of a finished run?") from error
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: make the run again") from error
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"{path} is damaged: make the run again")
    return header, rows


def prepare_inputs(model: UtteranceModel, table: UtteranceTable) -> None:
    """Make what a model hears of the utterances in place of waveforms, if it keeps that beside the stores."""
    with tqdm(total=len(table), unit=" utterances", desc="inputs", leave=False) as bar:
        model.prepare(table, bar.update)


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
    for key in METRICS:
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


def evenly_spread(utterances: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """All of them, or so many, evenly spread from the first to the last."""
    if len(utterances) <= most:
        return utterances
    return utterances[np.linspace(0, len(utterances) - 1, most).round().astype(int)]


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
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SPLIT_COLUMNS)
        for part, rows in parts.items():
            for row in rows:
                sha = table.columns["sha256"][row]
                emotion = table.columns["emotion"][row]
                writer.writerow([table.names[row], table.speakers[row], emotion, sha, part])
    os.replace(partial, path)


def read_split(path: Path, table: UtteranceTable) -> dict[str, NDArray[np.int64]]:
    """Part → the utterances of a table that a split.csv has there; of others nothing is used.

    Raises ValueError for a file that is none, an utterance that the stores lack or that is another recording
    by now, and one that is there twice.
    """
    header, rows = read_table(path)
    if header != list(SPLIT_COLUMNS) or not rows:
        raise ValueError(f"{path} is no split: its columns are {', '.join(SPLIT_COLUMNS)}")
    places = {name: place for place, name in enumerate(table.names)}
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    seen: set[str] = set()
    for name, _, emotion, sha, part in rows:
        if part == "unused":
            continue
        place = places.get(name)
        if place is None:
            raise ValueError(f"{path} has {name}, which the stores lack: give the stores that it was made of")
        known = table.columns["sha256"][place], table.columns["emotion"][place]
        if known != (sha, emotion):
            raise ValueError(f"{path}: {name} is another recording there, or has another emotion")
        if part not in parts or name in seen:
            fault = "is there twice" if name in seen else f"is in {part!r}, which is no part"
            raise ValueError(f"{path}: {name} {fault}")
        seen.add(name)
        parts[part].append(place)
    return {part: np.array(sorted(rows), dtype=np.int64) for part, rows in parts.items()}


@dataclass(frozen=True)
class Unseen:
    """Of some stores, what a run neither learned from nor was chosen by.

    rows : (n,) utterances of the table, no augmented copies; n_seen : how many originals are left out
    protocol : corpus if none of their corpora was seen, speaker if none of their speakers, else random
    """

    table: UtteranceTable
    rows: NDArray[np.int64]
    n_seen: int
    protocol: str


def find_unseen(run: Path, stores: Sequence[Path], trimmed: bool = True) -> Unseen:
    """By names and checksums; ValueError if nothing is left, or if the run's split.csv isn't whole."""
    check_stores(stores)
    path = run / SPLIT
    header, rows = read_table(path)
    parts = {name: facts["n_utterances"] for name, facts in read_result(run)["parts"].items()}
    counts = Counter(row[-1] for row in rows)
    if header != list(SPLIT_COLUMNS) or counts != {part: n for part, n in parts.items() if n}:
        raise ValueError(f"{path} isn't whole, so what was trained on isn't known: make the run again")
    learned = [dict(zip(header, row, strict=True)) for row in rows if row[-1] in ("train", "validation")]
    table = UtteranceTable(stores, trimmed)
    columns = table.columns
    seen = np.isin(table.names, [row["utterance"] for row in learned])
    seen |= np.isin(columns["sha256"], [row["sha256"] for row in learned if row["sha256"]])
    original = columns["augmented_from"] == ""
    chosen = np.flatnonzero(original & ~seen)
    if len(chosen) == 0:
        raise ValueError(f"{run} learned from every utterance of the stores: give another store")
    speakers = {row["speaker"] for row in learned}
    corpora = {speaker.split("/")[0] for speaker in speakers}
    protocol = "random"
    if not corpora & set(columns["corpus"][chosen]):
        protocol = "corpus"
    elif not speakers & set(table.speakers[chosen]):
        protocol = "speaker"
    return Unseen(table, chosen, int((original & seen).sum()), protocol)


def read_result(run: Path) -> dict[str, Any]:
    """The result of a finished run of pipelines.train."""
    result = read_json(run / "result.json")
    if not {"model", "parameters", "protocol", "parts", "labels", "uar", "n_utterances"} <= set(result):
        raise ValueError(f"{run} holds no run of pipelines.train")
    return result


def check_out(folder: Path) -> None:
    """ValueError if what is written there would overwrite a run's own files."""
    if (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds a run: choose another --out")


def check_stores(paths: Sequence[Path]) -> None:
    """ValueError if a store is given twice."""
    whole = [path.resolve() for path in paths]
    for path in whole:
        if whole.count(path) > 1:
            raise ValueError(f"the store {path} is given twice: once is enough")
