"""Cases in a process of their own, each with a limit of time and memory: hangs and crashes are counted."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import re
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from fins.command import sentence_of

SECONDS = 20.0  # that a case may take, hundreds of times what it should
MEMORY = 1 << 30  # bytes beyond those of the worker at its start
LONGEST = 1_500  # characters of a sentence

Kind = Literal["held", "refused", "failed"]


class Verdict(NamedTuple):
    """kind : held (a right answer, or a counted row), refused by one sentence, or failed; words : why"""

    kind: Kind
    words: str = ""


@dataclass
class Counts:
    """Of one part of the suite: how many cases ended how, and what failed."""

    name: str
    held: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.held + self.refused + len(self.failures)

    def add(self, verdict: Verdict, case: str) -> None:
        if verdict.kind == "failed":
            self.failures.append(f"{case}: {verdict.words}")
        else:
            setattr(self, verdict.kind, getattr(self, verdict.kind) + 1)


class Fault(Exception):
    """What a case did and mustn't: a wrong answer."""


def fault_of_sentence(sentence: str, names: Iterable[str]) -> str:
    """What a message lacks of one plain sentence that names what it is about; empty if nothing."""
    if not sentence or "\n" in sentence or len(sentence) > LONGEST:
        return "no sentence"
    of_ones_own = re.search(r"\.py is broken", sentence)  # what Python says of a user's own code is told
    if re.search(r"Traceback|object at 0x|buf = |Errno|NoneType|codec can't", sentence) and not of_ones_own:
        return "no plain sentence"
    names = list(names)
    if names and not any(name in sentence for name in names):
        return "a sentence without the file's name"
    return ""


def judge(call: Callable[[], object], *names: str) -> Verdict:
    """How a call ends that may raise ValueError and OSError, in a sentence with one of these names."""
    try:
        call()
    except Fault as error:
        return Verdict("failed", str(error))
    except (ValueError, OSError) as error:
        sentence = sentence_of(error)
        fault = fault_of_sentence(sentence, names)
        return (
            Verdict("failed", f"{fault}: {type(error).__name__}: {sentence}")
            if fault
            else Verdict("refused", sentence)
        )
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        frame = next(
            (
                one
                for one in reversed(frames)
                if "/fuzz/" not in one.filename
                and "/tests/" not in one.filename
                and "site-packages" not in one.filename
            ),
            frames[-1],
        )
        return Verdict(
            "failed", f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
        )
    return Verdict("held")


def run_cases(
    work: Callable[[int], Verdict],
    numbers: Iterable[int],
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Iterator[tuple[int, Verdict]]:
    """Each case's number and how it ended; what hangs or crashes its process has failed."""
    worker = None
    try:
        for number in numbers:
            worker = worker or _Worker(work, memory)
            verdict = worker.ask(number, seconds)
            if verdict is None:
                yield number, Verdict("failed", worker.end())
                worker = None
            else:
                yield number, verdict
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """A fork of this process that judges the cases whose numbers it is sent."""

    def __init__(self, work: Callable[[int], Verdict], memory: int) -> None:
        self.pipe, other = multiprocessing.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which wait here
            self.pid = os.fork()
        if self.pid == 0:
            try:
                self.pipe.close()
                _serve(other, work, memory)
            finally:
                os._exit(0)
        other.close()
        self.late = False

    def ask(self, number: int, seconds: float) -> Verdict | None:
        """None if it hung or ended."""
        try:
            self.pipe.send(number)
            self.late = not self.pipe.poll(seconds)
            return None if self.late else Verdict(*self.pipe.recv())
        except (EOFError, OSError):
            return None

    def end(self) -> str:
        """How it ended, in words; it is killed if it hasn't."""
        with contextlib.suppress(ProcessLookupError):
            if self.late:
                os.kill(self.pid, signal.SIGKILL)
        self.pipe.close()
        _, status = os.waitpid(self.pid, 0)
        if self.late:
            return "it hung"
        return (
            f"its process ended by signal {os.WTERMSIG(status)}"
            if os.WIFSIGNALED(status)
            else "its process ended"
        )


def _serve(pipe: Connection, work: Callable[[int], Verdict], memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # pytest's: a crash is told by the verdict
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # decoders write there by themselves
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        pipe.send(tuple(work(number)))
