"""An exploration of stores: a folder with pictures, a page for a browser, and the numbers behind them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_manifests.labels import order_labels
from data_manifests.ledger import LISTED, LISTED_GROUPS, name_speakers
from fins.data.exploration.findings import (
    CLIPPED,
    boxes_of,
    choose_examples,
    count,
    facts_of,
    find_identical,
    find_trouble,
    from_speaker,
)
from fins.data.exploration.measure import (
    F0_RANGE,
    LOUD,
    NUMBERS,
    PERIODIC,
    VOICED_FRAMES,
    Measurements,
    measure_utterances,
)
from fins.data.exploration.plots import (
    Sound,
    plot_boxes,
    plot_counts,
    plot_lengths,
    plot_sounds,
    plot_speakers,
)
from fins.data.table import QUIET, UtteranceTable, check_stores
from fins.documents import as_text, page, table
from fins.progress import SILENT, Watch
from fins.runs import CONFIG, RESULT, finish_run, forget_result, locked, read_json, write_atomically
from fins.tables import write_table

PAGE, UTTERANCES = "index.html", "utterances.csv"
N_BINS = 25  # of lengths

Examples = Mapping[str, Mapping[str, int]]  # corpus → emotion → place of an utterance


@dataclass(frozen=True)
class ExploreConfig:
    """Tell what stores hold: utterances of whom and of what, how they sound, and what may bite in training.

    Out comes a folder with pictures, one page for a browser (index.html), a row an utterance (utterances.csv)
    and the numbers behind the pictures (result.json). Augmented copies are left out.
    """

    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare; each corpus in them is told apart."""
    out: Path | None = None
    """Folder for the result; by default runs/explore-<stores>."""
    sample: int = 500
    """Utterances of each corpus and emotion whose pitch and spectrum are measured; of more, so many are
    drawn."""
    seed: int = 0
    """Of that draw."""


def explore(config: ExploreConfig, watch: Watch = SILENT) -> tuple[dict[str, Any], Path]:
    """Measure, count, draw, write; the result, and the folder where it lies.

    Raises ValueError in one sentence for options that can't be meant, and for a folder that holds other work.
    """
    started = time.monotonic()
    out = config.out or Path("runs") / f"explore-{'-'.join(path.stem for path in config.store)}"
    check(config, out)
    with UtteranceTable(config.store) as utterances, locked(out):
        forget_result(out)
        measured = measure_utterances(utterances, config.sample, config.seed, watch)
        examples = {corpus: choose_examples(measured, corpus) for corpus in measured.spectrum}
        result = {
            "stores": [str(path) for path in config.store],
            "sample": config.sample,
            "seed": config.seed,
            **summarise(measured, examples),
        }
        result["notes"] += utterances.repeats
        write_utterances(out / UTTERANCES, measured)
        captions = draw_pictures(out, utterances, result, examples)
        title = f"What is in {', '.join(result['facts'])}"
        write_atomically(out / PAGE, page(describe_stores(result, title, captions), title, out))
        result["seconds"] = round(time.monotonic() - started, 1)
        finish_run(out, result)  # last: its presence says that the folder is whole
    return result, out


def check(config: ExploreConfig, out: Path) -> None:
    """ValueError for options that can't be meant, and for a folder that holds something else."""
    if not config.store:
        raise ValueError("there is nothing to explore: give --store, made by pipelines.prepare")
    check_stores(config.store)
    if config.sample < 1:
        raise ValueError("--sample is at least 1")
    if config.seed < 0:
        raise ValueError("--seed is at least 0")
    if (out / CONFIG).exists():
        raise ValueError(f"{out} holds a run: choose another --out")
    if (out / RESULT).exists() and "facts" not in read_json(out / RESULT):
        raise ValueError(f"{out} holds another result: choose another --out")


def summarise(measured: Measurements, examples: Examples) -> dict[str, Any]:
    """The facts of each corpus, what may bite, and the numbers behind every picture."""
    rows = measured.rows
    facts = {corpus: facts_of(measured, corpus) for corpus in measured.spectrum}
    identical = find_identical(rows)
    edges = np.histogram_bin_edges(rows["seconds"], N_BINS)
    counts = {
        corpus: np.histogram(rows["seconds"][rows["corpus"] == corpus], edges)[0].tolist() for corpus in facts
    }
    return {
        "facts": facts,
        "identical": identical,
        "notes": find_trouble(facts, identical),
        "lengths": {"edges": edges.tolist(), "counts": counts},
        "level": {
            "dB": boxes_of(rows, rows["level"]),
            "dB_from_speaker": boxes_of(rows, from_speaker(rows, rows["level"])),
        },
        "pitch": {
            "Hz": boxes_of(rows, rows["f0"]),
            "semitones_from_speaker": boxes_of(rows, from_speaker(rows, 12 * np.log2(rows["f0"]))),
            "range_semitones": boxes_of(rows, rows["f0_range"]),
        },
        "examples": {
            corpus: {emotion: str(rows.at[place, "name"]) for emotion, place in places.items()}
            for corpus, places in examples.items()
        },
    }


