"""Files and folders of them → answers, in their order, taken up again where they were stopped."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_manifests.endings import READ, how_to_read, is_audio, is_convertible
from fins.audio import Signal
from fins.command import sentence_of
from fins.leftovers import temporary_folder
from fins.progress import SILENT, Watch
from fins.runs import write_atomically
from ser_heads.inference.condition import examine
from ser_heads.inference.familiarity import unlike_training
from ser_heads.inference.predict import BATCH, Prediction, answer, places_of, with_notes
from ser_heads.inference.records import (
    AnswerJournal,
    Format,
    Record,
    columns_of,
    prediction_of,
    read_records,
    record_of,
    render,
)
from ser_heads.inference.shares import match_predictions, parse_shares, shares_of
from ser_heads.inference.sound import read_channels
from ser_heads.inference.stream import predict_along, whole_frames
from ser_heads.model import SerModel
from ser_heads.models import load

STDIN = "-"
FORMATS: dict[str, Format] = {".csv": "csv", ".json": "json", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class PredictOptions:
    """Answer about recordings: the likeliest label of each, its probability, and those of the others.

    Ends with exit code 1 if some of them couldn't be used; each is told in a line.
    """

    run: Annotated[str, tyro.conf.Positional]
    """Folder of pipelines.train, its weights file, or the name of a classifier of the package."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files, folders (with all that is below them), or - for a wav on standard input."""
    format: Format | None = None
    """Of the answers; by default that of the ending of --out, else a table for reading."""
    out: Path | None = None
    """File for the answers, by default standard output. One that is there already is completed."""
    timeline: bool = False
    """Answer every --hop seconds about --window seconds, in flat memory; else once a recording."""
    window: float = 3.0
    """Seconds that an answer of a timeline is about, to the nearest frame of 23.2 ms, at least 93 ms."""
    hop: float = 1.0
    """Seconds from one answer of a timeline to the next, to the nearest frame of 23.2 ms."""
    labels: tuple[str, ...] = ()
    """Those that may be answered, by default all of the model's."""
    shares: tuple[str, ...] = ()
    """All recordings are of one speaker, and these are the shares of labels among them: even, or label=share
    for some labels, the others sharing what is left. Answers are matched to them; by default nothing is
    assumed."""
    abstain: float | Literal["chosen"] = 0.0
    """Confidence, 0 to 1, below which no label is given; or chosen: what halved the wrong answers to the
    validation recordings of its training."""
    trim: bool = True
    """Cut quiet ends off before the model sees a recording, as in training."""

    doctor: bool = False
    """Look for what is wrong with each recording (level, clipping, noise, band, silence, length, offset, and
    features unlike those of training) and tell it in its note. Channels that are silent or in opposite phase
    are told anyway."""

    def __post_init__(self) -> None:
        if self.doctor and self.timeline:
            raise ValueError("--doctor looks at whole recordings: leave --timeline out, or ask twice")
        if self.shares and self.timeline:
            raise ValueError("--shares are of whole recordings: leave --timeline out")
        if not self.paths:
            raise ValueError("there is nothing to answer about: give files, folders, or - for standard input")
        if self.abstain != "chosen" and not 0 <= self.abstain <= 1:
            raise ValueError(f"--abstain is a confidence from 0 to 1, got {self.abstain}")
        whole_frames(self.window, self.hop)

    def form(self) -> Format:
        """The format that is meant."""
        ending = self.out.suffix.lower() if self.out is not None else ""
        return self.format or FORMATS.get(ending, "table")


@dataclass
class FileAnswers:
    """What came of some files.

    text : the answers in the format that was asked for; failures : a line a file that couldn't be used
    notes : what else has to be told; records : the answers, in the order of the files
    """

    records: list[Record]
    text: str = ""
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def report(self, n_files: int) -> list[str]:
        """Lines for a person: notes, then failures with their count."""
        if not self.failures:
            return self.notes
        return [*self.notes, *self.failures, f"{len(self.failures)} of {n_files} files couldn't be used"]


