"""python -m pipelines.explore: what stores hold, in pictures and numbers, before anything learns from it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fins.command import run_command
from fins.runs import RESULT, held, read_json, write_json
from fins.store import EMOTIONS
from pipelines.facts import (
    CLIPPED,
    VOICED_FRAMES,
    Measured,
    boxes_of,
    choose_examples,
    count,
    facts_of,
    find_identical,
    find_trouble,
    from_speaker,
    measure,
    write_utterances,
)
from pipelines.pages import bullets, heading, paragraph, picture, tabulate, write_page
from pipelines.results import check_out, check_stores
from ser_heads.corpus_plots import (
    Sound,
    plot_boxes,
    plot_counts,
    plot_lengths,
    plot_sounds,
    plot_speakers,
)
from ser_heads.data import QUIET, UtteranceTable
from ser_heads.pitch import F0_RANGE, LOUD, PERIODIC

PAGE, UTTERANCES = "index.html", "utterances.csv"
N_BINS = 25  # of lengths


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


def main(config: ExploreConfig) -> None:
    """Measure, count, draw, write."""
    started = time.monotonic()
    check(config)
    out = config.out or Path("runs") / f"explore-{'-'.join(path.stem for path in config.store)}"
    check_out(out)
    if (out / RESULT).exists() and "facts" not in read_json(out / RESULT):
        raise ValueError(f"{out} holds another result: choose another --out")
    table = UtteranceTable(config.store, trimmed=False)
    with held(out):
        (out / RESULT).unlink(missing_ok=True)
        measured = measure(table, config.sample, config.seed)
        examples = {corpus: choose_examples(table, measured, corpus) for corpus in measured.spectrum}
        result = {
            "stores": [str(path) for path in config.store],
            "sample": config.sample,
            "seed": config.seed,
            **summarise(table, measured, examples),
        }
        write_utterances(out / UTTERANCES, table, measured)
        pictures = draw_pictures(out, table, result, examples)
        title = f"What is in {', '.join(result['facts'])}"
        write_page(out / PAGE, title, describe(out, result, pictures))
        result["seconds"] = round(time.monotonic() - started, 1)
        write_json(out / RESULT, result)  # last: its presence says that the folder is whole
    for corpus, its in result["facts"].items():
        print(
            f"{corpus}: {count(its['n_utterances'], 'utterance')} of {count(its['n_speakers'], 'speaker')}, "
            f"{its['hours']:.2f} h, {', '.join(its['emotions'])}"
        )
    print("\n".join(result["notes"]))
    print(f"written to {out}; open {PAGE} in a browser")


def check(config: ExploreConfig) -> None:
    """ValueError for options that can't be meant."""
    if not config.store:
        raise ValueError("there is nothing to explore: give --store, made by pipelines.prepare")
    check_stores(config.store)
    if config.sample < 1:
        raise ValueError("--sample is at least 1")
    if config.seed < 0:
        raise ValueError("--seed is at least 0")


