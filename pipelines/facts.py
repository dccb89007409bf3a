"""What a corpus holds, in numbers: what is measured of each utterance, what is counted, what may bite."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fins.audio import FULL_SCALE, SAMPLE_RATE, WINDOW, Signal
from fins.features import N_MELS, mel_centres
from fins.store import EMOTIONS
from pipelines.ledger import LISTED, shorten
from ser_heads.data import UtteranceTable, trim
from ser_heads.pitch import track_pitch

UNKNOWN = "unknown"  # the speaker of utterances whose speaker no column and no folder tells
VOICED_FRAMES = 5  # fewer, 0.1 s, tell no pitch
AUDIBLE_BAND = 60.0  # dB below the strongest band of mel
CLIPPED = 5  # samples at full scale; a peak that was normalised is one or two
IMBALANCE = 1.5  # of the commonest emotion to the rarest, worth a remark
OFFSET = 0.1  # of the RMS, worth a remark
SPEAKER_GAP = 12.0  # dB between speakers, worth a remark
LEVEL_GAP = 6.0  # dB between corpora, worth a remark
BAND_GAP = 1.2  # of corpora's highest frequencies, worth a remark


@dataclass(frozen=True)
class Measured:
    """Originals of a table, and what is measured of each.

    rows : (n,) places in the table; corpus, speaker, emotion : (n,) of each
    numbers : name → (n,), NaN where there is none
        seconds : as stored; heard : seconds without quiet ends
        level : of what is heard, RMS around its mean, dB, 0 at full scale
        offset : size of that mean, as a share of the RMS around 0
        silent_windows : of zeros alone; full_scale : samples there, of either sign
        f0 : Hz, median of voiced frames; f0_range : semitones, from their 10th to their 90th percentile
        voiced : share of the frames; these three only of those that were looked at closely
    spectrum : corpus → (128,) mel power, summed over windows of those that were looked at closely
    """

    rows: NDArray[np.int64]
    corpus: NDArray
    speaker: NDArray
    emotion: NDArray
    numbers: dict[str, NDArray[np.float64]]
    spectrum: dict[str, NDArray[np.float64]]


NUMBERS = ("seconds", "heard", "level", "offset", "silent_windows", "full_scale", "f0", "f0_range", "voiced")


def measure(table: UtteranceTable, sample: int, seed: int) -> Measured:
    """What is cheap, of every original; pitch and spectrum, of `sample` of each corpus and emotion.

    seed : of their draw
    One utterance is held in memory at a time. Raises ValueError if there is none.
    """
    rows = np.flatnonzero(table.columns["augmented_from"] == "")
    if len(rows) == 0:
        raise ValueError("the stores hold no utterances: make them again with python -m pipelines.prepare")
    corpus, emotion = table.columns["corpus"][rows], table.columns["emotion"][rows]
    numbers = {name: np.full(len(rows), np.nan) for name in NUMBERS}
    spectrum = {name: np.zeros(N_MELS) for name in sorted(set(corpus))}
    closely = draw(corpus, emotion, sample, seed)
    for place, row in enumerate(tqdm(map(int, rows), total=len(rows), unit=" utterances", leave=False)):
        signal = table.signal(row)
        heard = trim(signal)
        its = {
            "seconds": len(signal) / SAMPLE_RATE,
            "heard": len(heard) / SAMPLE_RATE,
            **level_of(heard),
            "silent_windows": float((table.stored_features(row, ["rms"]) == 0).sum()),
            "full_scale": float((np.abs(signal) >= (FULL_SCALE - 1) / FULL_SCALE).sum()),
        }
        if place in closely:
            its |= pitch_of(heard)
            spectrum[corpus[place]] += table.stored_features(row, ["mel"]).sum(axis=0, dtype=np.float64)
        for name, value in its.items():
            numbers[name][place] = value
    return Measured(rows, corpus, table.speakers[rows], emotion, numbers, spectrum)


def draw(corpus: NDArray, emotion: NDArray, most: int, seed: int) -> set[int]:
    """Places of at most so many of each corpus and emotion; what one of them gets depends on no other."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, key in enumerate(zip(corpus, emotion, strict=True)):
        groups[key].append(place)
    drawn = (np.random.default_rng(seed).permutation(members)[:most] for members in groups.values())
    return {int(place) for places in drawn for place in places}


