"""Words for emotions: the eight that are labels by default, other words for them, and labels of one's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

EMOTIONS = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The labels where none are named, in the order of a classifier's logits."""

# Other words for the same emotion. Codes of one corpus (`su`, `W`, `06`) are spelled out in its file.
SYNONYMS = {
    **dict.fromkeys(("anger", "ang"), "angry"),
    **dict.fromkeys(("calmness", "cal"), "calm"),
    **dict.fromkeys(("disgusted", "dis"), "disgust"),
    **dict.fromkeys(("fearful", "fea", "afraid"), "fear"),
    **dict.fromkeys(("happiness", "hap", "joy", "joyful"), "happy"),
    **dict.fromkeys(("neu",), "neutral"),
    **dict.fromkeys(("sadness",), "sad"),
    **dict.fromkeys(("surprised", "sur", "ps", "pleasant_surprise", "pleasant_surprised"), "surprise"),
}
# Different emotions that the literature counts as one of these.
MERGED = dict.fromkeys(("exc", "excited", "excitement"), "happy")

Action = Literal["used", "mapped", "merged", "dropped"]
NO_MAPPING: Mapping[str, str] = MappingProxyType({})
FORBIDDEN = ",/\\="  # in labels: they name folders, columns and pairs


def resolve(
    word: str, labels: Sequence[str] = EMOTIONS, mapping: Mapping[str, str] = NO_MAPPING
) -> tuple[str, Action]:
    """The label for a corpus's word, and the action that takes it there.

    word : any case; spaces and hyphens count as underscores
    labels : matched in the same way, and returned as they are written here
    mapping : further words, each with the label that it means
    returns : (one of `labels`, "used", "mapped" or "merged"), or ("", "dropped") for any other word.
        Synonyms of the eight count where these are among the labels.
    """
    known = _known_words(tuple(labels), tuple(mapping.items()))
    return known.get(normalise(word), ("", "dropped"))


@lru_cache(maxsize=64)
def _known_words(
    labels: tuple[str, ...], mapping: tuple[tuple[str, str], ...]
) -> dict[str, tuple[str, Action]]:
    """Every normalised word that means one of the labels, with what `resolve` answers."""
    written = {normalise(label): label for label in labels}
    others: list[tuple[str, str, Action]] = [
        *((word, label, "merged") for word, label in MERGED.items()),
        *((word, label, "mapped") for word, label in (*SYNONYMS.items(), *mapping)),
    ]
    known: dict[str, tuple[str, Action]] = {
        normalise(word): (written[normalise(label)], action)
        for word, label, action in others
        if normalise(label) in written
    }
    return known | {word: (label, "used") for word, label in written.items()}


def normalise(word: str) -> str:
    """A word as it is compared: lower case, one underscore for any spaces, hyphens and underscores."""
    composed = unicodedata.normalize("NFC", word)  # some systems take names of files apart: u and ¨ for ü
    return "_".join(composed.casefold().replace("-", " ").replace("_", " ").split())


def order_labels(words: Iterable[str]) -> tuple[str, ...]:
    """Each word once: those of the eight in their order, then all others sorted."""
    distinct = set(words)
    return (*(word for word in EMOTIONS if word in distinct), *sorted(distinct - set(EMOTIONS)))


def parse_labels(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Labels and mapping from words and pairs `word=label`; pairs alone leave the eight as the labels.

    Raises ValueError as `check_labels` does, and where a word is paired with two labels.
    """
    labels = tuple(word.strip() for word in words if "=" not in word) or EMOTIONS
    mapping: dict[str, str] = {}
    for word, _, label in (pair.partition("=") for pair in words if "=" in pair):
        if mapping.setdefault(normalise(word), label.strip()) != label.strip():
            raise ValueError(f"{word} is to mean {mapping[normalise(word)]} and {label}: choose one")
    check_labels(labels, mapping)
    return labels, mapping


def is_label(word: str) -> bool:
    """Whether a word can name a class, in tables, in folders and on command lines."""
    return word.isprintable() and any(map(str.isalnum, word)) and not set(word) & set(FORBIDDEN)


def check_labels(labels: Sequence[str], mapping: Mapping[str, str] = NO_MAPPING) -> None:
    """Raises ValueError unless labels are two different words or more, and mapped words are others."""
    written: dict[str, str] = {}
    for label in labels:
        if not is_label(label):
            raise ValueError(
                f"{label!r} can't be a label: a label has letters or digits, no comma, no slash, no ="
            )
        if normalise(label) in written:
            raise ValueError(f"the labels {written[normalise(label)]} and {label} are one: give it once")
        written[normalise(label)] = label
    if len(labels) < 2:
        raise ValueError(f"labels are at least two words, got {', '.join(labels) or 'none'}: name them all")
    for word, label in mapping.items():
        if normalise(label) not in written:
            raise ValueError(f"{word}={label}: {label!r} is none of the labels {', '.join(labels)}")
        if not normalise(word) or normalise(word) in written:
            raise ValueError(f"{word}={label}: write another word before it, which is no label itself")
