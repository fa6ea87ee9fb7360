"""Decoding in processes of their own.

Python's threads share one interpreter, and for small images the interpreter, not the decoder, is
what takes the time: 60,000 JPEG files of 32 × 32 pixels on two cores took 20 s with two threads and
4 s with two processes.

The processes are this module, started with an interpreter of its own: a forked copy could inherit
a lock that torch's threads hold, and a spawned one would run the caller's script again where it has
no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data.decode import DecodedImage, decode_image, quiet_pillow
from fewlabels.data.image_set import Problem
from fewlabels.data.resize import Size

Job = tuple[str, bytes | str | Path]
"""An image's name and its content or path."""

Outcome = DecodedImage | Problem

# The path goes along, as a caller may have added to it.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from fewlabels.data.decode_workers import serve; serve()"
)


class WorkerDiedError(Exception):
    """A decoding process ended in the middle of its work."""


class DecodeWorkers:
    """So many decoding processes, for as many threads to hand work to."""

    def __init__(self, count: int) -> None:
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker() for _ in range(count)]
        for worker in self._all:
            self._idle.put(worker)

    def decode(self, jobs: Sequence[Job], size: Size) -> list[Outcome]:
        """Decode images, in order; see `decode_image`.

        A process that dies is replaced. The image that it died of comes back as a `Problem`.
        """
        worker = self._idle.get()
        try:
            try:
                return worker.decode(jobs, size)
            except WorkerDiedError:
                # A file that crashes the decoder, or somebody's kill: one by one will tell.
                return [self._decode_alone(worker, job, size) for job in jobs]
        finally:
            self._idle.put(worker)

    def _decode_alone(self, worker: _Worker, job: Job, size: Size) -> Outcome:
        for _ in range(2):
            worker.restart_if_dead()
            with suppress(WorkerDiedError):
                return worker.decode([job], size)[0]
        worker.restart_if_dead()
        return Problem(kind="broken", where=job[0], message="makes the decoder crash")

    def close(self) -> None:
        """End all processes."""
        for worker in self._all:
            worker.close()


class _Worker:
    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def restart_if_dead(self) -> None:
        if self._process.poll() is not None:
            self.close()
            self._start()

    def decode(self, jobs: Sequence[Job], size: Size) -> list[Outcome]:
        request, reply = self._process.stdin, self._process.stdout
        assert request is not None
        assert reply is not None
        try:
            pickle.dump((list(jobs), size), request, pickle.HIGHEST_PROTOCOL)
            request.flush()
            return _unpack(pickle.load(reply))
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._process.kill()
            self._process.wait()
            raise WorkerDiedError from error

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer requests on standard input until it closes; what a decoding process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that started this one
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    with quiet_pillow():
        while True:
            try:
                jobs, size = pickle.load(requests)
            except EOFError:
                return
            outcomes = [decode_image(content, name, size) for name, content in jobs]
            pickle.dump(_pack(outcomes), replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()


def _pack(outcomes: list[Outcome]) -> Any:
    """Pixels of one shape go as one block, several times cheaper than many small arrays."""
    images = [outcome for outcome in outcomes if isinstance(outcome, DecodedImage)]
    if len(images) < len(outcomes) or len({image.pixels.shape for image in images}) != 1:
        return outcomes
    facts = [(image.mode, image.size, image.peak, image.stamp) for image in images]
    return np.stack([image.pixels for image in images]), facts


def _unpack(reply: Any) -> list[Outcome]:
    if isinstance(reply, list):
        return reply
    block, facts = reply
    return [
        DecodedImage(pixels=pixels, mode=mode, size=size, peak=peak, stamp=stamp)
        for pixels, (mode, size, peak, stamp) in zip(block, facts, strict=True)
    ]
