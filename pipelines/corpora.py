"""One adapter a corpus: file names become utterances, and a ledger says what became of every file."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fins.store import Utterance
from pipelines.corpus_names import (
    IEMOCAP_LINE,
    PARTS,
    Clip,
    Parser,
    parse_crema_d,
    parse_emodb,
    parse_esd,
    parse_folders,
    parse_iemocap,
    parse_ravdess,
    parse_savee,
    parse_synthetic,
    parse_tess,
)
from pipelines.ledger import MANIFESTS, LedgerRow, Listing, read_manifest, resolve, write_manifest

__all__ = ["CORPORA", "LedgerRow", "Listing", "read_corpus", "read_manifest", "write_manifest"]

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
Reader = Callable[[Path], list[tuple[str, Clip]]]


@dataclass(frozen=True)
class Adapter:
    """How a corpus is read.

    expects : an example of its paths, for error messages
    read : from the root to every file's path and clip
    is_table : the root is a table of files, not a folder; its rows are the manifest
    """

    expects: str
    read: Reader
    is_table: bool = False


def by_name(parse: Parser) -> Reader:
    """A reader of a folder in which the path alone says everything."""

    def read(root: Path) -> list[tuple[str, Clip]]:
        return [(path, read_name(path, root, parse)) for path in files_under(root)]

    return read


def read_name(path: str, root: Path, parse: Parser) -> Clip:
    """The clip that a path names, or the reason why it names none."""
    pure = PurePosixPath(path)
    # Some systems leave hidden `._name.wav` beside each file: an audio ending, no audio.
    if not is_audio(path):
        return Clip(drop="not audio")
    if any(folder.startswith(".") for folder in pure.parts):
        return Clip(drop="in a hidden folder")
    if any("\udc80" <= sign <= "\udcff" for sign in path):
        return Clip(drop="a name that isn't UTF-8: rename it")
    if not (root / path).is_file():
        return Clip(drop="a link to nothing", here=False)
    return parse(pure) or Clip(drop="not a name of this corpus")


def is_audio(path: str) -> bool:
    """By its name: a known ending in any case, and not hidden."""
    name = PurePosixPath(path).name
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def files_under(root: Path) -> list[str]:
    """Every file under a folder, hidden ones too, sorted; through links each folder is read once."""
    paths: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=raise_error):
        folders.sort()
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        paths += [(Path(folder) / file).relative_to(root).as_posix() for file in files]
    return sorted(paths)


def raise_error(error: OSError) -> None:
    """For `os.walk`, which otherwise passes over a folder that it can't read."""
    raise error


def read_iemocap(root: Path) -> list[tuple[str, Clip]]:
    """Labels from each turn's line in Session*/dialog/EmoEvaluation/*.txt, then the files by name."""
    labels: dict[str, str] = {}
    for path in map(PurePosixPath, files_under(root)):
        if path.match("dialog/EmoEvaluation/*.txt") and not path.name.startswith("."):
            labels.update(IEMOCAP_LINE.findall((root / path).read_text(encoding="utf-8", errors="replace")))
    return by_name(lambda path: parse_iemocap(path, labels))(root)


def read_table(table: Path) -> list[tuple[str, Clip]]:
    """Rows of a CSV file with columns path, emotion and optionally id, speaker, sentence, intensity, part.

    Paths are relative to the CSV's folder. A row that can't be used is dropped with its line number.
    Raises ValueError where the file is no such table.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{table} can't be read as CSV ({error}): save it as comma-separated UTF-8"
        ) from error
    if lacking := [column for column in ("path", "emotion") if column not in columns]:
        raise ValueError(
            f"{table} lacks the columns {', '.join(lacking)}: its first line must name path and emotion, "
            f"and names {', '.join(columns) or 'nothing'}"
        )
    clips = []
    for line, row in rows:
        path, clip = read_row(line, {column: (row.get(column) or "").strip() for column in columns}, table)
        if None in row:
            drop = f"more cells than columns, texts with commas need quotes: line {line}"
            clip = replace(clip, drop=clip.drop or drop)
        clips.append((path, clip))
    return sorted(clips, key=lambda pair: pair[0])


def read_row(line: int, row: Mapping[str, str], table: Path) -> tuple[str, Clip]:
    """Path and clip of one row; `line` is the row's number in the file, counting the header."""
    path = PurePosixPath(os.path.normpath(row["path"])).as_posix() if row["path"] else ""
    part = row.get("part", "")
    here = not path or (table.parent / path).is_file()
    drop = ""
    if not path:
        drop = f"no path: line {line}"
    elif path.startswith(("/", "../")) or path == "..":
        drop = f"outside the folder of the table: line {line} has {path}"
    elif not here:
        drop = f"not on disk: line {line} has {path}"
    elif not is_audio(path):
        drop = f"not audio: line {line} has {path}"
    elif not resolve(row["emotion"])[0]:
        drop = f"unknown emotion {row['emotion']!r}: line {line}"
    elif part and part.lower() not in PARTS:
        drop = f"unknown part {part!r}: line {line}"
    return path, Clip(
        id=row.get("id") or PurePosixPath(path).with_suffix("").as_posix() if path else "",
        speaker=row.get("speaker") or "unknown",
        label=row["emotion"],
        sentence=row.get("sentence", ""),
        intensity=row.get("intensity", ""),
        part=PARTS.get(part.lower(), ""),
        drop=drop,
        here=here,
    )