def predict_files(options: PredictOptions, watch: Watch = SILENT) -> tuple[FileAnswers, list[str]]:
    """Answer, and write what was asked for; also returns the lines of the report, for a person.

    Raises ValueError in one sentence, before any work, for a classifier, path, label or file for the answers
    that can't be meant.
    """
    model = load(options.run)
    labels = [model.labels[place] for place in places_of(model, options.labels or None)]
    shares = known_shares(options, labels)
    threshold = least_confidence(model, options)
    form = options.form()
    if form == "csv":
        columns_of(labels)
    files, notes = find_files(options.paths)
    made_by = signature(model, options)
    journal = AnswerJournal(options.out and options.out.with_name(f"{options.out.name}.unfinished"))
    known = _known(options, form, labels, journal, made_by)
    answers = FileAnswers([], notes=notes)
    todo = [file for file in files if file == STDIN or file not in known]
    if len(todo) < len(files):
        notes.append(
            f"{len(files) - len(todo)} of {len(files)} files were answered before, and are as they were"
        )
    with watch.bar(len(todo), "files") as bar:
        for start in range(0, len(todo), 1 if options.timeline else BATCH):
            block = todo[start : start + (1 if options.timeline else BATCH)]
            for file, predictions in _answer_block(model, block, options, answers.failures):
                known[file] = [record_of(prediction, made_by) for prediction in predictions]
                journal.add(file, known[file])
            bar.update(len(block))
    order = dict.fromkeys([*known, *files]) if set(known) - set(files) else files
    answers.records = [record for file in order for record in known.get(file, ())]
    if shares is not None:
        made_by += f", matched to shares {' '.join(options.shares)}"
        matched = match_predictions([prediction_of(record) for record in answers.records], shares)
        answers.records = [record_of(prediction, made_by) for prediction in matched]
    answers.text = render(answers.records, form, labels, threshold)
    if options.out is not None:
        write_atomically(options.out, answers.text)
        journal.remove()
    return answers, answers.report(len(files))


def known_shares(options: PredictOptions, labels: Sequence[str]) -> str | dict[str, float] | None:
    """Of labels among the recordings, None if nothing is known; ValueError for what can't be meant."""
    if not options.shares:
        return None
    shares = parse_shares(options.shares)
    shares_of(shares, labels)
    if options.out is not None and options.out.is_file():
        raise ValueError(
            f"{options.out} is there already, and matched answers can't be completed: choose another --out"
        )
    return shares


def least_confidence(model: SerModel, options: PredictOptions) -> float:
    """Below which no label is given; ValueError if it is to be the model's own, and it has none."""
    if options.abstain != "chosen":
        return options.abstain
    if not model.abstention:
        raise ValueError(f"no confidence was chosen for {options.run}: give --abstain a number from 0 to 1")
    return float(model.abstention)


