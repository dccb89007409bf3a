"""What a corpus holds, in numbers: what is counted, what stands for it, what may bite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from data_manifests.ledger import LISTED, shorten
from data_manifests.manifest import UNKNOWN
from fins.audio import WINDOW
from fins.data.exploration.measure import Measurements
from fins.features.spectrum import mel_centres

AUDIBLE_BAND = 60.0  # dB below the strongest band of mel
CLIPPED = 5  # samples at full scale; a peak that was normalised is one or two
IMBALANCE = 1.5  # of the commonest emotion to the rarest, worth a remark
MARKED_OFFSET = 0.1  # of the RMS, worth a remark
SPEAKER_GAP = 12.0  # dB between speakers, worth a remark
LEVEL_GAP = 6.0  # dB between corpora, worth a remark
BAND_GAP = 1.2  # of corpora's highest frequencies, worth a remark
POINTS = {"low": 5, "lower": 25, "median": 50, "upper": 75, "high": 95}  # of a box, percentiles

Boxes = dict[str, dict[str, dict[str, float]]]  # corpus → emotion → n and POINTS


def from_speaker(rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    """(n,) less the median over their speaker's utterances; NaN where the speaker isn't known."""
    medians = values.groupby([rows["corpus"], rows["speaker"]]).transform("median")
    return (values - medians).where(rows["speaker"] != UNKNOWN)


def boxes_of(rows: pd.DataFrame, values: pd.Series) -> Boxes:
    """Corpus → emotion → n, and the percentiles low (5), lower (25), median, upper (75) and high (95).

    An emotion without a value has no entry.
    """
    boxes: Boxes = {corpus: {} for corpus in sorted(set(rows["corpus"]))}
    known = values[values.notna()]
    groups = known.groupby([rows["corpus"], rows["emotion"]])
    for emotion in order_labels(rows["emotion"]):
        for corpus, box in boxes.items():
            if (corpus, emotion) in groups.groups:
                numbers = groups.get_group((corpus, emotion)).to_numpy()
                points = np.percentile(numbers, list(POINTS.values())).tolist()
                box[emotion] = {"n": len(numbers), **dict(zip(POINTS, points, strict=True))}
    return boxes


def facts_of(measured: Measurements, corpus: str) -> dict[str, Any]:
    """Counts of one corpus; what is a share lies in [0, 1]."""
    rows = measured.rows[measured.rows["corpus"] == corpus]
    counts = Counter(rows["emotion"])
    emotions = {emotion: counts[emotion] for emotion in order_labels(counts)}
    looked_at = rows["voiced"].notna()
    by_speaker = rows.groupby("speaker")
    return {
        "n_utterances": len(rows),
        "n_copies": measured.n_copies[corpus],
        "n_speakers": int(rows["speaker"].nunique()),
        "n_speaker_unknown": int((rows["speaker"] == UNKNOWN).sum()),
        "hours": float(rows["seconds"].sum() / 3600),
        "seconds": [float(point) for point in np.percentile(rows["seconds"], [0, 50, 100])],
        "emotions": emotions,
        "speakers": {
            speaker: {emotion: n for emotion in emotions if (n := int((members == emotion).sum()))}
            for speaker, members in by_speaker["emotion"]
        },
        **_sentence_facts(rows),
        "n_windows": int(rows["n_windows"].sum()),
        "n_silent_windows": int(rows["silent_windows"].sum()),
        "quiet_ends": float(1 - rows["heard"].sum() / rows["seconds"].sum()),
        "n_silent": int(rows["level"].isna().sum()),
        "n_one_window": int((rows["n_samples"] <= WINDOW).sum()),
        "n_clipped": int((rows["full_scale"] >= CLIPPED).sum()),
        "n_full_scale_samples": int(rows["full_scale"].sum()),
        "level": _median(rows["level"]),
        "speaker_levels": {speaker: _median(levels) for speaker, levels in by_speaker["level"]},
        "offset": _median(rows["offset"]),
        "highest_hertz": highest_of(measured.spectrum[corpus]),
        "n_closely": int(looked_at.sum()),
        "n_unvoiced": int((looked_at & rows["f0"].isna()).sum()),
    }


def _sentence_facts(rows: pd.DataFrame) -> dict[str, Any]:
    """How many sentences there are, and the share of utterances whose sentence tells the emotion."""
    known = rows[rows["sentence"] != ""]
    n_emotions = known.groupby("sentence")["emotion"].transform("nunique")
    return {
        "n_sentences": int(known["sentence"].nunique()),
        "one_emotion_sentences": float((n_emotions == 1).mean()) if len(known) else None,
    }


def _median(values: pd.Series) -> float | None:
    median = values.median()
    return None if pd.isna(median) else float(median)


def highest_of(spectrum: NDArray[np.float64]) -> float | None:
    """Hz, the centre of the highest band of mel that is within 60 dB of the strongest; None for silence."""
    if spectrum.max() <= 0:
        return None
    return float(mel_centres()[np.flatnonzero(spectrum >= spectrum.max() * 10 ** (-AUDIBLE_BAND / 10))[-1]])


def find_identical(rows: pd.DataFrame) -> list[list[str]]:
    """Groups of utterances that were made from byte-identical files, as "corpus/id (emotion)"."""
    named = rows["name"] + " (" + rows["emotion"] + ")"
    groups = named[rows["sha256"] != ""].groupby(rows["sha256"], sort=False)
    return [list(names) for _, names in groups if len(names) > 1]


def choose_examples(measured: Measurements, corpus: str) -> dict[str, int]:
    """Emotion → the place of an utterance that stands for it, and can be compared with those of the others.

    All are of one speaker, the first of those with most emotions, and of one sentence where one is said in
    all of these; of them the one of median length. An emotion that is missing then is another speaker's, and
    silence is taken only if there is nothing else.
    """
    rows = measured.rows[measured.rows["corpus"] == corpus]
    audible = rows[rows["level"].notna()]
    known = audible[audible["speaker"] != UNKNOWN]
    chosen = _richest(next(pool for pool in (known, audible, rows) if len(pool)), "speaker")
    of_sentence = _richest(chosen, "sentence")
    if of_sentence["emotion"].nunique() == chosen["emotion"].nunique():
        chosen = of_sentence
    examples = {}
    for emotion in order_labels(rows["emotion"]):
        pools = (pool[pool["emotion"] == emotion] for pool in (chosen, audible, rows))
        by_length = next(pool for pool in pools if len(pool)).sort_values("n_samples", kind="stable")
        examples[emotion] = int(by_length.index[(len(by_length) - 1) // 2])
    return examples


def _richest(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Those of the group with most emotions, among equals the first by name."""
    return max((members for _, members in rows.groupby(column)), key=lambda group: group["emotion"].nunique())


