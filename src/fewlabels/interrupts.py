"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever it is at that moment. While it tidies up (in a finaliser or
a callback of a library) such an exception is printed and swallowed, and the program would go on as
if nothing had been pressed. So a press is also remembered, and long work asks for it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_presses: list[int] = []


@contextmanager
def remembering_interrupts() -> Iterator[None]:
    """Within the block, a press of Ctrl-C is remembered besides being raised at once."""
    _presses.clear()
    try:
        before = signal.signal(signal.SIGINT, _press)
    except ValueError:  # in another thread than the main one, which gets no signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _presses.clear()


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt that was swallowed, if one was."""
    if _presses:
        _presses.clear()
        raise KeyboardInterrupt


def _press(number: int, frame: FrameType | None) -> None:
    _presses.append(number)
    signal.default_int_handler(number, frame)
