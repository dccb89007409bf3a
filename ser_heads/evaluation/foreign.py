"""Tables of answers, whoever made them → truth, answer, speaker and confidence of each utterance."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.labels import normalise, order_labels
from data_manifests.rows import read_rows, read_text
from fins.tables import TableError
from ser_heads.evaluation.predictions import PREDICTIONS

NAMES = {
    "truth": "emotion truth true true_label label_true y_true true_emotion emotion_true ground_truth gold "
    "reference target actual",
    "answer": "answer prediction predicted pred predicted_label label_predicted pred_label label_pred y_pred "
    "predicted_emotion emotion_pred hypothesis",
    "speaker": "speaker speaker_id speakerid spk spk_id subject subject_id person actor",
    "utterance": "utterance utterance_id utt utt_id file filename file_name path filepath file_path wav "
    "audio segment segment_id clip id name",
    "corpus": "corpus dataset database",
    "confidence": "confidence conf max_probability max_prob",
}
"""What a column is of → how it may be called, preferred names first; in any case, - and spaces as _."""
EITHER = "label"  # the answer where a truth is beside it, the truth where an answer is
PREFIXES = ("probability_", "proba_", "prob_", "p_")  # of a label's column
OTHERS = {"start", "end", "note", "made_by"}  # of pipelines.predict
DELIMITERS = ",;\t"
MOST_LABELS = 100
ROUNDING = 0.02  # by which probabilities may miss 1 together
USED = ("utterance", "corpus", "speaker", "emotion", "answer")


@dataclass(frozen=True)
class AnswerTable:
    """What somebody's classifier answered about utterances.

    table : utterance, corpus, speaker, emotion and answer of each; where there are no speakers, each
        utterance stands for one; labels : all words of it
    has_speakers, has_utterances : whether the file says them
    confidence : (n,) of the likeliest label, in [0, 1], or None; right : (n,) whether that label is true
    probabilities : (n, n_labels) with the labels as columns, or None
    columns : what was read → the column's name; n_left_out : why rows couldn't be used → how many
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    has_speakers: bool
    has_utterances: bool
    confidence: NDArray[np.float64] | None
    right: NDArray[np.bool_]
    notes: list[str]
    probabilities: pd.DataFrame | None
    columns: dict[str, str]
    n_left_out: dict[str, int]


def read_answers(
    path: Path, truth: Path | None = None, spelling: Mapping[str, str] | None = None
) -> AnswerTable:
    """A CSV whose columns are called as in `NAMES`, or the folder of a run.

    truth : table with utterance and truth, if the answers have none; its names may be the ends of paths here
    spelling : compared form of a word → how it is written, where it shall be written as elsewhere
    Rows without truth, answer or speaker, or of another length than the header, are left out and counted.
    Raises OSError, and ValueError in one sentence for a file that is no such table.
    """
    path = path / PREDICTIONS if path.is_dir() else path
    cells, n_ragged = read_cells(path)
    if truth is not None:
        cells = join_truth(cells, path, truth)
    columns = find_columns(cells, path)
    read = {kind: cells[column].str.strip() for kind, column in columns.items()}
    usable, n_left_out = usable_rows(read)
    if not usable.any():
        raise ValueError(f"{path} has no row with a truth and an answer: there is nothing to score")
    kept = {kind: values[usable].reset_index(drop=True) for kind, values in read.items()}
    words = spell([*kept["truth"], *kept["answer"]], spelling or {})
    for kind in ("truth", "answer"):
        kept[kind] = pd.Series([words[normalise(word)] for word in kept[kind]])
    labels = order_labels([*kept["truth"], *kept["answer"]])
    if len(labels) > MOST_LABELS:
        raise ValueError(
            f"{path} has {len(labels):,} different words in {columns['truth']} and {columns['answer']}: give "
            "columns of labels"
        )
    return AnswerTable(
        table_of(kept, path.stem),
        labels,
        "speaker" in kept,
        "utterance" in kept,
        *find_confidence(cells[usable], columns, kept, words),
        columns=columns,
        n_left_out={"broken row": n_ragged, **n_left_out} if n_ragged else n_left_out,
    )


def join_answers(tables: Sequence[AnswerTable]) -> AnswerTable:
    """Rows of one table after those of another; speakers and confidence if all have them."""
    if len(tables) == 1:
        return tables[0]
    confidence = [table.confidence for table in tables if table.confidence is not None]
    n_left_out: Counter[str] = Counter()
    for table in tables:
        n_left_out.update(table.n_left_out)
    joined = pd.concat([table.table for table in tables], ignore_index=True)
    has_speakers = all(table.has_speakers for table in tables)
    if not has_speakers:
        joined["speaker"] = joined["utterance"]
    return AnswerTable(
        joined,
        order_labels([label for table in tables for label in table.labels]),
        has_speakers,
        all(table.has_utterances for table in tables),
        np.concatenate(confidence) if len(confidence) == len(tables) else None,
        np.concatenate([table.right for table in tables]),
        notes=list(dict.fromkeys(note for table in tables for note in table.notes)),
        probabilities=None,
        columns=tables[0].columns,
        n_left_out=dict(n_left_out),
    )


