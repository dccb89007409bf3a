"""From utterances on disk to a store: in parallel, resumable, with every file accounted for."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_manifests.manifest import Utterance
from data_manifests.reading import sha256
from fins.audio import HOP, SAMPLE_RATE, WINDOW, AudioError, Signal, quantise, read_mixed
from fins.data.account import (
    NO_ATTRIBUTES,
    NO_COPIES,
    Copies,
    Preparation,
    PreparationCounts,
    identity_of,
    stored_counts,
    stored_identity,
    what_is_new,
)
from fins.data.store import Recording, Store, StoreError, join_stores, write_store
from fins.processes import end_with_parent, name_semaphores
from fins.runs import library_versions, locked, read_json, write_json

PART = 32  # utterances at most that a worker turns into one part; a kill costs these, for each worker
PART_BYTES = 8 << 20  # of their files at most, unless one is larger: long recordings would fill the memory

NOISE = 0.035  # the noise's deviation is at most this share of the signal's largest sample
RATE = 0.8  # of the stretched clip: it lasts 1.25 times as long
SEMITONES = 0.7  # by which the stretched clip is shifted up


def parts_folder(out: Path) -> Path:
    """Where the finished parts of an unfinished store lie."""
    return out.with_name(f"{out.name}.parts")


@dataclass(frozen=True)
class _Work:
    """What is to be done: which files, and how; `stored` is what the store holds that they are added to."""

    out: Path
    utterances: Sequence[Utterance]
    root: Path
    preparation: Preparation
    copies: Copies
    attributes: Mapping[str, str]
    stored: PreparationCounts | None = None


def prepare_store(
    out: Path,
    utterances: Sequence[Utterance],
    root: Path,
    preparation: Preparation,
    n_workers: int,
    copies: Copies = NO_COPIES,
    attributes: Mapping[str, str] = NO_ATTRIBUTES,
    add: bool = False,
) -> Generator[PreparationCounts]:
    """Write a store; yields the counts of each part as it is done, those of an earlier try first.

    copies : id → other files of the same take; the first that can be read stands in for one that can't
    attributes : texts that the store carries
    add : keep what the store holds already, and take up the other utterances

    Parts are whole stores of a few utterances in `parts_folder(out)`. A killed run leaves them there, and
    the next one with the same input takes them; they are joined at the end and removed. Until then a store
    that is added to stays as it was.

    Raises StoreError if `out` exists already with other content, ValueError if no file could be read.
    """
    identity = identity_of(utterances, root, preparation, copies)
    parts = parts_folder(out)
    with locked(parts):  # what is there is looked at here: another command may just have ended
        if out.exists() and (not add or stored_identity(out) == identity):
            yield stored_counts(out, identity)
        else:
            attributes = {**attributes, "identity": json.dumps(identity)}
            work = _Work(out, utterances, root, preparation, copies, attributes)
            began = identity
            if out.exists():
                began += stored_identity(out)
                new, stored = what_is_new(out, utterances, root, preparation, copies)
                work = replace(work, utterances=new, stored=stored)
                yield stored
            _keep_parts_of(parts, began + repr(library_versions()))
            yield from _make_parts(work, n_workers)
    shutil.rmtree(parts, ignore_errors=True)  # a second command may do so too


def _make_parts(work: _Work, n_workers: int) -> Generator[PreparationCounts]:
    groups = _group(work.utterances, work.root)
    parts = parts_folder(work.out)
    paths = [parts / f"{number:06d}.h5" for number in range(len(groups))]
    counts_of = {path: counts for path in paths if (counts := _finished(path))}
    yield from counts_of.values()
    if work.preparation.augment != "none":
        # compiles and keeps code where it is new; by several workers at once, kept code may crash ever after
        import librosa.util.utils  # noqa: F401

    name_semaphores()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker) as pool:
        jobs = {
            pool.submit(
                _make_part, path, group, work.root, work.preparation, _copies_of(group, work.copies)
            ): path
            for path, group in zip(paths, groups, strict=True)
            if path not in counts_of
        }
        try:
            for job in as_completed(jobs):
                counts_of[jobs[job]] = job.result()
                yield counts_of[jobs[job]]
        except BrokenProcessPool as error:
            raise OSError("a worker was killed, perhaps for want of memory: use fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)
    _join(work, [(path, counts_of[path]) for path in paths])


def _join(work: _Work, made: Sequence[tuple[Path, PreparationCounts]]) -> None:
    """The store, from what it held and the parts in their order; ValueError if that is nothing."""
    whole = [path for path, counts in made if counts.n_utterances]
    if work.stored is not None:
        whole = [work.out, *whole]
    if not whole:
        why = min(pair for _, counts in made for pair in counts.unreadable)[1]
        raise ValueError(f"none of the {len(work.utterances)} files could be read; the first: {why}")
    total = work.stored or PreparationCounts()
    for _, counts in made:
        total.add(counts)
    facts = {"preparation": asdict(work.preparation), "account": asdict(total) | {"n_before": 0}}
    texts = {name: json.dumps(value) for name, value in facts.items()}
    join_stores(work.out, whole, {**work.attributes, **texts})


def _group(utterances: Sequence[Utterance], root: Path) -> list[list[Utterance]]:
    """Consecutive utterances that make one part each."""
    groups: list[list[Utterance]] = []
    n_bytes = 0
    before = ""
    for utterance in utterances:
        path = root / utterance.file
        size = path.stat().st_size if path.is_file() and utterance.file != before else 0
        before = utterance.file
        n_bytes += size
        if not groups or len(groups[-1]) == PART or n_bytes > PART_BYTES:
            groups.append([])
            n_bytes = size
        groups[-1].append(utterance)
    return groups


Reader = Callable[[Path], tuple[Signal, str, str]]


def read_file(path: Path) -> tuple[Signal, str, str]:
    """(n_samples,) at 22,050 Hz, the file's checksum, and which of its channels weren't taken and why."""
    signal, faults = read_mixed(path)
    return signal, sha256(path), "; ".join(faults.values())


def cut_segment(signal: Signal, start: float, end: float, path: Path) -> Signal:
    """The stretch from start to end, in seconds; AudioError if the file ends before it does."""
    n_seconds = len(signal) / SAMPLE_RATE
    if start >= n_seconds or n_seconds + WINDOW / SAMPLE_RATE < end < float("inf"):
        raise AudioError(
            f"{path} ends after {n_seconds:.2f} s, before the stretch from {start:g} to {end:g} s"
        )
    return signal[round(start * SAMPLE_RATE) : None if end > n_seconds else round(end * SAMPLE_RATE)]


def _copies_of(utterances: Sequence[Utterance], copies: Copies) -> dict[str, Sequence[str]]:
    return {one.id: copies[one.id] for one in utterances if one.id in copies}


def load_recordings(
    utterance: Utterance,
    root: Path,
    preparation: Preparation,
    counts: PreparationCounts,
    read: Reader = read_file,
) -> list[Recording]:
    """The utterance and its augmented copies, ready to be stored; what was changed goes to the counts."""
    path = root / utterance.file
    signal, digest, fault = read(path)
    if utterance.segment:
        signal = cut_segment(signal, *utterance.segment, path)
        digest = hashlib.sha256(f"{digest} {utterance.segment}".encode()).hexdigest()
    if preparation.clip:
        start, stop = preparation.clip
        if len(signal) <= round(start * SAMPLE_RATE):
            raise AudioError(f"{path} ends before the clip starts, at {start:g} s")
        n_wanted = round(start * SAMPLE_RATE) + round((stop - start) * SAMPLE_RATE)
        counts.n_cut += len(signal) > n_wanted
        counts.n_padded += len(signal) < n_wanted
        signal = cut_clip(signal, start, stop)
    if fault:
        counts.channels.append((utterance.path, fault))
    versions = {utterance: signal}
    if preparation.augment == "paper" and utterance.part not in ("validation", "test"):
        for name, copy in paper_augmentations(signal, utterance.id, preparation.seed).items():
            versions[replace(utterance, id=f"{utterance.id}+{name}", augmented_from=utterance.id)] = copy
    recordings = []
    for version, samples in versions.items():
        quantised, n_clipped = quantise(samples)
        recordings.append(Recording(version, quantised, digest))
        counts.n_clipped_samples += n_clipped
        if n_clipped:
            counts.clipped.append((version.path, n_clipped))
        counts.n_silent += not quantised.any()
        counts.n_padded += len(quantised) < WINDOW
        counts.n_tail_samples += max(0, len(quantised) - WINDOW) % HOP
        counts.n_seconds += len(quantised) / SAMPLE_RATE
    counts.n_augmented += len(versions) - 1
    return recordings


def add_noise(signal: Signal, rng: np.random.Generator) -> Signal:
    """White noise of deviation 0.035 · U(0, 1) · max(signal) on (n_samples,)."""
    deviation = NOISE * rng.uniform() * signal.max()
    return signal + np.float32(deviation) * rng.standard_normal(len(signal), dtype=np.float32)


def stretch(signal: Signal) -> Signal:
    """Slowed to 0.8 of its rate, then shifted up by 0.7 semitones: (n_samples,) → (1.25 · n_samples,)."""
    import librosa

    slowed = librosa.effects.time_stretch(signal, rate=RATE)
    return librosa.effects.pitch_shift(slowed, sr=SAMPLE_RATE, n_steps=SEMITONES)


def paper_augmentations(signal: Signal, utterance_id: str, seed: int) -> dict[str, Signal]:
    """Name → augmented copy; the noise depends on the seed and the utterance, not on the order of work."""
    rng = np.random.default_rng([seed, zlib.crc32(utterance_id.encode())])
    return {"noise": add_noise(signal, rng), "stretch": stretch(signal)}


def cut_clip(signal: Signal, start: float, stop: float) -> Signal:
    """(n_samples,) → ((stop - start) · 22,050,); what is shorter is centred in zeros."""
    n_samples = round((stop - start) * SAMPLE_RATE)
    inside = signal[round(start * SAMPLE_RATE) :][:n_samples]
    before = (n_samples - len(inside)) // 2
    return np.pad(inside, (before, n_samples - len(inside) - before))


def _make_part(
    path: Path,
    utterances: Sequence[Utterance],
    root: Path,
    preparation: Preparation,
    copies: Copies = NO_COPIES,
) -> PreparationCounts:
    counts = PreparationCounts()
    recordings: list[Recording] = []
    read = lru_cache(maxsize=1)(read_file)  # stretches of one file follow each other
    for utterance in utterances:
        faults: list[str] = []
        for path_of_copy in (utterance.path, *copies.get(utterance.id, ())):
            candidate = replace(utterance, path=path_of_copy)
            try:
                recordings += load_recordings(candidate, root, preparation, counts, read)
            except AudioError as error:
                faults.append(str(error))
            except OSError as error:
                faults.append(f"{root / candidate.path} can't be read ({error.strerror})")
            else:
                if faults:
                    counts.replaced.append((utterance.path, candidate.path, faults[0]))
                break
        else:
            counts.unreadable.append((utterance.path, faults[0]))
    counts.n_utterances = len(recordings)
    write_store(path, recordings)
    with Store(path) as store:
        counts.n_windows = store.n_windows
    write_json(path.with_suffix(".json"), asdict(counts))
    return counts


def _finished(path: Path) -> PreparationCounts | None:
    """The counts of a part that an earlier run ended, or None; unreadable files are tried again."""
    try:
        with Store(path) as store:
            if not store.has_checksums or store.damaged():
                return None
            counts = PreparationCounts(**read_json(path.with_suffix(".json")))
    except (ValueError, OSError, TypeError):
        return None
    return None if counts.unreadable else counts


def _keep_parts_of(parts: Path, identity: str) -> None:
    """Make the folder of parts, emptied if it holds those of another input."""
    known = parts / "identity.json"
    if known.exists() and read_json(known).get("identity") != identity:
        for path in parts.iterdir():
            if path != known:
                path.unlink()
    elif not known.exists() and any(path.suffix != ".partial" for path in parts.iterdir()):
        raise StoreError(f"{parts} is in the way and no work of prepare's: move it or choose another --out")
    write_json(known, {"identity": identity})


def _start_worker() -> None:
    """Workers share the cores, so one thread each; and none outlives a parent that is killed."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    end_with_parent()
