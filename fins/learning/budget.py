"""A budget of minutes: when training has to end so that the result is there in time."""

from __future__ import annotations

import math
import time

LEAST = 1.0  # second: writing and drawing a result never take less
SHORTEST = 2.0  # seconds that training gets at least, or a quarter of the budget if that is less
CAUTION = 1.1  # what scoring may take, by what it took so far


class Budget:
    """A promise about the end of a run: training may last until what follows it just fits.

    minutes : of the whole run, or None for no limit
    started : of the run, by time.monotonic(); None is now
    n_afterwards : windows that are scored when training is over
    closing : seconds that drawing and writing take

    What scoring takes is measured on real work, again and again (`scored`); until it is, it counts as
    nothing. Work is never thrown away: where time is short after all, the end comes later by what must still
    be done.
    """

    def __init__(
        self,
        minutes: float | None,
        started: float | None = None,
        n_afterwards: int = 0,
        closing: float = 0.0,
    ) -> None:
        self.minutes, self.n_afterwards, self.closing = minutes, n_afterwards, closing
        self.started = time.monotonic() if started is None else started
        self.total = math.inf if minutes is None else minutes * 60
        self.spent_before = 0.0  # seconds that earlier tries of this run took
        self.seconds_per_window = 0.0  # of scoring
        self.opened = time.monotonic()

    def scored(self, n_windows: int, seconds: float) -> None:
        """Scoring so many windows took so long: the latest measurement counts."""
        if n_windows:
            self.seconds_per_window = seconds / n_windows

    def check(self) -> None:
        """ValueError if the budget is shorter than what is already known to be unavoidable.

        Scoring counts by half: a machine may turn out to be faster than it was, but not by that much.
        """
        scoring = self.n_afterwards * self.seconds_per_window
        if self.total < max(LEAST, scoring / 2):
            why = "writing and drawing a result take a second or more"
            if scoring / 2 > LEAST:
                why = f"scoring {self.n_afterwards:,} windows alone takes about {scoring / 60:.1f}"
            raise ValueError(f"{self.minutes:g} minutes are too few: {why}")

    def left(self) -> float:
        """Seconds that training still may take, infinite without a budget; below 0 it has to end."""
        now = time.monotonic()
        afterwards = CAUTION * self.n_afterwards * self.seconds_per_window + self.closing
        left = self.total - afterwards - self.spent_before - (now - self.started)
        least = min(SHORTEST, self.total / 4) - self.spent_before - (now - self.opened)
        return max(left, least)
