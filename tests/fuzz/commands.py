"""Commands as a user starts them: in odd places, on full and read-only disks, two at once, and killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fins.disk import NO_ROOM
from fuzz.files import datasets_of
from fuzz.runs import Whole
from fuzz.sound import SEED, voice
from fuzz.watchdog import LONGEST, Counts, Verdict

SECONDS = 120.0  # that a command may take
MEMORY = 8 << 30  # bytes of addresses: torch's libraries alone take four
KEPT = (
    ".wav",
    ".safetensors",
    ".jsonl",
    "predictions.csv",
    "split.csv",
    ".ledger.csv",
    "journal.csv",
    ".onnx",
)
"""Ends of the names of files whose bytes are the same after a disturbance; others tell times."""


@dataclass(frozen=True)
class Ended:
    """code : negative for a signal; seconds : that it took"""

    code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True)
class Command:
    """A command line, in which OUT stands for what it writes."""

    module: str
    arguments: tuple[str, ...]

    def words(self, out: Path) -> list[str]:
        own = [word.replace("OUT", str(out)) for word in self.arguments]
        return [sys.executable, "-m", self.module, *own]


def start(words: list[str], folder: Path, most_bytes: int | None = None) -> subprocess.Popen[str]:
    """In a folder of its own, with limits of memory and, if that is given, of each file's size."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    folder.mkdir(exist_ok=True)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        preexec_fn=limit,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )


def end(process: subprocess.Popen[str], seconds: float = SECONDS) -> Ended | None:
    """How it ended; None if it hung, and was killed with all that it started."""
    started = time.monotonic()
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    return Ended(process.returncode, stdout, stderr, time.monotonic() - started)


def verdict_on(ended: Ended | None, folder: Path) -> Verdict:
    """Exit code 0, or 1 or 2 with a sentence; nothing else written where it was started."""
    if ended is None:
        return Verdict("failed", "it hung")
    if "Traceback" in ended.stderr or ended.code not in (0, 1, 2):
        return Verdict("failed", f"exit {ended.code}: {ended.stderr.strip()[-300:]}")
    if folder.exists() and any(folder.iterdir()):
        return Verdict("failed", f"it left {sorted(path.name for path in folder.iterdir())} behind")
    last = (ended.stderr.strip().splitlines() or [""])[-1]
    if ended.code == 2 and not (last.startswith(("error: ", "╰")) and len(last) < LONGEST):
        return Verdict("failed", f"exit 2 with {last!r}")
    if re.search(r"\[Errno|object at 0x|codec can't", last):
        return Verdict("failed", f"no plain sentence: {last}")
    return Verdict("refused", last) if ended.code == 2 else Verdict("held")


