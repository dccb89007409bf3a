"""Numbers of README.md and docs, and what each rests on.

A line that quotes scores names them behind it, in their order, in a comment that no reader sees:

    | `fin` on RAVDESS | UAR 67.3 % (63.3 to 71.3) | <!-- results: fin-ravdess uar low high -->
    frozen HuBERT-large reaches 70.0 <!-- results: cited -->

`cited` is somebody else's number, `earlier` one whose run wasn't kept. A whole section of such numbers has a
line `<!-- not certified: REASON -->` below its heading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fins.learning.r2 import r2_text
from fins.networks import SHIPPED
from fins.runs import read_json

METRIC = re.compile(r"\b(?:UAR|WA|F1|ECE|R²|[Rr]ecall|[Aa]ccuracy|[Cc]alibration|points)(?!\w)")
NUMBER = re.compile(
    r"(?<![\w.,])(?:1 - \de-\d+|[-+]?\d{0,3}\.\d+(?!\.?\w)|(?!95 %)[-+]?\d{1,3}(?= (?:%|points?\b)))"
)
"""What may be a score: with decimals, in % or in points; 95 % is the level of intervals."""
HIDDEN = re.compile(r"`[^`]*`|<!--.*?-->|\]\([^)]*\)")
REFERENCE = re.compile(r"<!-- results: (.+?) -->")
NOT_CERTIFIED = re.compile(r"<!-- not certified: (.+?) -->")
CITED, EARLIER = "cited", "earlier"
SHORT = {"low": "interval_95.uar.0", "high": "interval_95.uar.1", "ece": "calibration_error"}
SHORT |= {f"even_{short}": f"even.{key}" for short, key in {"uar": "uar", **SHORT}.items()}
HURRY = "name its run behind it (<!-- results: NAME uar -->), or cited, or earlier"


@dataclass
class Quotes:
    """Of some pages: a sentence for each number that differs or names nothing, and how many rest on what."""

    differences: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class PageLine:
    """A line that says something.

    number : from 1; scored : whether its passage speaks of scores; reason : why its section isn't certified
    """

    number: int
    text: str
    scored: bool
    reason: str

    @property
    def numbers(self) -> list[str]:
        return NUMBER.findall(HIDDEN.sub(" ", self.text))

    @property
    def references(self) -> list[tuple[str, str]]:
        """Source and key of each number that the comment names."""
        named = REFERENCE.search(self.text)
        groups = [group.split() for group in named[1].split(",")] if named else []
        return [(words[0], key) for words in groups if words for key in words[1:] or [""]]


def lines_of(text: str) -> Iterator[PageLine]:
    """Of a page in Markdown, without code; a table speaks of scores if the passage before it does."""
    reason, level, scored, code = "", 0, False, False
    lines = text.split("\n")
    for start, line in enumerate(lines):
        fence = line.lstrip().startswith("```")
        code ^= fence
        if code or fence or not line.strip():
            continue
        heading = re.match(r"(#+) ", line)
        if heading and len(heading[1]) <= level:
            reason, level = "", 0
        if marked := NOT_CERTIFIED.fullmatch(line.strip()):
            reason, level = marked[1], _level_above(lines[:start])
        elif HIDDEN.sub("", line).strip():
            if not (start and lines[start - 1].strip()):  # a passage begins
                passage = " ".join(_passage(lines[start:]))
                scored = bool(METRIC.search(passage)) or (scored and line.startswith("|"))
            yield PageLine(start + 1, line, scored, reason)


def _passage(lines: list[str]) -> Iterator[str]:
    """The lines up to an empty one."""
    for line in lines:
        if not line.strip():
            return
        yield line


def _level_above(lines: list[str]) -> int:
    """How many # the nearest heading has."""
    return next((len(line) - len(line.lstrip("#")) for line in reversed(lines) if re.match("#+ ", line)), 1)


def compare_page(page: str, text: str, sources: Mapping[str, Mapping[str, Any]], quotes: Quotes) -> None:
    """Add what a page quotes, and where it differs.

    page : its name; a README.md quotes what is kept or cited, and nothing else
    sources : name of an entry → its scores
    """
    for line in lines_of(text):
        place, numbers, references = f"{page}:{line.number}", line.numbers, each_of(line.references, sources)
        differences = []
        if references:
            if len(references) != len(numbers):
                differences.append(
                    f"{place} has {len(numbers)} numbers ({', '.join(numbers) or 'none'}) and names "
                    f"{len(references)} scores: name one for each, in their order"
                )
            else:
                for number, reference in zip(numbers, references, strict=True):
                    differences += compare_number(place, number, reference, sources, quotes)
        elif line.reason:
            quotes.counts[f"{page}, {line.reason}"] += len(numbers)
        elif line.scored and numbers:
            differences.append(f"{place} has {', '.join(numbers)} and doesn't say of which run: {HURRY}")
        if page.endswith("README.md") and (line.reason or (EARLIER, "") in references):
            differences.append(f"{place} quotes what isn't certified: README.md quotes results/ alone")
        quotes.differences += differences


def each_of(
    references: list[tuple[str, str]], sources: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """References of which one to a list, such as uar_of_runs, is to each of its values."""
    each = []
    for name, key in references:
        values = value_at(sources.get(name, {}), key)
        several = isinstance(values, list)
        each += [(name, f"{key}.{n}") for n in range(len(values))] if several else [(name, key)]
    return each


def compare_number(
    place: str,
    number: str,
    reference: tuple[str, str],
    sources: Mapping[str, Mapping[str, Any]],
    quotes: Quotes,
) -> list[str]:
    """Nothing, or the sentence that says how a number differs from what it names."""
    name, key = reference
    if name in (CITED, EARLIER):
        quotes.counts[f"{place.rpartition(':')[0]}, {name}" if name == EARLIER else name] += 1
        return []
    is_fin = name in SHIPPED
    if not is_fin and name not in sources:
        return [f"{place} names {name}, which isn't in results/"]
    value = scores_of_card(name).get(key) if is_fin else value_at(sources[name], SHORT.get(key, key))
    if not isinstance(value, float):
        return [f"{place} names {key or 'nothing'} of {name}, which is no score"]
    decimals = len(number.partition(".")[2])
    expected = r2_text(value) if is_fin else f"{100 * value:.{decimals}f}"
    quotes.counts["cards" if is_fin else "results"] += 1
    return (
        [] if number.lstrip("+") == expected else [f"{place} has {number}, but {key} of {name} is {expected}"]
    )


def value_at(scores: Mapping[str, Any], key: str) -> Any:
    """What lies at a path such as per_corpus.savee.uar or uar_of_runs.0, the first; None for nothing."""
    value: Any = scores
    for word in key.split("."):
        if isinstance(value, Mapping):
            value = value.get(word)
        else:
            value = (
                value[int(word)] if isinstance(value, list) and word in map(str, range(len(value))) else None
            )
    return value


def scores_of_card(name: str) -> dict[str, float]:
    """Of a FIN that comes with the package: corpus → its uniform R², by the card of its weights."""
    return {row["corpus"]: row["uniform"] for row in read_json(SHIPPED[name].with_suffix(".json"))["r2"]}