def level_of(signal: Signal) -> dict[str, float]:
    """level and offset, as in `Measured`; a constant has no level, silence neither."""
    samples = signal.astype(np.float64)
    offset, power, variance = samples.mean(), np.square(samples).mean(), samples.var()
    return {
        "level": 10 * np.log10(variance) if variance > 0 else np.nan,
        "offset": abs(offset) / np.sqrt(power) if power > 0 else np.nan,
    }


def pitch_of(signal: Signal) -> dict[str, float]:
    """f0, f0_range and voiced, as in `Measured`; of fewer than 5 voiced frames no pitch is told."""
    pitch = track_pitch(signal)
    voiced = pitch[~np.isnan(pitch)]
    its = {"voiced": len(voiced) / len(pitch)}
    if len(voiced) >= VOICED_FRAMES:
        low, middle, high = np.percentile(voiced, [10, 50, 90])
        its |= {"f0": middle, "f0_range": 12 * np.log2(high / low)}
    return its


def from_speaker(measured: Measured, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) less the median over their speaker's utterances; NaN where the speaker isn't known."""
    speakers, speaker = np.unique(measured.speaker, return_inverse=True)
    result = np.full(len(values), np.nan)
    for place, name in enumerate(speakers):
        its = (speaker == place) & ~np.isnan(values)
        if its.any() and not is_unknown(name):
            result[its] = values[its] - np.median(values[its])
    return result


def is_unknown(speaker: str) -> bool:
    """Whether "corpus/speaker" names nobody."""
    return speaker.rsplit("/", 1)[-1] == UNKNOWN


def boxes_of(measured: Measured, values: NDArray[np.float64]) -> dict[str, dict[str, dict[str, float]]]:
    """Corpus → emotion → n, and the percentiles low (5), lower (25), median, upper (75) and high (95).

    An emotion without a value has no entry.
    """
    boxes: dict[str, dict[str, dict[str, float]]] = {}
    for corpus in measured.spectrum:
        boxes[corpus] = {}
        for emotion in EMOTIONS:
            its = values[(measured.corpus == corpus) & (measured.emotion == emotion) & ~np.isnan(values)]
            if len(its):
                points = np.percentile(its, [5, 25, 50, 75, 95]).tolist()
                names = ("low", "lower", "median", "upper", "high")
                boxes[corpus][emotion] = {"n": len(its), **dict(zip(names, points, strict=True))}
    return boxes


def facts_of(table: UtteranceTable, measured: Measured, corpus: str) -> dict[str, Any]:
    """Counts of one corpus; what is a share lies in [0, 1]."""
    its = measured.corpus == corpus
    rows = measured.rows[its]
    columns = {name: values[rows] for name, values in table.columns.items()}
    numbers = {name: values[its] for name, values in measured.numbers.items()}
    emotions = Counter(columns["emotion"])
    speakers: dict[str, Counter[str]] = {}
    said: dict[str, Counter[str]] = {}
    for speaker, sentence, emotion in zip(
        columns["speaker"], columns["sentence"], columns["emotion"], strict=True
    ):
        speakers.setdefault(speaker, Counter())[emotion] += 1
        if sentence:
            said.setdefault(sentence, Counter())[emotion] += 1
    ordered = {emotion: emotions[emotion] for emotion in EMOTIONS if emotions[emotion]}
    one_emotion = sum(sum(counts.values()) for counts in said.values() if len(counts) == 1)
    n_windows = int(columns["n_windows"].sum())
    return {
        "n_utterances": len(rows),
        "n_copies": int((table.columns["corpus"] == corpus).sum()) - len(rows),
        "n_speakers": len(speakers),
        "n_speaker_unknown": sum(speakers.get(UNKNOWN, {}).values()),
        "hours": float(numbers["seconds"].sum() / 3600),
        "seconds": [float(point) for point in np.percentile(numbers["seconds"], [0, 50, 100])],
        "emotions": ordered,
        "speakers": {
            speaker: {
                emotion: speakers[speaker][emotion] for emotion in ordered if speakers[speaker][emotion]
            }
            for speaker in sorted(speakers)
        },
        "n_sentences": len(said),
        "one_emotion_sentences": one_emotion / sum(map(Counter.total, said.values())) if said else None,
        "n_windows": n_windows,
        "n_silent_windows": int(numbers["silent_windows"].sum()),
        "quiet_ends": float(1 - numbers["heard"].sum() / numbers["seconds"].sum()),
        "n_silent": int(np.isnan(numbers["level"]).sum()),
        "n_one_window": int((columns["n_samples"] <= WINDOW).sum()),
        "n_clipped": int((numbers["full_scale"] >= CLIPPED).sum()),
        "n_full_scale_samples": int(numbers["full_scale"].sum()),
        "level": _median(numbers["level"]),
        "speaker_levels": {
            speaker: _median(numbers["level"][columns["speaker"] == speaker]) for speaker in sorted(speakers)
        },
        "offset": _median(numbers["offset"]),
        "highest_hertz": highest_of(measured.spectrum[corpus]),
        "n_closely": int((~np.isnan(numbers["voiced"])).sum()),
        "n_unvoiced": int((~np.isnan(numbers["voiced"]) & np.isnan(numbers["f0"])).sum()),
    }


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def highest_of(spectrum: NDArray[np.float64]) -> float | None:
    """Hz, the centre of the highest band of mel that is within 60 dB of the strongest; None for silence."""
    if spectrum.max() <= 0:
        return None
    return float(mel_centres()[np.flatnonzero(spectrum >= spectrum.max() * 10 ** (-AUDIBLE_BAND / 10))[-1]])


def find_identical(table: UtteranceTable, measured: Measured) -> list[list[str]]:
    """Groups of utterances that were made from byte-identical files, as "corpus/id (emotion)"."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row, emotion in zip(measured.rows, measured.emotion, strict=True):
        if table.columns["sha256"][row]:
            groups[table.columns["sha256"][row]].append(f"{table.names[row]} ({emotion})")
    return [names for names in groups.values() if len(names) > 1]