def what_counts(folder: Path) -> dict[str, str]:
    """Name → digest of what has to be the same after a disturbance."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or ".frames-" in name or path.name.startswith("checkpoint"):
            continue
        if path.suffix == ".h5":
            import h5py

            with h5py.File(path) as file:
                content = repr(
                    [(key, values.tobytes()) for key, values in datasets_of(file).items()]
                ).encode()
        elif path.name.endswith(KEPT):
            content = path.read_bytes()
        else:
            continue
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.partial"))


def writers(whole: Whole) -> dict[str, Command]:
    """Commands that write something, each of a few seconds."""
    store, run, clips = str(whole.store), str(whole.folder / "run0"), str(whole.folder / "clips")
    corpus = str(whole.folder / "spoken")
    short = ("--frozen-epochs", "2", "--finetuned-epochs", "1", "--copies", "0", "--fins", "rms", "zcr")
    sizes = ("--n-speakers", "2", "--n-sentences", "1", "--n-takes", "1")
    return {
        "synthesise": Command("pipelines.synthesise", ("--out", "OUT/corpus", *sizes)),
        "prepare": Command(
            "pipelines.prepare",
            ("--corpus", "folders", "--root", corpus, "--out", "OUT/own.h5", "--workers", "1"),
        ),
        "train-fin": Command(
            "fins.train",
            (
                "--feature",
                "rms",
                "--topology",
                "paper",
                "--store",
                store,
                "--epochs",
                "3",
                "--out",
                "OUT/fin",
            ),
        ),
        "train": Command("pipelines.train", ("--model", "fin", "--store", store, *short, "--out", "OUT/run")),
        "predict": Command("pipelines.predict", (run, clips, "--out", "OUT/answers.jsonl")),
        "audit": Command("pipelines.audit", ("--store", store, "--out", "OUT/audit")),
        "evaluate": Command("pipelines.evaluate", (run, "--out", "OUT/evaluation")),
        "score": Command("pipelines.score", (str(whole.folder / "answers.csv"), "--out", "OUT/score")),
        "explore": Command("pipelines.explore", ("--store", store, "--sample", "2", "--out", "OUT/explored")),
        "crossval": Command(
            "pipelines.crossval",
            ("--model", "fin", "--store", store, *short, "--n-folds", "3", "--out", "OUT/folds"),
        ),
        "inner-folds": Command(
            "pipelines.train",
            ("--model", "fin", "--store", store, *short, "--inner-folds", "2", "--out", "OUT/inner"),
        ),
        "compare": Command(
            "pipelines.compare", (str(write_sweep(whole.folder)), "--store", store, "--out", "OUT/compared")
        ),
        "export": Command("pipelines.export", (run, "--out", "OUT/model.onnx")),
        "report": Command("fins.report", (str(whole.folder / "fin"), "--out", "OUT/report")),
    }


def write_sweep(folder: Path) -> Path:
    """Two short runs to compare."""
    path = folder / "two_runs.py"
    path.write_text(
        "from ser_heads.experiments import configure\n\n"
        "SHORT = {'frozen_epochs': 2, 'finetuned_epochs': 0, 'copies': 0}\n\n\n"
        "def runs():\n"
        "    return {name: configure('fin', fins=(name,), **SHORT) for name in ('rms', 'zcr')}\n"
    )
    return path


def write_spoken(folder: Path) -> None:
    """A corpus of folders."""
    import soundfile

    for place in range(24):
        path = folder / f"s{place % 3}" / ("angry", "sad")[place % 2] / f"{place:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, voice(0.3, place), 16_000)


def write_places(folder: Path, outside: Path) -> list[Path]:
    """Names that are no plain file of the folder; beside them lie whole recordings."""
    write_spoken(folder)
    odd = folder / "s0" / "angry"
    outside.mkdir()
    shutil.copy(odd / "00.wav", outside / "secret.wav")
    (odd / "out.wav").symlink_to(outside / "secret.wav")
    (odd / "outside").symlink_to(outside)
    (odd / "nothing.wav").symlink_to(folder / "nothing")
    (odd / "round.wav").symlink_to(odd / "round.wav")
    (odd / "up").symlink_to(folder)
    (odd / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(odd / "pipe.wav")
    with contextlib.suppress(OSError):
        os.mknod(odd / "device.wav", 0o600 | 0o020000, os.makedev(1, 5))
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(odd / "socket.wav"))
    (odd / "folder.wav").mkdir()
    names = [
        b"\xff\xfe.wav",
        b"caf\xe9.wav",
        b"x" * 246 + b".wav",
        b"a\nb.wav",
        b"-.wav",
        b"--out.wav",
        b'a,b".wav',
    ]
    for name in names:
        path = os.fsencode(odd) + b"/" + name
        shutil.copy(odd / "00.wav", path)
    return sorted(path for path in odd.iterdir() if path.name[:1] not in "0123456789")


def try_places(folder: Path, whole: Whole, most: int) -> Iterator[tuple[str, Verdict]]:
    """Each odd place, as what each command reads; and the folder of all."""
    corpus, outside = folder / "corpus", folder / "outside"
    places = write_places(corpus, outside)
    run = str(whole.folder / "run0")
    readers: list[tuple[str, Callable[[str], tuple[str, ...]]]] = [
        ("pipelines.predict", lambda place: (run, place)),
        (
            "pipelines.prepare",
            lambda place: ("--corpus", "csv", "--root", place, "--out", str(folder / "a.h5")),
        ),
        ("pipelines.audit", lambda place: ("--manifest", place)),
        ("pipelines.score", lambda place: (place,)),
        ("pipelines.verify", lambda place: (place,)),
        ("pipelines.explore", lambda place: ("--store", place, "--out", str(folder / "explored"))),
        ("pipelines.evaluate", lambda place: (place,)),
        ("pipelines.predict", lambda place: (place, str(whole.folder / "clips"))),
        ("fins.report", lambda place: (place, "--out", str(folder / "report"))),
    ]
    everything = [
        (
            "pipelines.prepare",
            ("--corpus", "folders", "--root", str(corpus), "--out", str(folder / "all.h5")),
        ),
        ("pipelines.predict", (run, str(corpus), "--out", str(folder / "all.jsonl"))),
        ("pipelines.verify", (str(corpus),)),
    ]
    cases = [(module, build(os.fsdecode(place))) for place in places for module, build in readers]
    rng = np.random.default_rng([SEED, 4])
    chosen = [cases[place] for place in rng.permutation(len(cases))[: max(0, most - len(everything))]]
    for module, arguments in [*everything, *chosen][:most]:
        ended = end(start([sys.executable, "-m", module, *arguments], folder / "here"))
        verdict = verdict_on(ended, folder / "here")
        if ended and "secret" in ended.stdout and module == "pipelines.prepare":
            verdict = Verdict("failed", "what a link leads to was read")
        yield f"{module} {ascii(arguments[-1])[-60:]}", verdict


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path | None]:
    """A disk in memory with these options of mount; None where it can't be had."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], capture_output=True)
        folder.rmdir()


