"""What every command line shares: options from one dataclass, errors in one sentence."""

from __future__ import annotations

import dataclasses
import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from fins.disk import NO_ROOM, is_full

OF_TRAINING = ("h5py", "librosa", "markdown_it", "matplotlib", "PIL", "sklearn", "scipy", "threadpoolctl")
"""Libraries of the extra `train`."""

Config = TypeVar("Config")


def run_command(main: Callable[[Config], None], config: type[Config]) -> None:
    """Read `config` from the command line and call `main`; what `config` says of itself is shown with --help.

    Wrong input (ValueError, OSError), told by the dataclass's own checks or by `main`, ends with one sentence
    on standard error and exit code 2; an interruption with 130. Anything else is a bug and keeps its
    traceback. Modules of the current directory can be imported, for what is named as module:function.
    """
    run_checked(lambda: main(read_options(config)))


def run_checked(call: Callable[[], None]) -> None:
    """Call what a command line does, as `run_command` says of errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal can't show is no error
            stream.reconfigure(errors="backslashreplace")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` does, for installed commands too
    try:
        call()
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        print(f"error: {sentence_of(error)}", file=sys.stderr)
        _give_up_output()
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _give_up_output() -> None:
    """What standard output can't take is lost now; else Python would try again as it ends, and say so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_options(config: type[Config], arguments: Sequence[str] | None = None) -> Config:
    """The options of the command line, or of `arguments`, as `config`; its own checks raise as they do.

    tyro shows a ValueError of a dataclass in a box of its own, so it reads one without checks.
    """
    about = inspect.cleandoc(config.__doc__ or "")
    if not hasattr(config, "__post_init__"):
        return tyro.cli(config, prog=program(), description=about, args=arguments)
    unchecked: Any = dataclasses.make_dataclass(
        config.__name__,
        (),
        bases=(config,),
        frozen=True,
        namespace={"__post_init__": lambda self: None, "__doc__": config.__doc__},
    )
    options = tyro.cli(unchecked, prog=program(), description=about, args=arguments)
    return config(**{field.name: getattr(options, field.name) for field in dataclasses.fields(unchecked)})


def program() -> str:
    """What help calls the command: as it was called, without the folder of a module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec and sys.argv[0].endswith(".py") else sys.argv[0]


def tell_what_is_missing(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """One sentence and exit code 2 for a command whose libraries weren't installed: they are an extra.

    Python's own hook for all else.
    """
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    module = getattr(sys.modules["__main__"].__spec__, "name", "")
    is_command = module.startswith(("fins.", "pipelines.")) or sys.argv[0].startswith("fin-ser ")
    if kind is not ModuleNotFoundError or missing not in OF_TRAINING or not is_command:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: this needs {missing}: pip install 'fin-ser[train]' brings it", file=sys.stderr, flush=True)
    os._exit(2)  # a hook has no other way to choose the code; nothing has begun yet


sys.excepthook = tell_what_is_missing


def sentence_of(error: Exception) -> str:
    """One line: what the operating system says, without its number; other errors are sentences already."""
    if isinstance(error, OSError) and error.strerror:
        words = NO_ROOM if is_full(error) else error.strerror
        if not error.filename:  # whatever writes a file names it
            return f"the output can't be written: {words}" if is_full(error) else words
        return f"{error.filename}: {words}"
    return " ".join(str(error).split())


def choose_device() -> str:
    """A graphics card where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