def find_trouble(facts: Mapping[str, Mapping[str, Any]], identical: Sequence[Sequence[str]]) -> list[str]:
    """What may bite in training, a sentence each: first of each corpus, then of all together."""
    notes = [
        f"{corpus}: {note}"
        for corpus, counted in facts.items()
        for find in (_trouble_with_labels, _trouble_with_speakers, _trouble_with_sound)
        for note in find(counted)
    ]
    if identical:
        groups = shorten([" = ".join(names) for names in identical], LISTED)
        notes.append(f"byte-identical files, which have to stay in one part: {groups}")
    return notes if len(facts) == 1 else [*notes, *_trouble_between(facts)]


def _trouble_between(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What tells corpora apart."""
    notes = []
    for emotion in order_labels(emotion for counted in facts.values() for emotion in counted["emotions"]):
        having = [corpus for corpus, counted in facts.items() if emotion in counted["emotions"]]
        if len(having) == 1:
            notes.append(
                f"{emotion} is in {having[0]} alone: what tells that corpus from others tells {emotion}"
            )
    levels = {corpus: counted["level"] for corpus, counted in facts.items() if counted["level"] is not None}
    if levels and max(levels.values()) - min(levels.values()) > LEVEL_GAP:
        listed = ", ".join(f"{corpus} {level:.0f}" for corpus, level in levels.items())
        notes.append(f"the corpora differ in level (medians in dB: {listed}): it tells them apart")
    highest = {corpus: counted["highest_hertz"] for corpus, counted in facts.items()}
    highest = {corpus: hertz for corpus, hertz in highest.items() if hertz}
    if highest and max(highest.values()) > BAND_GAP * min(highest.values()):
        listed = ", ".join(f"{corpus} {hertz / 1000:.1f}" for corpus, hertz in highest.items())
        notes.append(f"the corpora differ in how high they reach (kHz: {listed}): it tells them apart")
    return notes


def _trouble_with_labels(counted: Mapping[str, Any]) -> list[str]:
    """What may bite in how often one corpus has its emotions."""
    notes = []
    emotions, n = counted["emotions"], counted["n_utterances"]
    most, least = max(emotions, key=emotions.__getitem__), min(emotions, key=emotions.__getitem__)
    if len(emotions) == 1:
        notes.append(f"but one emotion, {most}: there is nothing to tell apart")
    elif emotions[most] >= IMBALANCE * emotions[least]:
        ratio = emotions[most] / emotions[least]
        notes.append(
            f"{most} is {ratio:.1f} times as frequent as {least}: always answering {most} has a WA of "
            f"{100 * emotions[most] / n:.3g} % and a UAR of {100 / len(emotions):.3g} %"
        )
    return notes


def _trouble_with_speakers(counted: Mapping[str, Any]) -> list[str]:
    """What may bite in who speaks, and in what is said."""
    notes = []
    if counted["n_speaker_unknown"]:
        notes.append(
            f"{count(counted['n_speaker_unknown'], 'utterance')} of unknown speakers, who count as one: "
            "scores on unseen speakers can't be trusted"
        )
    if counted["n_speakers"] < 3:
        of = "one speaker" if counted["n_speakers"] == 1 else "two speakers"
        notes.append(f"{of}: under the protocol speaker all of it trains, beside another corpus")
    lacking = [
        f"{speaker} (no {', '.join(missing)})"
        for speaker, counts in counted["speakers"].items()
        if (missing := [emotion for emotion in counted["emotions"] if emotion not in counts])
    ]
    if lacking:
        notes.append(
            f"{len(lacking)} of {counted['n_speakers']} speakers lack an emotion, so who speaks tells what "
            f"it isn't: {shorten(lacking, LISTED)}"
        )
    share = counted["one_emotion_sentences"]
    if share and len(counted["emotions"]) > 1:
        notes.append(
            f"{100 * share:.0f} % of the utterances have a sentence that is said with one emotion only: "
            "words tell emotions"
        )
    return notes


def _trouble_with_sound(counted: Mapping[str, Any]) -> list[str]:
    """What may bite in how one corpus was recorded."""
    notes = []
    for key, what in (
        ("n_silent", "of digital silence from end to end"),
        ("n_one_window", "no longer than a window, 93 ms"),
        ("n_clipped", "clipped at full scale"),
    ):
        if counted[key]:
            notes.append(f"{count(counted[key], 'utterance')} {what}")
    levels = {speaker: level for speaker, level in counted["speaker_levels"].items() if level is not None}
    if levels and max(levels.values()) - min(levels.values()) > SPEAKER_GAP:
        softest, loudest = min(levels, key=levels.__getitem__), max(levels, key=levels.__getitem__)
        notes.append(
            f"speakers differ in level, from {levels[softest]:.0f} dB ({softest}) to {levels[loudest]:.0f} "
            f"({loudest}): a soft speaker may pass for a soft emotion"
        )
    if counted["offset"] is not None and counted["offset"] > MARKED_OFFSET:
        notes.append(
            f"an offset that is {100 * counted['offset']:.0f} % of the RMS (median): it moves zcr and rms, "
            "and hides quiet ends from trimming"
        )
    return notes


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