CORPORA: dict[str, Adapter] = {
    "ravdess": Adapter("Actor_01/03-01-05-01-02-01-01.wav", by_name(parse_ravdess)),
    "crema_d": Adapter("1001_DFA_ANG_XX.wav", by_name(parse_crema_d)),
    "savee": Adapter("DC_a01.wav or DC/a01.wav", by_name(parse_savee)),
    "tess": Adapter("OAF_angry/OAF_back_angry.wav", by_name(parse_tess)),
    "esd": Adapter("0011/Angry/0011_000351.wav", by_name(parse_esd)),
    "emodb": Adapter("03a01Fa.wav", by_name(parse_emodb)),
    "iemocap": Adapter("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", read_iemocap),
    "synthetic": Adapter("s01/s01_angry_03_1.wav", by_name(parse_synthetic)),
    "folders": Adapter("angry/any_name.wav", by_name(parse_folders)),
    "csv": Adapter("a line such as clips/001.wav,angry", read_table, is_table=True),
}


def read_corpus(name: str, root: Path) -> Listing:
    """Read a corpus by its file names; no audio is decoded.

    name : a key of `CORPORA`
    root : the folder that holds the corpus at any depth; for "csv" the CSV file itself, whose folder becomes
        the listing's root

    Raises FileNotFoundError where the root is missing, ValueError where it has nothing that can be used.
    """
    if name not in CORPORA:
        raise ValueError(f"there is no corpus {name!r}: choose one of {', '.join(CORPORA)}")
    adapter = CORPORA[name]
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: give the path of {name}, with {adapter.expects}")
    if root.is_dir() == adapter.is_table:
        wanted = "the CSV file itself" if adapter.is_table else "its folder"
        raise ValueError(
            f"{root} is a {'folder' if root.is_dir() else 'file'}: to read {name}, give {wanted}"
        )
    clips = adapter.read(root)
    manifest = read_manifest(name) if name in MANIFESTS else []
    ledger, utterances = judge(name, clips, {row["id"] for row in manifest})
    if len(ledger) != len(clips) or (len({path for path, _ in clips}) != len(clips) and not adapter.is_table):
        raise RuntimeError(f"{len(clips)} files of {name} became {len(ledger)} ledger rows")
    if not utterances:
        raise ValueError(explain_nothing(name, root, clips))
    found = {clip.id for _, clip in clips if clip.here}
    missing = [row["path"] for row in manifest if row["id"] not in found]
    if adapter.is_table:
        missing = [path for path, clip in clips if not clip.here]
        root = root.parent
    return Listing(
        corpus=name,
        root=root,
        utterances=tuple(sorted(utterances, key=lambda utterance: utterance.id)),
        ledger=tuple(ledger),
        missing=tuple(sorted(missing)),
        expected=len(clips) if adapter.is_table else len(manifest),
        duplicates=find_duplicates(root, [path for path, clip in clips if clip.here and clip.id]),
    )


def judge(
    corpus: str, clips: list[tuple[str, Clip]], known: set[str]
) -> tuple[list[LedgerRow], list[Utterance]]:
    """One ledger row a clip, in the same order, and the utterances of those that are kept.

    known : ids of the manifest; empty where the corpus has none
    """
    ledger: list[LedgerRow] = []
    utterances: list[Utterance] = []
    first: dict[str, str] = {}  # id to the path that has it
    for path, clip in clips:
        emotion, action = resolve(clip.label)
        drop = clip.drop
        if not drop and not emotion:
            drop = f"{clip.label} is none of our emotions"
        if not drop and clip.id in first:
            drop = f"same clip as another file: {first[clip.id]}"
        if drop:
            ledger.append(LedgerRow(path, clip.label, "", "dropped", drop))
            continue
        first[clip.id] = path
        strange = "not in the manifest" if known and clip.id not in known else ""
        ledger.append(LedgerRow(path, clip.label, emotion, action, strange or clip.note))
        utterances.append(
            Utterance(
                id=clip.id,
                path=path,
                corpus=corpus,
                speaker=clip.speaker,
                emotion=emotion,
                sentence=clip.sentence,
                intensity=clip.intensity,
                part=clip.part,
            )
        )
    return ledger, utterances


def explain_nothing(name: str, root: Path, clips: list[tuple[str, Clip]]) -> str:
    """One sentence on why a root gave no utterance."""
    ours = [(path, clip) for path, clip in clips if clip.id]
    if ours:
        path, clip = ours[0]
        reason = clip.drop or f"{clip.label} is none of our emotions"
        return f"none of the {len(ours)} {name} files of {root} can be used; the first, {path}: {reason}"
    paths = sorted((path for path, _ in clips), key=lambda path: (not is_audio(path), path))
    found = f"found for example {paths[0]}" if paths else "found no file at all"
    return f"{root} holds no {name} file: expected names like {CORPORA[name].expects}, {found}"


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
