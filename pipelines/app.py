"""python -m pipelines.app: a page on this computer that answers about recordings."""

from __future__ import annotations

import contextlib
import signal
import threading

from fins.command import run_command
from ser_heads.inference.app import AppOptions, serving


def main(options: AppOptions) -> None:
    """Serve until the command is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(options) as address:
        print(f"{address} is open, for this computer alone; Ctrl+C ends it", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    run_command(main, AppOptions)
