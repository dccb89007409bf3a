"""What every command line shares: options from one dataclass, errors in one sentence."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

Config = TypeVar("Config")


def run_command(
    main: Callable[[Config], None],
    config: type[Config],
    description: str,
    defaults: Callable[[Sequence[str]], Config] | None = None,
) -> None:
    """Read `config` from the command line and call `main`.

    defaults : of the arguments, where options that aren't given depend on one that is

    Wrong input (ValueError, OSError) ends with one sentence on standard error and exit code 2; an
    interruption with 130. Anything else is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal can't show is no error
            stream.reconfigure(errors="backslashreplace")
    about = inspect.cleandoc(description)
    if defaults is None:
        options = tyro.cli(config, description=about)
    else:
        options = tyro.cli(config, description=about, default=defaults(sys.argv[1:]))
    try:
        main(options)
    except (ValueError, OSError) as error:
        print(f"error: {sentence_of(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def sentence_of(error: Exception) -> str:
    """One line: what the operating system says, without its number; other errors are sentences already."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