def choose_examples(table: UtteranceTable, measured: Measured, corpus: str) -> dict[str, int]:
    """Emotion → a row of the table that stands for it, and can be compared with those of the others.

    All are of one speaker, the first of those with most emotions, and of one sentence where one is said in
    all of these; of them the one of median length. An emotion that is missing then is another speaker's, and
    silence is taken only if there is nothing else.
    """
    places = np.flatnonzero(measured.corpus == corpus)
    audible = places[~np.isnan(measured.numbers["level"][places])]
    known = audible[[not is_unknown(speaker) for speaker in measured.speaker[audible]]]
    pools = [pool for pool in (known, audible, places) if len(pool)]
    chosen = _richest(pools[0], measured.speaker, measured.emotion)
    of_sentence = _richest(chosen, table.columns["sentence"][measured.rows], measured.emotion)
    if len(set(measured.emotion[of_sentence])) == len(set(measured.emotion[chosen])):
        chosen = of_sentence
    examples = {}
    for emotion in EMOTIONS:
        for pool in (chosen, audible, places):
            its = measured.rows[pool[measured.emotion[pool] == emotion]]
            if len(its):
                by_length = its[np.argsort(table.columns["n_samples"][its], kind="stable")]
                examples[emotion] = int(by_length[(len(its) - 1) // 2])
                break
    return examples


def _richest(places: NDArray[np.int64], groups: NDArray, emotion: NDArray) -> NDArray[np.int64]:
    """Of some places those of the group with most emotions, among equals the first by name."""
    members = (places[groups[places] == name] for name in sorted(set(groups[places])))
    return max(members, key=lambda its: len(set(emotion[its])))


def find_trouble(facts: Mapping[str, Mapping[str, Any]], identical: Sequence[Sequence[str]]) -> list[str]:
    """What may bite in training, a sentence each: first of each corpus, then of all together."""
    notes = [f"{corpus}: {note}" for corpus, its in facts.items() for note in _trouble_of(its)]
    if identical:
        groups = shorten([" = ".join(names) for names in identical], LISTED)
        notes.append(f"byte-identical files, which have to stay in one part: {groups}")
    if len(facts) == 1:
        return notes
    for emotion in EMOTIONS:
        having = [corpus for corpus, its in facts.items() if emotion in its["emotions"]]
        if len(having) == 1:
            notes.append(
                f"{emotion} is in {having[0]} alone: what tells that corpus from others tells {emotion}"
            )
    levels = {corpus: its["level"] for corpus, its in facts.items() if its["level"] is not None}
    if levels and max(levels.values()) - min(levels.values()) > LEVEL_GAP:
        said = ", ".join(f"{corpus} {level:.0f}" for corpus, level in levels.items())
        notes.append(f"the corpora differ in level (medians in dB: {said}): it tells them apart")
    highest = {corpus: its["highest_hertz"] for corpus, its in facts.items() if its["highest_hertz"]}
    if highest and max(highest.values()) > BAND_GAP * min(highest.values()):
        said = ", ".join(f"{corpus} {hertz / 1000:.1f}" for corpus, hertz in highest.items())
        notes.append(f"the corpora differ in how high they reach (kHz: {said}): it tells them apart")
    return notes


def _trouble_of(its: Mapping[str, Any]) -> list[str]:
    """What may bite in one corpus."""
    notes = []
    emotions, n = its["emotions"], its["n_utterances"]
    most, least = max(emotions, key=emotions.__getitem__), min(emotions, key=emotions.__getitem__)
    if len(emotions) == 1:
        notes.append(f"but one emotion, {most}: there is nothing to tell apart")
    elif emotions[most] >= IMBALANCE * emotions[least]:
        ratio = emotions[most] / emotions[least]
        notes.append(
            f"{most} is {ratio:.1f} times as frequent as {least}: always answering {most} has a WA of "
            f"{100 * emotions[most] / n:.3g} % and a UAR of {100 / len(emotions):.3g} %"
        )
    if its["n_speaker_unknown"]:
        notes.append(
            f"{count(its['n_speaker_unknown'], 'utterance')} of unknown speakers, who count as one: scores "
            "on unseen speakers can't be trusted"
        )
    if its["n_speakers"] < 3:
        of = "one speaker" if its["n_speakers"] == 1 else "two speakers"
        notes.append(f"{of}: under the protocol speaker all of it trains, beside another corpus")
    lacking = [
        f"{speaker} (no {', '.join(missing)})"
        for speaker, counts in its["speakers"].items()
        if (missing := [emotion for emotion in emotions if emotion not in counts])
    ]
    if lacking:
        notes.append(
            f"{len(lacking)} of {its['n_speakers']} speakers lack an emotion, so who speaks tells what it "
            f"isn't: {shorten(lacking, LISTED)}"
        )
    share = its["one_emotion_sentences"]
    if share and len(emotions) > 1:
        notes.append(
            f"{100 * share:.0f} % of the utterances have a sentence that is said with one emotion only: "
            "words tell emotions"
        )
    if its["n_silent"]:
        notes.append(f"{count(its['n_silent'], 'utterance')} of digital silence from end to end")
    if its["n_one_window"]:
        notes.append(f"{count(its['n_one_window'], 'utterance')} no longer than a window, 93 ms")
    if its["n_clipped"]:
        notes.append(f"{count(its['n_clipped'], 'utterance')} clipped at full scale")
    levels = {speaker: level for speaker, level in its["speaker_levels"].items() if level is not None}
    if levels and max(levels.values()) - min(levels.values()) > SPEAKER_GAP:
        softest, loudest = min(levels, key=levels.__getitem__), max(levels, key=levels.__getitem__)
        notes.append(
            f"speakers differ in level, from {levels[softest]:.0f} dB ({softest}) to {levels[loudest]:.0f} "
            f"({loudest}): a soft speaker may pass for a soft emotion"
        )
    if its["offset"] is not None and its["offset"] > OFFSET:
        notes.append(
            f"an offset that is {100 * its['offset']:.0f} % of the RMS (median): it moves zcr and rms, and "
            "hides quiet ends from trimming"
        )
    return notes


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def write_utterances(path: Path, table: UtteranceTable, measured: Measured) -> None:
    """A row an utterance, with what was measured of it; empty where there is no number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "speaker", "emotion", "sentence", *NUMBERS])
        for place, row in enumerate(measured.rows):
            values = [measured.numbers[name][place] for name in NUMBERS]
            cells = ["" if np.isnan(value) else f"{value:.7g}" for value in values]
            sentence = table.columns["sentence"][row]
            writer.writerow(
                [table.names[row], table.speakers[row], measured.emotion[place], sentence, *cells]
            )
