"""A progress bar on standard error; silent when that is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_SECONDS_BETWEEN_UPDATES = 0.1


class Progress(Protocol):
    """What long work reports to."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""

    def note(self, **fields: str) -> None:
        """Show these beside the bar from now on."""

    def expect(self, total: int) -> None:
        """Say that it will be so many units in all."""


class SilentProgress:
    """Reports nothing."""

    def advance(self, amount: int = 1) -> None:
        """Do nothing."""

    def note(self, **fields: str) -> None:
        """Do nothing."""

    def expect(self, total: int) -> None:
        """Do nothing."""


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Progress]:
    """Show a bar with what is done, time left and a free note, while the block runs.

    Args:
        description: what is being done, in a few words.
        total: number of units until done.
    """
    if not sys.stderr.isatty():
        yield SilentProgress()
        return
    # Rich costs a tenth of a second to import, so only where a bar is really shown.
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total, note="")

        class _Shown:
            # A bar that is drawn ten times a second need not hear of each of a thousand steps.
            waiting, fields, last = 0, "", 0.0

            def advance(self, amount: int = 1) -> None:
                self.waiting += amount
                now = time.monotonic()
                if now - self.last >= _SECONDS_BETWEEN_UPDATES:
                    bar.update(task, advance=self.waiting, note=self.fields)
                    self.waiting, self.last = 0, now

            def note(self, **fields: str) -> None:
                self.fields = "  ".join(f"{name} {value}" for name, value in fields.items())

            def expect(self, total: int) -> None:
                bar.update(task, total=total)

        yield _Shown()


def say(sentence: str) -> None:
    """Print one line for the user on standard error."""
    print(sentence, file=sys.stderr, flush=True)
