"""Ray, the extra `cluster`: a session on this machine, or on a cluster that this machine belongs to."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fins.command import sentence_of
from fins.leftovers import temporary_folder

ANSWERS = 5.0  # seconds in which a cluster does
ENDING = 5.0  # seconds in which processes that are killed are gone
RETRIES = 3  # of work whose process was lost
OBJECT_STORE = 100 * 2**20  # bytes: what processes hand each other here are numbers
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # of a trial that failed there is no score
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def check_ray() -> None:
    """ValueError if Ray isn't there."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError("a search needs Ray: install the extra, pip install 'fin-ser[cluster]'")


@contextlib.contextmanager
def ray_session(address: str | None = None, n_cpus: int | None = None) -> Iterator[None]:
    """Ray for as long as the context lasts.

    address : host:port of a cluster's head, or auto for the cluster that this machine runs a node of; by
        default processes of this machine alone, which end with the context
    n_cpus : of this machine, without an address; by default all
    Processes of a cluster need this package, and its files under the same paths. They hand each other
    pickles, so a cluster is for those who trust each other; none is written for later or read again.
    Raises ValueError in one sentence if there is no Ray, or no cluster at the address.
    """
    check_ray()
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray

    silent = {"log_to_driver": False, "logging_level": "CRITICAL"}
    # a short name: sockets lie there
    own_folder = contextlib.nullcontext() if address else temporary_folder("ser-", end=end_processes)
    with own_folder as folder:
        try:
            if address:
                join_cluster(address, silent)
            else:
                start_ray(silent | {"num_cpus": n_cpus, "_temp_dir": str(folder)})
            yield
        finally:
            ray.shutdown()


def end_processes(folder: Path) -> None:
    """End what a killed session left at work in its folder; some of it ends by itself, much later."""
    for number in processes_in(folder):
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    deadline = time.monotonic() + ENDING
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)


def processes_in(folder: Path) -> list[int]:
    """Numbers of Ray's processes that have files open in a folder, where the system shows them."""
    numbers = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"ray::") or b"/ray/" in title:
                opened = [os.readlink(link) for link in (process / "fd").iterdir()]
                if any(Path(name).is_relative_to(folder) for name in opened):
                    numbers.append(int(process.name))
    return numbers


def join_cluster(address: str, silent: dict[str, object]) -> None:
    """Become a driver of a cluster."""
    import ray

    host, _, port = address.rpartition(":")
    if address != "auto" and ("/" in address or not (host and port.isdigit())):
        raise ValueError(f"{address} is no address of a cluster's head: give host:port, or auto")
    try:
        if address != "auto":  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=ANSWERS).close()
        ray.init(address=address, **silent)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"no cluster of Ray can be joined at {address}: start one with ray start, and run this on one "
            "of its machines"
        ) from error


def start_ray(options: dict[str, object]) -> None:
    """Start Ray on this machine. It gives its processes 30 s; what a failed start left ends with this one."""
    import ray

    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, **options)
    except Exception as error:  # Ray has no kind of its own for this
        raise ValueError(
            f"Ray doesn't start on this machine ({sentence_of(error)}): try again when it is less busy"
        ) from error


def resources(name: str) -> list[float]:
    """How many CPUs or GPUs (`CPU`, `GPU`) each machine has, in a session."""
    import ray

    return [node["Resources"].get(name, 0.0) for node in ray.nodes() if node["Alive"]]
