"""Several runs of pipelines.train: in processes of this machine, or on the machines of a cluster of Ray."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from fins.command import sentence_of
from fins.runs import RESULT
from pipelines import evaluate, train
from pipelines.engine import RETRIES, ray_session, resources
from pipelines.evaluate import EvaluateConfig, is_judged
from pipelines.train import TrainConfig

UNSEEN = "unseen"  # folder in a run for what its model says of unseen stores
ENDING = 30.0  # seconds that reading results, pictures and pages take
STARTING = 5.0  # seconds that the process of a run takes before it counts its own time
INTERRUPTED = 10.0  # seconds that a run has to end by itself, before it is ended
BUG = "it has a bug, whose traceback stands above"


@dataclass(frozen=True)
class Job:
    """A run to be made. label : what it is called; unseen : stores on which its model is judged too"""

    label: str
    config: TrainConfig
    unseen: tuple[Path, ...] = ()

    def made(self) -> bool:
        """Whether it has its results, be they of these options or of others."""
        out = self.config.out
        assert out is not None
        return (out / RESULT).exists() and (not self.unseen or is_judged(out / UNSEEN, self.unseen))

    def make(self) -> None:
        """Train, from where it was left, and judge."""
        train.main(self.config)
        if self.unseen:
            assert self.config.out is not None
            evaluate.main(EvaluateConfig((self.config.out,), self.unseen, self.config.out / UNSEEN))


def make_runs(jobs: Sequence[Job], workers: int = 1, address: str | None = None) -> list[str]:
    """Make what isn't made yet; of each run why it failed, or nothing, in their order.

    workers : processes at a time, which share the cores of this machine
    address : of a cluster, host:port of its head or auto, each of whose CPUs takes a run at a time instead;
        its machines find stores and folders by the same paths
    A run whose process is lost on a cluster goes on in another one. Raises ValueError in one sentence if
    there is no cluster. `check_workers` says before any work whether the two can be meant.
    """
    if address is None or all(job.made() for job in jobs):
        at_once = min(workers, len(jobs))
        return _make_all(jobs, at_once, lambda job: make_apart(job, at_once))
    with ray_session(address):
        return _make_all(jobs, int(sum(resources("CPU"))), make_on_cluster)


def check_workers(workers: int, address: str | None) -> None:
    """ValueError for what can't be meant."""
    if workers < 1:
        raise ValueError("--workers is at least 1")
    if address is not None and workers > 1:
        raise ValueError("--workers are of this machine: a cluster at --address has its own")


def share_minutes(minutes: float | None, n_runs: int, workers: int) -> float | None:
    """What each run gets of a budget of all; ValueError if that is nothing."""
    if minutes is None:
        return None
    n_turns = -(-n_runs // workers)
    least = (ENDING + STARTING * n_turns) / 60
    if not least < minutes < math.inf:
        raise ValueError(
            f"--minutes is a number above {least:.2g}, which {n_runs} runs need beside their own"
        )
    return (minutes - least) / n_turns


def _make_all(jobs: Sequence[Job], at_once: int, make: Callable[[Job], None]) -> list[str]:
    alone = threading.Lock()  # weights are drawn from the process's one generator

    def why_not(place: int) -> str:
        job = jobs[place]
        print(f"run {place + 1} of {len(jobs)}: {job.label}", flush=True)
        try:
            if job.made():  # pipelines.train says whether it is this very run: that needs no process
                with alone:
                    train.main(job.config)
            else:
                make(job)
        except (ValueError, OSError) as error:
            print(f"{job.label} failed: {sentence_of(error)}", flush=True)
            return sentence_of(error)
        return ""

    threads = ThreadPoolExecutor(max(1, at_once))
    try:
        return list(threads.map(why_not, range(len(jobs))))
    except KeyboardInterrupt:  # from the keyboard it comes to the runs too
        threads.shutdown(wait=False, cancel_futures=True)
        for run in multiprocessing.active_children():
            run.join(INTERRUPTED)
            run.terminate()
        raise


def make_apart(job: Job, workers: int = 1) -> None:
    """A run in a process of its own, so that memory and threads end with it.

    workers : processes like this one that share the cores; of several none shows its progress
    Raises ValueError with the reason if it fails, whatever that is: the others go on.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_make_and_send, args=(job, workers, sender), daemon=True)
    process.start()
    sender.close()
    try:
        why = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == 1:
            why = BUG
        else:
            why = f"its process was killed (exit code {process.exitcode}), as a rule for want of memory"
    process.join()
    if why:
        raise ValueError(why)


def _make_and_send(job: Job, workers: int, sender: Connection) -> None:
    """In the process: send the reason of a failure, or nothing."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    sender.send(_make(job, quietly=workers > 1))


def _end_with_parent() -> None:
    """A run doesn't outlive a command that was killed: its folder is free for the next try."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(130)


def _make(job: Job, quietly: bool) -> str:
    """Why it failed, or nothing; a bug is raised."""
    try:
        with contextlib.ExitStack() as stack:
            if quietly:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))  # until there is a traceback
            job.make()
    except (ValueError, OSError) as error:
        return sentence_of(error)
    except KeyboardInterrupt:
        return "it was interrupted"
    return ""


def make_on_cluster(job: Job) -> None:
    """A run as a task on one CPU of the cluster that this process has joined. Raises as `make_apart` does."""
    import ray

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_make_at)
    try:
        why = ray.get(task.remote(job, os.getcwd()))
    except ray.exceptions.RayTaskError as error:
        print(error, file=sys.stderr)
        why = BUG
    except ray.exceptions.RayError:
        why = f"its process was lost {1 + RETRIES} times, as a rule for want of memory"
    if why:
        raise ValueError(why)


def _make_at(job: Job, folder: str) -> str:
    """In a process of the cluster: where paths mean what they meant."""
    os.chdir(folder)
    torch.set_num_threads(1)
    return _make(job, quietly=True)
