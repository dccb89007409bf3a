"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading

KILLED = 130  # exit code, as after an interruption


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