def write_utterances(path: Path, measured: Measurements) -> None:
    """A row an utterance, with what was measured of it; empty where there is no number."""
    rows = measured.rows[["name", "person", "emotion", "sentence"]]
    rows = rows.rename(columns={"name": "utterance", "person": "speaker"})
    for name in NUMBERS:
        rows[name] = ["" if np.isnan(number) else f"{number:.7g}" for number in measured.rows[name]]
    write_table(path, rows)


def draw_pictures(
    out: Path, utterances: UtteranceTable, result: Mapping[str, Any], examples: Examples
) -> dict[str, str]:
    """Write every picture; returns file name → what it shows."""
    facts = result["facts"]
    emotions = {corpus: counted["emotions"] for corpus, counted in facts.items()}
    plot_counts(out / "emotions.png", emotions, "Utterances of each emotion")
    speakers = {corpus: counted["speakers"] for corpus, counted in facts.items()}
    plot_speakers(out / "speakers.png", speakers, "Utterances of each speaker")
    lengths = result["lengths"]
    plot_lengths(out / "lengths.png", lengths["edges"], lengths["counts"], "Lengths of utterances")
    captions = {
        "emotions.png": "Utterances by emotion.",
        "speakers.png": "Utterances by speaker and emotion. A bold 0: the corpus has this emotion, but not "
        "the speaker.",
        "lengths.png": "Lengths of utterances, in seconds.",
    }
    for corpus, places in examples.items():
        sounds = {
            emotion: Sound(
                str(utterances.rows.at[place, "name"]),
                utterances.signal(place),
                utterances.stored_features(place, ["mel"]),
            )
            for emotion, place in places.items()
        }
        name = picture_name(corpus, captions)
        plot_sounds(out / name, sounds, f"{corpus}: how emotions sound")
        captions[name] = describe_examples(utterances, corpus, places)
    return captions | draw_boxes(out, result)


def draw_boxes(out: Path, result: Mapping[str, Any]) -> dict[str, str]:
    """The pictures of level and pitch; as `draw_pictures`."""
    low, high = F0_RANGE
    boxes = "Box: median and quartiles; whiskers: 5th and 95th percentile."
    level, pitch = result["level"], result["pitch"]
    panels = {"dB, 0 is full scale": level["dB"], "dB from the speaker's median": level["dB_from_speaker"]}
    plot_boxes(out / "level.png", panels, "Loudness of utterances")
    panels = {
        "median F0, Hz": pitch["Hz"],
        "semitones from the\nspeaker's median": pitch["semitones_from_speaker"],
        "range of F0, semitones": pitch["range_semitones"],
    }
    plot_boxes(out / "pitch.png", panels, "Pitch of utterances")
    return {
        "level.png": "Loudness: root mean square of an utterance around its mean, without its quiet ends, in "
        f"dB. {boxes}",
        "pitch.png": f"Pitch: fundamental frequency (F0) of voiced frames, {low:.0f} to {high:.0f} Hz, by "
        "YIN; the median of an utterance, and the range from its 10th to its 90th percentile. "
        f"{boxes}",
    }


def picture_name(corpus: str, taken: Mapping[str, str]) -> str:
    """sounds-<corpus>.png, in characters that any system has; numbered where two corpora would share it."""
    name = f"sounds-{re.sub(r'[^A-Za-z0-9_.-]', '_', corpus)}"
    return f"{name}.png" if f"{name}.png" not in taken else f"{name}-{len(taken)}.png"


def describe_examples(utterances: UtteranceTable, corpus: str, places: Mapping[str, int]) -> str:
    """Which utterances stand for the emotions of a corpus."""
    chosen = utterances.rows.loc[list(places.values())]
    speakers, sentences = (sorted(chosen[name].unique()) for name in ("speaker", "sentence"))
    of = f"speaker {speakers[0]}" if len(speakers) == 1 else f"speakers {', '.join(speakers)}"
    if len(sentences) == 1 and sentences[0]:
        of += f", sentence {sentences[0]}"
    return (
        f"{corpus}: waveform (amplitude) and mel spectrum (128 bands) of one utterance for each emotion, the "
        f"one of median length of {of}. All rows share their scales."
    )


