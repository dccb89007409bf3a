"""What long work tells while it goes on: notes and bars, shown or not."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from tqdm import tqdm


class Bar(AbstractContextManager["Bar"], Protocol):
    """A bar over so many units of work; it closes with its context."""

    def update(self, n: int = 1) -> object:
        """So many more units are done."""

    def describe(self, text: str) -> object:
        """What stands before the bar."""


class Watch(Protocol):
    """Whom long work tells how far it is; libraries are silent unless they are given another one."""

    def note(self, text: str) -> None:
        """A line for a person."""

    def bar(self, total: int | None, unit: str, what: str = "") -> Bar:
        """A bar over `total` units, as in `with watch.bar(10, "files") as bar: bar.update()`."""


class _SilentBar:
    def update(self, n: int = 1) -> None:
        """Nothing."""

    def describe(self, text: str) -> None:
        """Nothing."""

    def __enter__(self) -> _SilentBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing."""


class _Silent:
    def note(self, text: str) -> None:
        """Nothing."""

    def bar(self, total: int | None, unit: str, what: str = "") -> Bar:
        return _SilentBar()


class _TqdmBar(_SilentBar):
    def __init__(self, total: int | None, unit: str, what: str) -> None:
        many = total is not None and total >= 10_000  # 1.25M is read faster than 1250000
        self.inner = tqdm(
            total=total, unit=f" {unit}", desc=what or None, mininterval=0.5, leave=False, unit_scale=many
        )

    def update(self, n: int = 1) -> None:
        self.inner.update(n)

    def describe(self, text: str) -> None:
        self.inner.set_description(text, refresh=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.close()


class TqdmWatch:
    """Notes on standard output, bars by tqdm on standard error: for command lines."""

    def note(self, text: str) -> None:
        tqdm.write(text)  # which holds bars back for a moment
        sys.stdout.flush()

    def bar(self, total: int | None, unit: str, what: str = "") -> Bar:
        return _TqdmBar(total, unit, what)


SILENT: Watch = _Silent()