def summarise(
    table: UtteranceTable, measured: Measured, examples: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """The facts of each corpus, what may bite, and the numbers behind every picture."""
    facts = {corpus: facts_of(table, measured, corpus) for corpus in measured.spectrum}
    identical = find_identical(table, measured)
    seconds, level, f0 = (measured.numbers[name] for name in ("seconds", "level", "f0"))
    edges = np.histogram_bin_edges(seconds, N_BINS)
    counts = {corpus: np.histogram(seconds[measured.corpus == corpus], edges)[0].tolist() for corpus in facts}
    return {
        "facts": facts,
        "identical": identical,
        "notes": find_trouble(facts, identical),
        "lengths": {"edges": edges.tolist(), "counts": counts},
        "level": {
            "dB": boxes_of(measured, level),
            "dB_from_speaker": boxes_of(measured, from_speaker(measured, level)),
        },
        "pitch": {
            "Hz": boxes_of(measured, f0),
            "semitones_from_speaker": boxes_of(measured, from_speaker(measured, 12 * np.log2(f0))),
            "range_semitones": boxes_of(measured, measured.numbers["f0_range"]),
        },
        "examples": {
            corpus: {emotion: table.names[row] for emotion, row in rows.items()}
            for corpus, rows in examples.items()
        },
    }


def draw_pictures(
    out: Path, table: UtteranceTable, result: Mapping[str, Any], examples: Mapping[str, Mapping[str, int]]
) -> dict[str, str]:
    """Write every picture; returns file name → what it shows."""
    facts = result["facts"]
    low, high = F0_RANGE
    boxes = "Box: median and quartiles; whiskers: 5th and 95th percentile."
    plot_counts(
        out / "emotions.png", {c: its["emotions"] for c, its in facts.items()}, "Utterances of each emotion"
    )
    speakers = {f"{c}/{s}": counts for c, its in facts.items() for s, counts in its["speakers"].items()}
    expected = {f"{c}/{s}": list(its["emotions"]) for c, its in facts.items() for s in its["speakers"]}
    plot_speakers(out / "speakers.png", speakers, expected, "Utterances of each speaker")
    plot_lengths(
        out / "lengths.png", result["lengths"]["edges"], result["lengths"]["counts"], "Lengths of utterances"
    )
    pictures = {
        "emotions.png": "Utterances by emotion.",
        "speakers.png": "Utterances by speaker and emotion. A marked 0: the corpus has this emotion, but not "
        "the speaker.",
        "lengths.png": "Lengths of utterances, in seconds.",
    }
    for corpus, rows in examples.items():
        sounds = {
            emotion: Sound(table.names[row], table.signal(row), table.stored_features(row, ["mel"]))
            for emotion, row in rows.items()
        }
        name = picture_name(corpus, pictures)
        plot_sounds(out / name, sounds, f"{corpus}: how emotions sound")
        pictures[name] = describe_examples(table, corpus, rows)
    level, pitch = result["level"], result["pitch"]
    panels = {"dB, 0 is full scale": level["dB"], "dB from the speaker's median": level["dB_from_speaker"]}
    plot_boxes(out / "level.png", panels, "Loudness of utterances")
    pictures["level.png"] = (
        f"Loudness: root mean square of an utterance around its mean, without its quiet ends, in dB. {boxes}"
    )
    panels = {
        "median F0, Hz": pitch["Hz"],
        "semitones from the\nspeaker's median": pitch["semitones_from_speaker"],
        "range of F0, semitones": pitch["range_semitones"],
    }
    plot_boxes(out / "pitch.png", panels, "Pitch of utterances")
    pictures["pitch.png"] = (
        f"Pitch: fundamental frequency (F0) of voiced frames, {low:.0f} to {high:.0f} Hz, by YIN; the median "
        f"of an utterance, and the range from its 10th to its 90th percentile. {boxes}"
    )
    return pictures


def picture_name(corpus: str, taken: Mapping[str, str]) -> str:
    """sounds-<corpus>.png, in characters that any system has; numbered where two corpora would share it."""
    name = f"sounds-{re.sub(r'[^A-Za-z0-9_.-]', '_', corpus)}"
    return f"{name}.png" if f"{name}.png" not in taken else f"{name}-{len(taken)}.png"


def describe_examples(table: UtteranceTable, corpus: str, rows: Mapping[str, int]) -> str:
    """Which utterances stand for the emotions of a corpus."""
    speakers, sentences = (
        sorted({table.columns[name][row] for row in rows.values()}) for name in ("speaker", "sentence")
    )
    of = f"speaker {speakers[0]}" if len(speakers) == 1 else f"speakers {', '.join(speakers)}"
    if len(sentences) == 1 and sentences[0]:
        of += f", sentence {sentences[0]}"
    return (
        f"{corpus}: waveform (amplitude) and mel spectrum (128 bands) of one utterance for each emotion, the "
        f"one of median length of {of}. All rows share their scales."
    )


def describe(out: Path, result: Mapping[str, Any], pictures: Mapping[str, str]) -> list[str]:
    """The pieces of the page."""
    facts = result["facts"]
    drawn = sum(its["n_closely"] for its in facts.values())
    total = sum(its["n_utterances"] for its in facts.values())
    which = "all utterances"
    if drawn < total:
        which = (
            f"{drawn:,} of the {total:,} utterances, at most {result['sample']:,} of each corpus and "
            f"emotion, drawn with seed {result['seed']}"
        )
    low, high = F0_RANGE
    return [
        tabulate({corpus: cells_of(its) for corpus, its in facts.items()}),
        heading("What may bite in training"),
        bullets(result["notes"]) if result["notes"] else paragraph("Nothing was found."),
        heading("Pictures"),
        *(picture(out / name, caption) for name, caption in pictures.items()),
        heading("How it was measured"),
        paragraph(
            "Augmented copies are left out everywhere. Quiet ends are what lies "
            f"{QUIET:.0f} dB below the loudest window at either end of an utterance; classifiers that hear "
            "waveforms are trained without them. Silent windows hold zeros alone. An utterance is clipped "
            f"if {CLIPPED} samples or more are at full scale. An offset is a mean that isn't 0."
        ),
        paragraph(
            f"Pitch and spectrum are of {which}. Pitch is followed every 23 ms in frames of 46 ms, between "
            f"{low:.0f} and {high:.0f} Hz, by YIN after a high-pass filter. A frame is voiced if it "
            f"lies within {LOUD:.0f} dB of the loudest and correlates by {PERIODIC} or more with itself one "
            f"period later; an utterance of fewer than {VOICED_FRAMES} such frames has no pitch. YIN errs by "
            "an octave now and then, hence medians and percentiles."
        ),
        paragraph(f"The numbers are in result.json, those of each utterance in {UTTERANCES}."),
    ]


def cells_of(its: Mapping[str, Any]) -> dict[str, str]:
    """The column of one corpus in the table of facts."""

    def share(part: int, whole: int) -> str:
        return f"{part:,} ({100 * part / whole:.3g} %)" if part else "0"

    shortest, middle, longest = its["seconds"]
    cells = {
        "utterances": f"{its['n_utterances']:,}",
        "augmented copies": f"{its['n_copies']:,}",
        "speakers": f"{its['n_speakers']:,}",
        "utterances of unknown speakers": f"{its['n_speaker_unknown']:,}",
        "sentences": f"{its['n_sentences']:,}" if its["n_sentences"] else "not known",
        "hours": f"{its['hours']:.2f}",
        "shortest, median, longest (s)": f"{shortest:.2f}, {middle:.2f}, {longest:.2f}",
    }
    cells |= {emotion: share(its["emotions"].get(emotion, 0), its["n_utterances"]) for emotion in EMOTIONS}
    level, hertz = its["level"], its["highest_hertz"]
    return cells | {
        "windows": f"{its['n_windows']:,}",
        "silent windows": share(its["n_silent_windows"], its["n_windows"]),
        "quiet ends, share of the time": f"{100 * its['quiet_ends']:.1f} %",
        "silent utterances": share(its["n_silent"], its["n_utterances"]),
        "no longer than a window": share(its["n_one_window"], its["n_utterances"]),
        "clipped": share(its["n_clipped"], its["n_utterances"]),
        "offset, share of the RMS, median": "–" if its["offset"] is None else f"{100 * its['offset']:.2g} %",
        "without a voiced stretch": share(its["n_unvoiced"], its["n_closely"]),
        "loudness, median (dB)": "–" if level is None else f"{level:.1f}",
        "sound reaches up to (kHz)": "–" if hertz is None else f"{hertz / 1000:.1f}",
    }


if __name__ == "__main__":
    run_command(main, ExploreConfig, ExploreConfig.__doc__ or "")
