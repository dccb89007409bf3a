"""From the files under a root to a listing: each is read by its name and accounted for, none is decoded."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from data_manifests.endings import how_to_read, is_audio, is_convertible, is_lossless
from data_manifests.labels import Action, normalise
from data_manifests.ledger import LedgerRow, Listing, explain_labels
from data_manifests.manifest import MANIFESTS, Utterance, read_manifest, split_segment
from data_manifests.walking import LEAVES, files_under, leaves

UNFINISHED = "unfinished-corpus.json"  # lies in a corpus that is being written, until it is whole
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class ParsedName:
    """What a corpus says about one file.

    id : empty where the file is none of the corpus
    label : the corpus's own word for the emotion
    drop : why the file can't be used, or empty
    note : what is odd about a file that can be used, or empty
    here : false where the file is named but not on disk
    outside : where the file isn't in the root, so that it is neither opened nor hashed
    unknown : words that could be its label, where the corpus finds that none of them is
    second : of several files of one take, whether one of another place is the better one
    """

    id: str = ""
    speaker: str = ""
    label: str = ""
    sentence: str = ""
    intensity: str = ""
    part: str = ""
    drop: str = ""
    note: str = ""
    here: bool = True
    outside: bool = False
    unknown: tuple[str, ...] = ()
    second: bool = False


Named = list[tuple[str, ParsedName]]  # every file's path, relative to the root, and what its name says
Parser = Callable[[PurePosixPath], ParsedName | None]
Resolver = Callable[[str], tuple[str, Action]]  # `labels.resolve` with the labels and the mapping in use


@dataclass(frozen=True)
class Corpus:
    """How a corpus is read. Raises ValueError unless it has one of `parse` and `read`.

    example : of its paths, for error messages
    parse : from a path relative to the root to what it says; None where the name is not one of the corpus's
    read : instead, where a path alone doesn't say all: from the root to every file; its last argument is
        whether links out of the root are followed
    is_table : the root is a table of files, not a folder; its rows are the manifest
    describe : what else a person has to know of the root, in lines
    """

    example: str
    parse: Parser | None = None
    read: Callable[[Path, Resolver, bool], Named] | None = None
    is_table: bool = False
    describe: Callable[[Path], tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        if (self.parse is None) == (self.read is None):
            raise ValueError(f"a corpus such as {self.example} has either parse or read")

    def names(self, root: Path, resolver: Resolver, follow: bool = False) -> Named:
        """Every file under the root, sorted by path; follow : also through links out of it."""
        if self.read is not None:
            return self.read(root, resolver, follow)
        assert self.parse is not None
        return parse_files(root, self.parse, follow)


def parse_files(root: Path, parse: Parser, follow: bool = False) -> Named:
    """Every file under a folder, in which the path alone says everything."""
    whole = os.path.realpath(root)
    names = []
    for path in files_under(root, follow):
        outside = not follow and leaves(root / path, whole)
        parsed = parse_file(path, root, parse)
        names.append((path, replace(parsed, drop=LEAVES, outside=True) if outside else parsed))
    return names


def parse_file(path: str, root: Path, parse: Parser) -> ParsedName:
    """What a path says, or the reason why it says nothing."""
    pure = PurePosixPath(path)
    # Some systems leave hidden `._name.wav` beside each file: an audio ending, no audio.
    if is_convertible(path):
        ending = pure.suffix.lower()[1:]
        return ParsedName(drop=f"{ending} isn't decoded here, convert it, {how_to_read(f'clip.{ending}')}")
    if not is_audio(path):
        return ParsedName(drop="not audio")
    if any(folder.startswith(".") for folder in pure.parts):
        return ParsedName(drop="in a hidden folder")
    if any("\udc80" <= sign <= "\udcff" for sign in path):
        return ParsedName(drop="a name that isn't UTF-8: rename it")
    if not (root / path).is_file():
        there = os.path.lexists(root / path) and (root / path).exists()
        return ParsedName(drop="no plain file" if there else "a link to nothing", here=False)
    return parse(pure) or ParsedName(drop="not a name of this corpus")


def disagreement(folder: str, name: str) -> str:
    """The reason to drop a file whose folder contradicts its name; empty where there is no such folder."""
    return f"folder and name disagree: {folder} and {name}" if folder and folder != name else ""


def list_files(
    name: str, corpus: Corpus, root: Path, labels: tuple[str, ...], resolver: Resolver, follow: bool = False
) -> Listing:
    """Every file of a corpus accounted for.

    root : the folder that holds it at any depth, or the table, whose folder becomes the listing's root
    Raises FileNotFoundError where the root is missing, ValueError where it has nothing that can be used or is
    an unfinished corpus.
    """
    check_root(name, corpus, root)
    names = corpus.names(root, resolver, follow)
    manifest = read_manifest(name) if name in MANIFESTS else []
    if unfinished := [path for path, _ in names if PurePosixPath(path).name == UNFINISHED]:
        refuse_unfinished((root / unfinished[0]).parent)
    ledger, utterances, unknown = sort_files(name, names, {row["id"] for row in manifest}, resolver)
    if len(ledger) != len(names) or (len({path for path, _ in names}) != len(names) and not corpus.is_table):
        raise RuntimeError(f"{len(names)} files of {name} became {len(ledger)} ledger rows")
    if not utterances:
        raise ValueError(explain_nothing(name, corpus, root, ledger, names, unknown, labels))
    on_disk = {parsed.id for _, parsed in names if parsed.here}
    ours = [path for path, parsed in names if parsed.here and parsed.id and not parsed.outside]
    missing = [row["path"] for row in manifest if row["id"] not in on_disk]
    remarks = corpus.describe(root) if corpus.describe else ()
    if corpus.is_table:
        missing = [path for path, parsed in names if not parsed.here]
        root = root.parent
    return Listing(
        corpus=name,
        root=root,
        utterances=tuple(sorted(utterances, key=lambda utterance: utterance.id)),
        ledger=tuple(ledger),
        labels=labels,
        unknown=unknown,
        missing=tuple(sorted(missing)),
        expected=len(names) if corpus.is_table else len(manifest),
        duplicates=find_duplicates(root, [split_segment(path)[0] for path in ours]),
        copies=copies_of(names, utterances),
        remarks=remarks,
    )


def check_root(name: str, corpus: Corpus, root: Path) -> None:
    """FileNotFoundError where the root is missing, ValueError where it is of the other kind or unfinished."""
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: give the path of {name}, with {corpus.example}")
    if root.is_dir() == corpus.is_table:
        wanted = "the CSV file itself" if corpus.is_table else "its folder"
        raise ValueError(
            f"{root} is a {'folder' if root.is_dir() else 'file'}: to read {name}, give {wanted}"
        )
    whole = root.resolve()
    for folder in (whole, *whole.parents):
        if (folder / UNFINISHED).is_file():
            refuse_unfinished(folder)


def refuse_unfinished(folder: Path) -> NoReturn:
    """Raises ValueError: what a stopped pipelines.synthesise left is part of a corpus."""
    raise ValueError(
        f"{folder} is an unfinished corpus: the command of pipelines.synthesise that began it, given again, "
        "ends it"
    )


def sort_files(
    corpus: str, names: Named, known: set[str], resolver: Resolver
) -> tuple[list[LedgerRow], list[Utterance], dict[str, int]]:
    """One ledger row a file, in the same order, the utterances of those that are used, and unknown words.

    known : ids of the manifest; empty where the corpus has none
    returns : ledger, utterances, and of how many files each word could be the label and is none
    """
    ledger: list[LedgerRow] = []
    utterances: list[Utterance] = []
    unknown: list[str] = []
    best = choose_copies(names, resolver)
    for path, parsed in names:
        label, action = resolver(parsed.label)
        drop = parsed.drop
        unknown += parsed.unknown
        if not drop and not label:
            drop = f"{parsed.label} is none of the labels"
            unknown.append(parsed.label)
        if not drop and best[parsed.id] != path:
            drop = f"same clip as another file: {best[parsed.id]}"
        if drop:
            ledger.append(LedgerRow(path, parsed.label, "", "dropped", drop))
            continue
        strange = "not in the manifest" if known and parsed.id not in known else ""
        ledger.append(LedgerRow(path, parsed.label, label, action, strange or parsed.note))
        utterances.append(
            Utterance(
                id=parsed.id,
                path=path,
                corpus=corpus,
                speaker=parsed.speaker,
                emotion=label,
                sentence=parsed.sentence,
                intensity=parsed.intensity,
                part=parsed.part,
            )
        )
    return ledger, utterances, count_words(unknown)


def choose_copies(names: Named, resolver: Resolver) -> dict[str, str]:
    """Id → the path that is used where several files are one take: the first by `by_worth`."""
    best: dict[str, str] = {}
    for path, parsed in by_worth(names):
        if not parsed.drop and resolver(parsed.label)[0]:
            best.setdefault(parsed.id, path)
    return best


def by_worth(names: Named) -> Named:
    """Files where the corpus has its speech before others, lossless before lossy, then by path."""
    return sorted(names, key=lambda pair: (pair[1].second, not is_lossless(pair[0]), pair[0]))


def copies_of(names: Named, utterances: Iterable[Utterance]) -> dict[str, tuple[str, ...]]:
    """Id → paths of the other files that are the same take, in the order in which they stand in for it."""
    used = {utterance.id: utterance.path for utterance in utterances}
    others: dict[str, list[str]] = defaultdict(list)
    for path, parsed in by_worth(names):
        if not parsed.drop and used.get(parsed.id, path) != path:
            others[parsed.id].append(path)
    return {name: tuple(paths) for name, paths in others.items()}


def count_words(words: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first; spellings that are compared as one are one."""
    spelling: dict[str, str] = {}
    counts = Counter(spelling.setdefault(normalise(word), word) for word in words)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def explain_nothing(
    name: str,
    corpus: Corpus,
    root: Path,
    ledger: list[LedgerRow],
    names: Named,
    unknown: Mapping[str, int],
    labels: Sequence[str],
) -> str:
    """One sentence on why a root gave no utterance."""
    ours = [row for row, (_, parsed) in zip(ledger, names, strict=True) if parsed.id]
    if unknown and 2 * sum(unknown.values()) >= len(ours):
        words = explain_labels(unknown, labels, corpus.is_table)
        return f"{root} holds no {name} file with one of the labels: {words}"
    if ours:
        return (
            f"none of the {len(ours)} {name} files of {root} can be used; "
            f"the first, {ours[0].path}: {ours[0].reason}"
        )
    paths = sorted((path for path, _ in names), key=lambda path: (not is_audio(path), path))
    present = f"found for example {paths[0]}" if paths else "found no file at all"
    return f"{root} holds no {name} file: expected names like {corpus.example}, {present}"


def find_duplicates(root: Path, paths: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of byte-identical files; only files that share their size with another are read."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in sorted(set(paths)):
        by_size[(root / path).stat().st_size].append(path)
    by_hash: dict[str, list[str]] = defaultdict(list)
    for same_size in by_size.values():
        if len(same_size) > 1:
            for path in same_size:
                # what can't be read is no duplicate; whoever decodes it will say so and count it
                with contextlib.suppress(OSError):
                    by_hash[sha256(root / path)].append(path)
    return tuple(sorted(tuple(group) for group in by_hash.values() if len(group) > 1))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
