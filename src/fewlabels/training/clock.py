"""Training for a time, rather than for a number of epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

_RECENT = 5
"""Epochs that say how long the next ones will take."""


class Countdown:
    """Seconds that are left of so many, from the first time that it is asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None

    def __call__(self) -> float:
        """What is left; below 0 once it is over."""
        now = time.perf_counter()
        self._end = now + self._seconds if self._end is None else self._end
        return self._end - now


class Clock:
    """How long a training may go on.

    A schedule has to know its end beforehand. So the end is worked out anew before each epoch, from
    how long the last ones took: where steps turn out dearer or cheaper than was thought, the
    schedule becomes shorter or longer, and still comes to its end in time.

    Args:
        left: seconds that are left, asked again and again.
        planned: epochs that probably fit, before any was timed.
    """

    def __init__(self, left: Callable[[], float], planned: int) -> None:
        self._left = left
        self._planned = planned

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return self._left() <= 0

    def num_epochs(self, history: Sequence[Mapping[str, Any]]) -> int:
        """How many epochs there will be in all; those done count.

        Args:
            history: one row an epoch, with its "seconds".
        """
        done = len(history)
        if done < 2:  # the first one warms up
            return max(self._planned, done)
        each = median(float(row["seconds"]) for row in history[1:][-_RECENT:])
        return done + max(0, int(self._left() / max(each, 1e-9)))
