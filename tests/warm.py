"""Commands in processes that needn't start: forked from one that has imported what takes seconds.

That one knows torch and what else is not ours. Our packages are imported by each command, as by `python -m`.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

LIBRARIES = ["torch._dynamo", "pandas", "h5py", "scipy.stats", "matplotlib.backends.backend_agg", "tyro"]


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def warm_context() -> ForkServerContext:
    """In the place of `multiprocessing.get_context("spawn")`, whose processes import everything again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


class Command:
    """`python -m module arguments`, or `python -c code`, without standard input.

    packages : folder that goes before all others on the path; limit : bytes that no file can grow beyond
    """

    def __init__(
        self, *words: object, folder: Path | None = None, packages: Path | None = None, limit: int = 0
    ) -> None:
        context = warm_context()
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        self.outputs = [receiver for receiver, _ in pipes]
        senders = [sender for _, sender in pipes]
        path = [str(packages), *sys.path] if packages else list(sys.path)
        arguments = ([str(word) for word in words], path, dict(os.environ), folder, limit, senders)
        self.process: BaseProcess = context.Process(target=_become, args=arguments)
        self.process.start()
        for sender in senders:
            sender.close()

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still at work and is killed now."""
        self.process.join(seconds)
        running = self.process.exitcode is None
        self.process.kill()
        self.process.join()
        return running

    def end(self) -> Ended:
        with ThreadPoolExecutor(len(self.outputs)) as threads:
            texts = list(threads.map(_read, self.outputs))
        self.process.join()
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, *texts)


def run(*words: object, folder: Path | None = None, packages: Path | None = None, limit: int = 0) -> Ended:
    """A `Command`, to its end."""
    return Command(*words, folder=folder, packages=packages, limit=limit).end()


def _read(output: Connection) -> str:
    with os.fdopen(os.dup(output.fileno()), encoding="utf-8") as file:
        return file.read()


def _become(
    words: list[str],
    path: list[str],
    environment: Mapping[str, str],
    folder: Path | None,
    limit: int,
    outputs: list[Connection],
) -> None:
    assert "fins" not in sys.modules, "the command imports our packages, and from its own path"
    for descriptor, output in enumerate(outputs, 1):
        os.dup2(output.fileno(), descriptor)
        output.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    sys.path[:] = path
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
