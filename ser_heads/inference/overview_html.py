"""An overview as HTML: a verdict, notes, and under the waveform a strip for each label over time.

The static page draws the same elements by its script, for the same style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from ser_heads.inference.overview import STRETCH, Overview

WIDTH, HEIGHT = 1_000, 100  # units of a drawing, which is stretched to its place
STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120)  # seconds between marks of time
MOST_MARKS = 5
NOTHING_WRONG = "Nothing wrong was found with the recording."


def as_html(overview: Overview) -> str:
    """All of it, as one element."""
    best = max(overview.shares, key=overview.shares.__getitem__)
    of_what = f"mean over {len(overview.along)} stretches" if overview.is_mean else "the whole recording"
    verdict = (
        f'<p class="verdict"><strong>{escape(best)}</strong> <span>{percent(overview.shares[best])}, '
        f"{of_what} of {time_text(overview.seconds)}</span></p>"
    )
    return f'<section class="answer">{verdict}{notes_html(overview.notes)}{chart(overview, best)}</section>'


def problem_html(sentence: str) -> str:
    """Why there is no answer."""
    return f'<section class="answer"><p class="problem" role="alert">{escape(sentence)}</p></section>'


def notes_html(notes: Sequence[str]) -> str:
    """What is wrong with the recording, or that nothing is."""
    if not notes:
        return f'<p class="notes">{NOTHING_WRONG}</p>'
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<div class="notes wrong"><p>Mind the recording:</p><ul>{items}</ul></div>'


def chart(overview: Overview, best: str) -> str:
    """Rows under each other on one axis of time: the waveform, then labels, the likeliest first."""
    labels = sorted(overview.shares, key=lambda label: -overview.shares[label])
    rows = [
        row("head", "", f"<span>stretches of {STRETCH:g} s</span>", "overall"),
        row("wave", "", drawing(wave_path(overview))),
    ]
    for label in labels:
        share = overview.shares[label]
        kind = "strip best" if label == best else "strip"
        along = [prediction.probabilities[label] for prediction in overview.along]
        rows.append(row(kind, label, drawing(strip_path(overview, along)), percent(share), f"{share:.6f}"))
    rows.append(row("axis", "", marks(overview.seconds)))
    summary = ", ".join(f"{label} {percent(overview.shares[label])}" for label in labels)
    return f'<figure class="chart" role="img" aria-label="{escape(summary)}">{"".join(rows)}</figure>'


def row(kind: str, name: str, middle: str, share: str = "", exact: str = "") -> str:
    """A name, what is drawn over time, and a number."""
    data = f' data-label="{escape(name)}" data-share="{exact}"' if exact else ""
    return (
        f'<div class="row {kind}"{data}><span class="name">{escape(name)}</span>'
        f'<span class="track">{middle}</span><span class="share">{share}</span></div>'
    )


def drawing(path: str) -> str:
    """A path that fills its place."""
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {box} aria-hidden="true"><path d="{path}"/></svg>'


def wave_path(overview: Overview) -> str:
    """The outline of the waveform, as high as its largest amplitude."""
    columns = overview.columns / max(float(abs(overview.columns).max()), 1e-4)
    step = WIDTH / len(columns)
    middle = HEIGHT / 2
    over = [f"{i * step:.1f} {middle - high * (middle - 1) - 0.5:.1f}" for i, (_, high) in enumerate(columns)]
    under = [f"{i * step:.1f} {middle - low * (middle - 1) + 0.5:.1f}" for i, (low, _) in enumerate(columns)]
    return f"M{' L'.join([*over, *reversed(under)])}Z"


def strip_path(overview: Overview, along: Sequence[float]) -> str:
    """The area under a label's probability: at each time that of the stretch whose middle is nearest."""
    middles = [prediction.start + prediction.seconds / 2 for prediction in overview.along]
    ends = [(one + other) / 2 for one, other in pairwise(middles)]
    parts = [f"M0 {HEIGHT}"]
    for share, end in zip(along, [*ends, overview.seconds], strict=True):
        parts.append(f"V{HEIGHT * (1 - share):.2f}H{WIDTH * end / overview.seconds:.1f}")
    return f"{''.join(parts)}V{HEIGHT}Z"


def marks(seconds: float) -> str:
    """Where times are on the axis."""
    step = next((step for step in STEPS if seconds / step <= MOST_MARKS), STEPS[-1])
    times = [step * number for number in range(int(seconds / step) + 1)]
    return "".join(
        f'<i style="left:{100 * time / seconds:.2f}%">{time_text(time)}</i>'
        for time in times
        if time <= 0.95 * seconds
    )


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def time_text(seconds: float) -> str:
    """Of seconds below a minute with one digit behind the point, where it isn't 0; else as 1:05."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
