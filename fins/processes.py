"""Worker processes that end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from pathlib import Path

KILLED = 130  # exit code, as after an interruption
SEMAPHORES = Path("/dev/shm")  # where Linux shows them, as sem.NAME
# among which processes a number is its own; containers may share semaphores
NUMBERED = Path("/proc/self/ns/pid")


def name_semaphores() -> None:
    """Name this process's semaphores after it, and remove those whose process was killed.

    Workers that are started anew open them by their name, so that these outlive a kill of all at once.
    """
    if not (SEMAPHORES.is_dir() and NUMBERED.exists()):
        return
    prefix = f"ser-{NUMBERED.stat().st_ino}"
    for path in SEMAPHORES.glob(f"sem.{prefix}-*"):
        number = path.name.split("-")[2]
        if number.isdigit() and not _is_running(int(number)):
            with contextlib.suppress(OSError):
                path.unlink()
    vars(multiprocessing.current_process())["_config"]["semprefix"] = f"/{prefix}-{os.getpid()}"


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def end_with_parent() -> None:
    """Have this process end when its parent does, however that ends: what it worked on is free for the next.

    Nothing happens in a process that no other one of Python's multiprocessing has started.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(KILLED)