def try_disks(folder: Path, whole: Whole, most: int) -> Iterator[tuple[str, Verdict]]:
    """A disk too small for what a command writes; then there is room, and the same command goes on."""
    expected = Undisturbed(folder, whole)
    rng = np.random.default_rng([SEED, 5])
    for number in range(most):
        name = list(expected.commands)[number % len(expected.commands)]
        size = int(2 ** rng.uniform(12, 20)) if number % 2 else int(2 ** rng.uniform(14, 22))
        with small_disk(folder / f"disk{number}", f"size={size // 4096 * 4096 or 4096}") as disk:
            out = disk or folder / f"full{number}"
            out.mkdir(exist_ok=True)
            limit = None if disk else size
            ended = end(start(expected.commands[name].words(out), folder / "here", limit))
            verdict = verdict_on(ended, folder / "here")
            if verdict.kind == "refused" and NO_ROOM not in verdict.words:
                verdict = Verdict("failed", f"another reason than the disk: {verdict.words}")
            if partials(out):
                verdict = Verdict("failed", f"{partials(out)} are left")
            if disk:
                subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            if verdict.kind != "failed":
                verdict = expected.goes_on(name, out, verdict)
        yield f"{name} on {size:,} bytes", verdict


def try_read_only(folder: Path, whole: Whole, most: int) -> Iterator[tuple[str, Verdict]]:
    """Where nothing can be written."""
    commands = writers(whole)
    for name in list(commands)[:most]:
        with small_disk(folder / f"ro-{name}", "size=1m,ro") as disk:
            if disk is None:
                return
            verdict = verdict_on(end(start(commands[name].words(disk), folder / "here")), folder / "here")
        if verdict.kind == "held":
            verdict = Verdict("failed", "it says that it wrote")
        yield f"{name} on a read-only disk", verdict


class Undisturbed:
    """What each command gives when nothing happens; made when it is first asked for."""

    def __init__(self, folder: Path, whole: Whole) -> None:
        self.folder, self.commands = folder, writers(whole)
        self.made: dict[str, tuple[dict[str, str], float]] = {}

    def result(self, name: str) -> tuple[dict[str, str], float]:
        """Digests, and the seconds that it took."""
        if name not in self.made:
            out = self.folder / f"undisturbed-{name}"
            if out.exists():
                shutil.rmtree(out)
            out.mkdir()
            ended = end(start(self.commands[name].words(out), self.folder / "here"))
            if ended is None or ended.code:
                raise RuntimeError(f"{name} fails by itself: {ended}")
            self.made[name] = what_counts(out), ended.seconds
        return self.made[name]

    def goes_on(self, name: str, out: Path, verdict: Verdict) -> Verdict:
        """The verdict, unless the same command doesn't come to the same result now."""
        ended = end(start(self.commands[name].words(out), self.folder / "here"))
        is_whole = ended is not None and "is not an empty folder" in ended.stderr  # it ended before
        if ended is None or (ended.code and not is_whole):
            return Verdict("failed", f"it doesn't go on: {ended and ended.stderr.strip()[-300:]}")
        if partials(out):
            return Verdict("failed", f"{partials(out)} are left")
        counted, expected = what_counts(out), self.result(name)[0]
        differing = [key for key in {**counted, **expected} if counted.get(key) != expected.get(key)]
        return Verdict("failed", f"{differing} differ afterwards") if differing else verdict


def try_kills(folder: Path, whole: Whole, most: int) -> Iterator[tuple[str, Verdict]]:
    """Each command is killed at random moments, some twice, and then goes on to the same result."""
    expected = Undisturbed(folder, whole)
    rng = np.random.default_rng([SEED, 6])
    for number in range(most):
        name = list(expected.commands)[number % len(expected.commands)]
        _, seconds = expected.result(name)
        out = folder / f"killed{number}"
        out.mkdir()
        for _ in range(1 + number % 2):
            process = start(expected.commands[name].words(out), folder / "here")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.3, 1.0) * seconds)
            process.kill()
            process.communicate()
        yield f"{name}, killed", expected.goes_on(name, out, Verdict("held"))
        shutil.rmtree(out)


def try_two_at_once(folder: Path, whole: Whole, most: int) -> Iterator[tuple[str, Verdict]]:
    """One of two in one folder may be refused; the result is the same."""
    expected = Undisturbed(folder, whole)
    for number in range(most):
        name = list(expected.commands)[number % len(expected.commands)]
        out = folder / f"both{number}"
        out.mkdir()
        both = [start(expected.commands[name].words(out), folder / "here") for _ in range(2)]
        verdicts = [verdict_on(end(process), folder / "here") for process in both]
        verdict = min(verdicts, key=lambda one: ("failed", "refused", "held").index(one.kind))
        if verdict.kind != "failed":
            verdict = expected.goes_on(name, out, verdict)
        yield f"two of {name}", verdict


def count(name: str, cases: Iterator[tuple[str, Verdict]]) -> Counts:
    """How they ended."""
    counts = Counts(name)
    for case, verdict in cases:
        counts.add(verdict, case)
    return counts