def usable_rows(read: Mapping[str, pd.Series]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows have all that is read, and what the others lack → how many, each by the first."""
    usable = np.ones(len(read["truth"]), bool)
    n_left_out = {}
    for kind in (kind for kind in ("truth", "answer", "speaker") if kind in read):
        lacks = (read[kind] == "").to_numpy() & usable
        usable &= ~lacks
        if lacks.any():
            n_left_out[f"no {kind}"] = int(lacks.sum())
    return usable, n_left_out


def spell(words: Sequence[str], spelling: Mapping[str, str]) -> dict[str, str]:
    """Compared form → how a word is written: as given, or as it is first."""
    return {normalise(word): word for word in reversed(words)} | dict(spelling)


def read_cells(path: Path) -> tuple[pd.DataFrame, int]:
    """All rows that are as long as the header, as texts, and how many aren't; empty lines don't count.

    The delimiter is whichever of comma, semicolon and tab the header has most.
    """
    header = read_text(path).partition("\n")[0]
    table = read_rows(path, ragged=True, marks=(max(DELIMITERS, key=header.count),))
    names = [name.strip() for name in table.header]
    rows = [row for row in table.rows if row]
    if len(set(map(normalise, names))) < len(names):
        raise TableError(f"{path} has two columns of one name: rename one")
    whole = [row for row in rows if len(row) == len(names)]
    return pd.DataFrame(whole, columns=names, dtype=object).astype(str), len(rows) - len(whole)


def find_columns(cells: pd.DataFrame, path: Path) -> dict[str, str]:
    """What is read → the column's name, as of `NAMES`; ValueError unless there are a truth and an answer."""
    by_name = {normalise(str(column)): str(column) for column in cells.columns}
    columns = {
        kind: by_name[chosen]
        for kind, names in NAMES.items()
        if (chosen := next((name for name in names.split() if name in by_name), ""))
    }
    if EITHER in by_name and ("truth" in columns) != ("answer" in columns):
        columns["answer" if "truth" in columns else "truth"] = by_name[EITHER]
    for kind in ("truth", "answer"):
        if kind not in columns:
            join = "" if kind == "answer" else ", or give --truth TABLE"
            known = ", ".join(NAMES[kind].split())
            raise ValueError(f"{path} has no column of the {kind}: call it {kind}{join} (known are {known})")
    return {kind: columns[kind] for kind in NAMES if kind in columns}


def join_truth(cells: pd.DataFrame, path: Path, truth: Path) -> pd.DataFrame:
    """The answers with truth, and speaker if there is one, from another table; "" for what isn't there."""
    others, _ = read_cells(truth)
    by_name = {normalise(str(column)): str(column) for column in others.columns}
    columns = {
        kind: by_name[chosen]
        for kind in ("utterance", "truth", "speaker", "corpus")
        if (chosen := next((name for name in (*NAMES[kind].split(), EITHER) if name in by_name), ""))
        and not (chosen == EITHER and kind != "truth")
    }
    own = {normalise(str(column)): str(column) for column in cells.columns}
    key = next((own[name] for name in NAMES["utterance"].split() if name in own), None)
    if "truth" not in columns or "utterance" not in columns or key is None:
        raise ValueError(
            f"{path} and {truth} can't be joined: both need a column file, and {truth} a column emotion"
        )
    place_of = {composed(name): place for place, name in enumerate(others[columns["utterance"]])}
    if len(place_of) < len(others):
        raise ValueError(f"{truth} names an utterance twice: each has one truth")
    places = [place_in(place_of, composed(name)) for name in cells[key]]
    if all(place is None for place in places):
        raise ValueError(
            f"{path} and {truth} share no utterance: {cells[key].iloc[0]!r} isn't there"
            if len(cells)
            else f"{path} has no rows"
        )
    taken = {column for column in columns if column != "utterance"}
    known = {name for kind in taken for name in NAMES[kind].split()}
    joined = cells[[column for column in cells.columns if normalise(str(column)) not in known]].copy()
    for kind in taken:
        values = others[columns[kind]].tolist()
        joined[kind] = ["" if place is None else values[place] for place in places]
    return joined


def composed(name: str) -> str:
    """A name as it is compared: some systems write ü as one letter, others as two."""
    return unicodedata.normalize("NFC", name.strip())


def place_in(place_of: Mapping[str, int], name: str) -> int | None:
    """Of a name, or of the longest end of it as a path."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    ends = (name, *("/".join(parts[start:]) for start in range(len(parts))))
    return next((place_of[end] for end in ends if end in place_of), None)


def table_of(kept: Mapping[str, pd.Series], stem: str) -> pd.DataFrame:
    """With the columns `USED`; speakers are unique over corpora."""
    n = len(kept["truth"])
    corpus = kept.get("corpus", pd.Series([stem] * n))
    utterance = kept.get("utterance", pd.Series([f"row {number}" for number in range(1, n + 1)]))
    speaker = utterance
    if "speaker" in kept:
        speaker = kept["speaker"]
        if "corpus" in kept:
            pairs = zip(corpus, speaker, strict=True)
            speaker = pd.Series([name if name.startswith(f"{of}/") else f"{of}/{name}" for of, name in pairs])
    series = (utterance, corpus, speaker, kept["truth"], kept["answer"])
    return pd.DataFrame(dict(zip(USED, series, strict=True)))


def find_confidence(
    cells: pd.DataFrame, columns: Mapping[str, str], kept: Mapping[str, pd.Series], words: Mapping[str, str]
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_], list[str], pd.DataFrame | None]:
    """Confidence in the likeliest label, whether that is right, what a reader has to know of them, and the
    probabilities of all labels.

    Of columns of probabilities, which sum to 1 in each row, or else of a column of confidence in the answer.
    """
    truth, answered = kept["truth"].to_numpy(object), kept["answer"].to_numpy(object)
    free = {
        normalise(str(column)): numbers_of(cells[column])
        for column in cells.columns
        if column not in columns.values() and normalise(str(column)) not in OTHERS
    }
    named = {label_of(name, words): values for name, values in free.items() if label_of(name, words) in words}
    shares = {label_of(name, words): values for name, values in free.items() if is_share(values)}
    for candidates in (shares, {label: values for label, values in named.items() if is_share(values)}):
        if len(candidates) < 2:
            continue
        probabilities = np.stack(list(candidates.values()), axis=1)
        if np.abs(probabilities.sum(axis=1) - 1).max() <= ROUNDING:
            written = np.array([words.get(label, label) for label in candidates], dtype=object)
            likeliest = written[probabilities.argmax(axis=1)]
            n_other = int((likeliest != answered).sum())
            notes = [f"{n_other:,} answers aren't the likeliest label; ECE is of that"] if n_other else []
            table = pd.DataFrame(probabilities, columns=written)
            return probabilities.max(axis=1), likeliest == truth, notes, table
    notes = ["the columns named like labels don't sum to 1: they count as no probabilities"] if named else []
    if "confidence" in columns:
        confidence = numbers_of(cells[columns["confidence"]])
        if is_share(confidence):
            return confidence, answered == truth, notes, None
        notes.append(f"{columns['confidence']} isn't from 0 to 1 in every row: it counts as no confidence")
    return None, answered == truth, notes, None


def label_of(name: str, words: Mapping[str, str]) -> str:
    """The compared form of the label that a column is called after."""
    without = (name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
    return name if name in words else next(without, name)


def numbers_of(cells: pd.Series) -> NDArray[np.float64]:
    """NaN for what is none; a decimal comma counts as a point."""
    return pd.to_numeric(cells.str.replace(",", ".", regex=False), errors="coerce").to_numpy(np.float64)


def is_share(values: NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def same_utterances(first: AnswerTable, second: AnswerTable, paths: Sequence[Path]) -> pd.DataFrame:
    """Rows of the first that the second answered too, with its answer as `other`.

    Raises ValueError if utterances aren't named, or twice, if none is in both, or if the truths differ.
    """
    for answers, path in zip((first, second), paths, strict=True):
        if not answers.has_utterances:
            raise ValueError(f"{path} doesn't name its utterances: to compare, give a column utterance")
        if answers.table["utterance"].duplicated().any():
            name = answers.table["utterance"][answers.table["utterance"].duplicated()].iloc[0]
            raise ValueError(f"{path} has {name} more than once: to compare, each utterance has one answer")
    renamed = second.table.rename(columns={"answer": "other", "emotion": "truth", "speaker": "person"})
    both = first.table.merge(renamed[["utterance", "truth", "other", "person"]], on="utterance")
    if both.empty:
        raise ValueError(f"{paths[0]} and {paths[1]} share no utterance: compare answers to the same ones")
    differ = both[both["emotion"] != both["truth"]]
    if len(differ):
        name, *truths = differ.iloc[0][["utterance", "emotion", "truth"]]
        raise ValueError(
            f"the truth of {len(differ)} utterances differs between the tables, of {name} it is {truths[0]} "
            f"and {truths[1]}: compare answers to the same ones"
        )
    if second.has_speakers and not first.has_speakers:
        both["speaker"] = both["person"]
    return both.drop(columns=["truth", "person"])