def describe_stores(result: Mapping[str, Any], title: str, captions: Mapping[str, str]) -> str:
    """The page, as Markdown."""
    facts = result["facts"]
    emotions = order_labels(emotion for counted in facts.values() for emotion in counted["emotions"])
    bites = [f"- {as_text(note)}" for note in result["notes"]] or ["Nothing was found."]
    lines = [
        f"# {as_text(title)}",
        "",
        table({corpus: cells_of(counted, emotions) for corpus, counted in facts.items()}),
        "",
        "## Speakers",
        *(f"\n{as_text(f'{corpus}: {line}')}" for corpus, line in speakers_of(result).items()),
        "",
        "## What may bite in training",
        "",
        *bites,
        "",
        "## Pictures",
        *(f"\n![{as_text(caption)}]({name})" for name, caption in captions.items()),
        "",
        "## How it was measured",
        *(f"\n{as_text(paragraph)}" for paragraph in describe_method(result)),
        "",
    ]
    return "\n".join(lines)


def speakers_of(result: Mapping[str, Any], most: int = LISTED_GROUPS) -> dict[str, str]:
    """Corpus → its speakers, each with the number of its utterances."""
    return {
        corpus: name_speakers({name: sum(n.values()) for name, n in counted["speakers"].items()}, most)
        for corpus, counted in result["facts"].items()
    }


def describe_method(result: Mapping[str, Any]) -> list[str]:
    """How the numbers were measured, in paragraphs."""
    looked_at = sum(counted["n_closely"] for counted in result["facts"].values())
    total = sum(counted["n_utterances"] for counted in result["facts"].values())
    which = "all utterances"
    if looked_at < total:
        which = (
            f"{looked_at:,} of the {total:,} utterances, at most {result['sample']:,} of each corpus and "
            f"emotion, drawn with seed {result['seed']}"
        )
    low, high = F0_RANGE
    return [
        "Augmented copies are left out everywhere. Quiet ends are what lies "
        f"{QUIET:.0f} dB below the loudest window at either end of an utterance; classifiers that hear "
        "waveforms are trained without them. Silent windows hold zeros alone. An utterance is clipped "
        f"if {CLIPPED} samples or more are at full scale. An offset is a mean that isn't 0.",
        f"Pitch and spectrum are of {which}. Pitch is followed every 23 ms in frames of 46 ms, between "
        f"{low:.0f} and {high:.0f} Hz, by YIN after a high-pass filter. A frame is voiced if it "
        f"lies within {LOUD:.0f} dB of the loudest and correlates by {PERIODIC} or more with itself one "
        f"period later; an utterance of fewer than {VOICED_FRAMES} such frames has no pitch. YIN errs by "
        "an octave now and then, hence medians and percentiles.",
        f"The numbers are in result.json, those of each utterance in {UTTERANCES}.",
    ]


def cells_of(counted: Mapping[str, Any], emotions: tuple[str, ...]) -> dict[str, str]:
    """The column of one corpus in the table of facts."""

    def share(part: int, whole: int) -> str:
        return f"{part:,} ({100 * part / whole:.3g} %)" if part else "0"

    n, level, hertz = counted["n_utterances"], counted["level"], counted["highest_hertz"]
    return {
        "utterances": f"{n:,}",
        "augmented copies": f"{counted['n_copies']:,}",
        "speakers": f"{counted['n_speakers']:,}",
        "utterances of unknown speakers": f"{counted['n_speaker_unknown']:,}",
        "sentences": f"{counted['n_sentences']:,}" if counted["n_sentences"] else "not known",
        "hours": f"{counted['hours']:.2f}",
        "shortest, median, longest (s)": ", ".join(f"{seconds:.2f}" for seconds in counted["seconds"]),
        **{emotion: share(counted["emotions"].get(emotion, 0), n) for emotion in emotions},
        "windows": f"{counted['n_windows']:,}",
        "silent windows": share(counted["n_silent_windows"], counted["n_windows"]),
        "quiet ends, share of the time": f"{100 * counted['quiet_ends']:.1f} %",
        "silent utterances": share(counted["n_silent"], n),
        "no longer than a window": share(counted["n_one_window"], n),
        "clipped": share(counted["n_clipped"], n),
        "offset, share of the RMS, median": (
            "–" if counted["offset"] is None else f"{100 * counted['offset']:.2g} %"
        ),
        "without a voiced stretch": share(counted["n_unvoiced"], counted["n_closely"]),
        "loudness, median (dB)": "–" if level is None else f"{level:.1f}",
        "sound reaches up to (kHz)": "–" if hertz is None else f"{hertz / 1000:.1f}",
    }


def headlines(result: Mapping[str, Any]) -> list[str]:
    """What a command line says of it: a line a corpus, and what may bite."""
    return [
        *(
            f"{corpus}: {count(counted['n_utterances'], 'utterance')} of "
            f"{count(counted['n_speakers'], 'speaker')}, {counted['hours']:.2f} h, "
            f"{', '.join(counted['emotions'])}"
            for corpus, counted in result["facts"].items()
        ),
        *(f"{corpus}, speakers: {line}" for corpus, line in speakers_of(result, LISTED).items()),
        *result["notes"],
    ]