def find_files(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files in the order of the paths, those of a folder by name, each once; and what a person has to know.

    A path that is missing is among them, and can't be read. Raises ValueError if all are missing, and for a
    folder without audio.
    """
    files: dict[str, None] = {}
    n_others, notes = 0, []
    if not any(path == STDIN or Path(path).exists() for path in paths):
        raise ValueError(f"{paths[0]} is missing: check the path")
    for path in paths:
        if path == STDIN or not Path(path).is_dir():
            files[path] = None
            continue
        below = sorted(
            file for file in Path(path).rglob("*") if file.is_file() and not _is_hidden(file, path)
        )
        audio = [file for file in below if is_audio(str(file))]
        if convertible := [str(file) for file in below if is_convertible(str(file))]:
            notes.append(explain_conversion(convertible))
        if not audio:
            looked_for = f"there is no audio below {path}: looked for {', '.join(READ)}"
            raise ValueError("; ".join([looked_for, *notes]))
        n_others += len(below) - len(audio) - len(convertible)
        files |= dict.fromkeys(map(str, audio))
    if n_others:
        notes.append(f"{n_others} files that aren't called as audio were passed over")
    return list(files), notes


def explain_conversion(paths: Sequence[str]) -> str:
    """That files hold sound in formats that aren't decoded here, and how to convert the first."""
    endings = ", ".join(sorted({Path(path).suffix.lower() for path in paths}))
    return f"{len(paths)} files ({endings}) aren't decoded here: convert them, {how_to_read(paths[0])}"


def _is_hidden(file: Path, root: str) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def signature(model: SerModel, options: PredictOptions) -> str:
    """By which answers are ways from those of another classifier, or of other stretches of the same file."""
    digest = hashlib.sha256(repr(model.labels).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    parts = [model.name, digest.hexdigest()[:12]]
    if options.timeline:
        parts.append(f"{options.window:g} s every {options.hop:g} s")
    ways = {"untrimmed": not options.trim, "examined": options.doctor}
    return ", ".join([*parts, *(word for word, is_so in ways.items() if is_so)])


def _known(
    options: PredictOptions, form: Format, labels: Sequence[str], journal: AnswerJournal, made_by: str
) -> dict[str, list[Record]]:
    """File → its records, of earlier work on the same answers, unless the file is newer than these.

    Raises ValueError for answers of another classifier.
    """
    out = options.out
    if out is None:
        return {}
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out} is no file in a folder that is there")
    written = [path.stat().st_mtime_ns if path and path.is_file() else 0 for path in (out, journal.path)]
    records = read_records(out, form, labels) if out.is_file() else []
    known: dict[str, list[Record]] = {}
    for record in records:
        known.setdefault(record["file"], []).append(record)
    known = _no_newer(known, written[0]) | _no_newer(journal.read(), written[1])
    for record in (record for rows in known.values() for record in rows):
        if record["made_by"] != made_by:
            raise ValueError(
                f"{out} has answers made by {record['made_by']}, these would be made by {made_by}: "
                "choose another --out"
            )
        if list(record["probabilities"]) != list(labels):
            raise ValueError(f"{out} has answers with other labels: choose another --out")
    return known


def _no_newer(known: Mapping[str, list[Record]], written: int) -> dict[str, list[Record]]:
    """Without files that changed after their answers were written, in nanoseconds."""
    return {
        file: records
        for file, records in known.items()
        if not Path(file).exists() or Path(file).stat().st_mtime_ns <= written
    }


def _answer_block(
    model: SerModel, files: Sequence[str], options: PredictOptions, failures: list[str]
) -> Iterator[tuple[str, list[Prediction]]]:
    """Predictions of each file that can be used; a line for each of the others."""
    labels = options.labels or None
    usable, signals, faults = [], [], []
    for file in files:
        with on_disk(file) as path:
            try:
                if options.timeline:
                    along = predict_along(
                        model, path, options.window, options.hop, labels=labels, trim=options.trim, file=file
                    )
                    yield file, along
                    continue
                signal, faulty = read_channels(path)
                signals.append(signal)
                faults.append(list(faulty.values()))
                usable.append(file)
            except (ValueError, OSError) as error:
                sentence = sentence_of(error).replace(str(path), "standard input" if file == STDIN else file)
                failures.append(sentence if file in sentence or file == STDIN else f"{file}: {sentence}")
    predictions = answer(model, signals, usable, labels=labels, trim=options.trim)
    if options.doctor:
        faults = [[*row, *more] for row, more in zip(faults, diagnose(model, signals), strict=True)]
    noted = [with_notes(*pair) for pair in zip(predictions, faults, strict=True)]
    yield from ((file, [prediction]) for file, prediction in zip(usable, noted, strict=True))


def diagnose(model: SerModel, signals: Sequence[Signal]) -> list[list[str]]:
    """What is wrong with each recording, in sentences; of one that is silence, nothing but that."""
    conditions = [examine(signal) for signal in signals]
    unlike = unlike_training(model, signals)
    return [
        [*condition.faults().values(), *([sentence] if sentence and condition.silence < 1 else [])]
        for condition, sentence in zip(conditions, unlike, strict=True)
    ]


@contextmanager
def on_disk(file: str) -> Iterator[Path]:
    """A path to read from: of standard input a copy, since the length of a stream isn't known."""
    if file != STDIN:
        yield Path(file)
        return
    with temporary_folder("ser-input-") as folder:
        path = folder / "input.wav"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield path
