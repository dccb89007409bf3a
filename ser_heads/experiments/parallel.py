"""Several runs of a classifier: in processes of this machine, or on the machines of a cluster of Ray."""

from __future__ import annotations

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
from fins.learning.degradations import AS_RECORDED
from fins.processes import end_with_parent
from fins.progress import SILENT, Watch
from fins.runs import RESULT
from ser_heads.evaluation.unseen import evaluate_run, is_judged, slug_of
from ser_heads.experiments.cluster import RETRIES, ray_session, resources
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.run import train_classifier

UNSEEN = "unseen"  # folder in a run for what its model answers about unseen stores
ENDING = 30.0  # seconds that reading results, pictures and pages take
STARTING = 5.0  # seconds that the process of a run takes before it counts its own time
INTERRUPTED = 10.0  # seconds that a run has to end by itself, before it is ended
BUG = "it has a bug, whose traceback stands above"


@dataclass(frozen=True)
class Job:
    """A run to be made, in its own folder.

    label : what it is called; config : with `out`; unseen : stores on which its model is judged too
    conditions : under which its model is judged once more on what it was tested on
    """

    label: str
    config: RunConfig
    unseen: tuple[Path, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        """Its folder."""
        assert self.config.out is not None
        return self.config.out

    def is_made(self) -> bool:
        """Whether it has its results, be they of these options or of others."""
        return (self.out / RESULT).exists() and not self._to_judge()

    def make(self, watch: Watch = SILENT) -> None:
        """Train, from where it was left, and judge."""
        train_classifier(self.config, watch)
        for folder, stores, condition in self._to_judge():
            evaluate_run(self.out, stores, folder, condition, watch=watch)

    def _to_judge(self) -> list[tuple[Path, tuple[Path, ...], str]]:
        """Folder, stores and condition of what isn't judged yet."""
        wanted = [(self.out / UNSEEN, self.unseen, AS_RECORDED)] if self.unseen else []
        wanted += [(self.out / slug_of(one), self.config.store, one) for one in self.conditions]
        return [judged for judged in wanted if not is_judged(*judged[:2])]


def make_runs(
    jobs: Sequence[Job], workers: int = 1, address: str | None = None, watch: Watch = SILENT
) -> list[str]:
    """Make what isn't made yet; of each run why it failed, or nothing, in their order.

    workers : processes at a time, which share the cores of this machine
    address : of a cluster, host:port of its head or auto, each of whose CPUs takes a run at a time instead;
        its machines find stores and folders by the same paths
    watch : where runs are made one after another, also of each; it is pickled then
    A run whose process is lost on a cluster goes on in another one. Raises ValueError in one sentence if
    there is no cluster. `check_workers` says before any work whether the two can be meant.
    """
    if address is None or all(job.is_made() for job in jobs):
        at_once = max(1, min(workers, len(jobs)))
        return _make_all(jobs, at_once, lambda job: make_apart(job, at_once, watch), watch)
    with ray_session(address):
        return _make_all(jobs, int(sum(resources("CPU"))), make_on_cluster, watch)


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


def _make_all(
    jobs: Sequence[Job], at_once: int, make: Callable[[Job], None], watch: Watch = SILENT
) -> list[str]:
    alone = threading.Lock()  # weights are drawn from the process's one generator

    def why_not(place: int) -> str:
        job = jobs[place]
        watch.note(f"run {place + 1} of {len(jobs)}: {job.label}")
        try:
            if job.is_made():  # training says whether it is this very run: that needs no process
                with alone:
                    watch.note(train_classifier(job.config).text)
            else:
                make(job)
        except (ValueError, OSError) as error:
            watch.note(f"{job.label} failed: {sentence_of(error)}")
            return sentence_of(error)
        return ""

    threads = ThreadPoolExecutor(max(1, at_once))
    try:
        return list(threads.map(why_not, range(len(jobs))))
    except KeyboardInterrupt:  # from the keyboard it comes to the runs too
        threads.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.join(INTERRUPTED)
            process.terminate()
        raise


def make_apart(job: Job, workers: int = 1, watch: Watch = SILENT) -> None:
    """A run in a process of its own, so that memory and threads end with it.

    workers : processes like this one that share the cores; of several none shows its progress
    Raises ValueError with the reason if it fails, whatever that is: the others go on.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (job, workers, sender, watch if workers == 1 else SILENT)
    process = context.Process(target=_make_and_send, args=arguments, daemon=True)
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


def _make_and_send(job: Job, workers: int, sender: Connection, watch: Watch) -> None:
    """In the process: send the reason of a failure, or nothing."""
    end_with_parent()  # its folder is free then for the next try
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    sender.send(_why_failed(job, watch))


def _why_failed(job: Job, watch: Watch = SILENT) -> str:
    """Make a run: why it failed, or nothing; a bug is raised."""
    try:
        job.make(watch)
    except (ValueError, OSError) as error:
        return sentence_of(error)
    except KeyboardInterrupt:
        return "it was interrupted"
    return ""


def make_on_cluster(job: Job) -> None:
    """A run as a task on one CPU of the cluster that this process has joined. Raises as `make_apart` does."""
    import ray

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_make_in_folder)
    try:
        why = ray.get(task.remote(job, os.getcwd()))
    except ray.exceptions.RayTaskError as error:
        print(error, file=sys.stderr)  # the traceback of a bug, which was raised on another machine
        why = BUG
    except ray.exceptions.RayError:
        why = f"its process was lost {1 + RETRIES} times, as a rule for want of memory"
    if why:
        raise ValueError(why)


def _make_in_folder(job: Job, folder: str) -> str:
    """In a process of the cluster: where paths mean what they meant."""
    os.chdir(folder)
    torch.set_num_threads(1)
    return _why_failed(job)
