"""Pictures of what a corpus holds; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from fins.audio import HOP, SAMPLE_RATE, WINDOW, Signal
from fins.data.exploration.findings import Boxes
from fins.features.spectrum import N_MELS, mel_centres
from fins.figures import BLUE, COLOURS, ORANGE, new_figure, save_figure

MOST_SPEAKERS = 60
MEL_RANGE = 60.0  # dB that a spectrum shows
BOX = {"med": "median", "q1": "lower", "q3": "upper", "whislo": "low", "whishi": "high"}  # matplotlib's words

Counts = Mapping[str, Mapping[str, int]]  # of corpora or speakers: emotion → utterances


@dataclass(frozen=True)
class Sound:
    """One utterance to be drawn: its signal, (n_samples,), and its mel power, (n_windows, 128)."""

    name: str
    signal: Signal
    mel: NDArray[np.float32]


def plot_counts(path: Path, counts: Counts, title: str) -> None:
    """Bars of utterances for each emotion, one colour a corpus."""
    emotions = _emotions_of(counts)
    figure, axis = new_figure(10, 3.8)
    axis.set_axisbelow(True)
    for corpus, colour, at, width in _side_by_side(counts, emotions):
        values = [counts[corpus].get(emotion, 0) for emotion in emotions]
        bars = axis.bar(at, values, width, color=colour, label=_plain(corpus))
        upright = {"fontsize": 8} if len(counts) < 3 else {"fontsize": 7, "rotation": 90}
        axis.bar_label(bars, [f"{n:,}" if n else "" for n in values], padding=2, **upright)
    axis.margins(y=0.12)
    axis.set(ylabel="utterances")
    _name_emotions(axis, emotions)
    _name_corpora(axis, counts)
    save_figure(figure, path, _plain(title))


def plot_speakers(path: Path, counts: Mapping[str, Counts], title: str) -> None:
    """A table: a row a speaker, a column an emotion; numbers that aren't their corpus's usual one stand out.

    counts : corpus → speaker → emotion → utterances. Of an emotion that the corpus has a 0 is marked, others
        are left blank. The usual number is the median over the corpus's speakers
    Of many speakers those with the fewest utterances are drawn, and the title says so.
    """
    usual = {corpus: _medians_of(speakers) for corpus, speakers in counts.items()}
    drawn = [(corpus, speaker) for corpus, speakers in counts.items() for speaker in speakers]
    if len(drawn) > MOST_SPEAKERS:
        fewest = sorted(drawn, key=lambda key: sum(counts[key[0]][key[1]].values()))[:MOST_SPEAKERS]
        title += f"; the {MOST_SPEAKERS} of {len(drawn)} with the fewest"
        drawn = [key for key in drawn if key in fewest]
    emotions = _emotions_of(usual)
    figure, axis = new_figure(2.6 + 0.8 * len(emotions), 1.7 + 0.2 * len(drawn))
    for row, (corpus, speaker) in enumerate(drawn):
        for column, emotion in enumerate(emotions):
            n, expected = counts[corpus][speaker].get(emotion, 0), usual[corpus].get(emotion)
            if expected is None:
                continue
            if n != expected:
                axis.barh(row, 0.94, 0.9, column - 0.47, color=BLUE if n > expected else ORANGE, alpha=0.25)
            weight = "normal" if n else "bold"
            axis.text(column, row, f"{n}", ha="center", va="center", fontsize=7, weight=weight)
    axis.set_xlim(-0.5, len(emotions) - 0.5)
    axis.set_ylim(len(drawn) - 0.5, -0.5)
    axis.set_xticks(range(len(emotions)), emotions)
    axis.set_yticks(range(len(drawn)), [_plain("/".join(key)) for key in drawn], fontsize=7)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    if axis.patches:
        note = "tinted: more (blue) or fewer (red) than the median of the corpus's speakers"
        axis.set_xlabel(note, fontsize=8)
    save_figure(figure, path, _plain(title))


def _medians_of(speakers: Counts) -> dict[str, float]:
    """Emotion → the median over speakers of how many utterances each has, of emotions that any has."""
    return {
        emotion: float(np.median([counts.get(emotion, 0) for counts in speakers.values()]))
        for emotion in _emotions_of(speakers)
    }


def plot_lengths(path: Path, edges: Sequence[float], counts: Mapping[str, Sequence[int]], title: str) -> None:
    """A histogram of seconds, one outline a corpus, in shares of it, so that small ones can be seen.

    edges : (n + 1,) s; counts : corpus → (n,) utterances
    """
    figure, axis = new_figure(10, 3.4)
    for (corpus, values), colour in zip(counts.items(), _colours(len(counts)), strict=True):
        share = 100 * np.asarray(values) / max(1, sum(values))
        axis.stairs(share, edges, color=colour, lw=1.5, label=_plain(corpus))
        axis.stairs(share, edges, color=colour, alpha=0.15, fill=True)
    axis.set(xlabel="seconds", ylabel="% of the corpus's utterances")
    axis.set_xlim(0, None)
    axis.grid(axis="y", alpha=0.3)
    if len(counts) > 1:
        axis.legend(frameon=False)
    save_figure(figure, path, _plain(title))


def plot_sounds(path: Path, sounds: Mapping[str, Sound], title: str) -> None:
    """A row an emotion: the waveform, and the mel spectrum of its windows; all rows share their scales.

    Colours span 60 dB below the level that one band in 200 exceeds: a few strong ones would darken the rest.
    """
    figure, axes = new_figure(11, 1 + 1.35 * len(sounds), 2, len(sounds))
    rows = np.reshape(axes, (len(sounds), 2))
    loudest = max(float(np.abs(sound.signal).max()) for sound in sounds.values()) or 1.0
    decibels = {name: 10 * np.log10(np.maximum(sound.mel, 1e-10)) for name, sound in sounds.items()}
    top = float(np.percentile(np.concatenate([values.ravel() for values in decibels.values()]), 99.5))
    seconds = max(len(sound.signal) for sound in sounds.values()) / SAMPLE_RATE
    for (emotion, sound), (wave, spectrum) in zip(sounds.items(), rows, strict=True):
        wave.plot(np.arange(len(sound.signal)) / SAMPLE_RATE, sound.signal, color=BLUE, lw=0.4)
        wave.set(ylim=(-1.05 * loudest, 1.05 * loudest), ylabel=emotion)
        wave.set_title(_plain(sound.name), fontsize=8, loc="left")
        image = _draw_spectrum(spectrum, decibels[emotion], top)
        for axis in (wave, spectrum):
            axis.set_xlim(0, seconds)
            axis.tick_params(labelsize=8, labelbottom=sound is list(sounds.values())[-1])
    for axis in rows[-1]:
        axis.set(xlabel="seconds")
    label = "power of the band, dB"
    figure.colorbar(image, ax=rows[:, 1], label=label, aspect=10 + 5 * len(sounds), pad=0.02, extend="both")
    save_figure(figure, path, _plain(title))


def _draw_spectrum(axis: Any, decibels: NDArray[np.float32], top: float) -> Any:
    """(n_windows, 128) dB over seconds and Hz, each window at its middle; returns the image."""
    first = (WINDOW - HOP) / 2 / SAMPLE_RATE
    marks = np.array([250, 1_000, 4_000])
    image = axis.imshow(
        decibels.T,
        extent=(first, first + HOP * len(decibels) / SAMPLE_RATE, -0.5, N_MELS - 0.5),
        aspect="auto",
        origin="lower",
        vmin=top - MEL_RANGE,
        vmax=top,
        cmap="magma",
    )
    axis.set_yticks(np.interp(marks, mel_centres(), np.arange(N_MELS)), [f"{mark:,}" for mark in marks])
    axis.set(ylabel="Hz")
    return image


def plot_boxes(path: Path, panels: Mapping[str, Boxes], title: str) -> None:
    """A panel under another, each with a box for every emotion and corpus: median, quartiles, 5 and 95 %.

    panels : what a panel's axis says → its boxes, all of the same corpora
    """
    figure, axes = new_figure(10, 0.8 + 2.9 * len(panels), 1, len(panels))
    for axis, (label, boxes) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        emotions = _emotions_of(boxes)
        axis.set_axisbelow(True)
        for corpus, colour, at, width in _side_by_side(boxes, emotions):
            placed = zip(at, (boxes[corpus].get(emotion) for emotion in emotions), strict=True)
            drawn = [(place, box) for place, box in placed if box]
            axis.bxp(
                [{key: box[name] for key, name in BOX.items()} | {"label": ""} for _, box in drawn],
                positions=[place for place, _ in drawn],
                widths=0.85 * width,
                showfliers=False,
                showcaps=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": colour, "edgecolor": "none", "alpha": 0.55},
                whiskerprops={"color": colour},
                medianprops={"color": "black", "lw": 1.5},
            )
            axis.plot([], color=colour, lw=6, alpha=0.55, label=_plain(corpus))
        axis.set(ylabel=label)
        _name_emotions(axis, emotions)
        if not emotions:
            axis.text(0.5, 0.5, "nothing to draw", transform=axis.transAxes, ha="center")
            axis.set(xticks=[], yticks=[])
    _name_corpora(np.atleast_1d(axes)[0], next(iter(panels.values())))
    save_figure(figure, path, _plain(title))


def _emotions_of(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that any corpus or speaker has, in the order of labels."""
    return list(order_labels(name for row in table.values() for name, value in row.items() if value))


def _side_by_side(table: Mapping[str, Any], emotions: Sequence[str]) -> list[tuple[str, str, NDArray, float]]:
    """Of each corpus: its name and colour, where its bars stand, and how wide they are."""
    width = 0.84 / max(1, len(table))
    return [
        (corpus, colour, np.arange(len(emotions)) + (place - (len(table) - 1) / 2) * width, width)
        for place, (corpus, colour) in enumerate(zip(table, _colours(len(table)), strict=True))
    ]


def _name_emotions(axis: Any, emotions: Sequence[str]) -> None:
    axis.set_xticks(range(len(emotions)), emotions)
    axis.set_xlim(-0.6, max(1, len(emotions)) - 0.4)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y", alpha=0.3)


def _name_corpora(axis: Any, table: Mapping[str, Any]) -> None:
    """A legend beside an axis where there are several corpora."""
    if len(table) > 1:
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _colours(n: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(n)]


def _plain(name: str) -> str:
    """A name as it is: matplotlib reads what stands between dollars as a formula."""
    return name.replace("$", r"\$")
