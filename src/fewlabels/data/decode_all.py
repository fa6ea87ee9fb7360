"""Many encoded images to one array, on disk or in memory, with what was noticed on the way."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fewlabels.data.decode import DecodedImage, decode_image, quiet_pillow, read_size
from fewlabels.data.decode_workers import DecodeWorkers, Job, Outcome
from fewlabels.data.image_set import Problem
from fewlabels.data.resize import Size, usual_size
from fewlabels.errors import DataError
from fewlabels.progress import progress_bar

# Images per task: handing over small images one by one costs more than decoding them. Few tasks are
# in flight at once, which bounds memory and how long Ctrl-C waits.
_BATCH = 128
# From so many images on, processes have won back their start against threads.
_ENOUGH_FOR_PROCESSES = 2_000
# Images whose sizes are looked at to guess the usual one.
_SAMPLE = 256
# Below this share of the full range, 16-bit grey comes out almost black.
_DARK_PEAK = 65536 // 16
_MOST_SIZES = 20

Facts = dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """Images of a source before decoding.

    Attributes:
        source: what is read, for messages.
        names: N names, in order.
        contents: starts an iteration over N paths or file contents, in the order of `names`.
        stamp: everything that tells one state of the source from another: names, sizes, times.
    """

    source: str
    names: Sequence[str]
    contents: Callable[[], Iterator[bytes | str | Path]]
    stamp: Sequence[tuple[str, int, int]]


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """Images of a source after decoding.

    Attributes:
        images: uint8 (M, C, H, W) of the M that could be read.
        kept: int64 (M,), their positions among the N.
        problems: one for each of the others, and for what looks wrong.
        facts: "modes", "sizes" and "resized", see `ImageSet`.
    """

    images: npt.NDArray[np.uint8]
    kept: npt.NDArray[np.int64]
    problems: tuple[Problem, ...]
    facts: Facts


class Store(Protocol):
    """Where decoded images go, one after the other."""

    def append(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Add one image, uint8 (C, H, W) with 1 or 3 channels."""

    def finish(self) -> npt.NDArray[np.uint8]:
        """All images, uint8 (M, C, H, W); grey ones repeated to colour where any is coloured."""

    def close(self) -> None:
        """Let go of files; called in any case."""


class MemoryStore:
    """Keeps the images in memory."""

    def __init__(self, num_images: int, size: Size) -> None:
        self._images = np.empty((num_images, 1, *size), dtype=np.uint8)
        self._count = 0

    def append(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Add one image, uint8 (C, H, W) with 1 or 3 channels."""
        if pixels.shape[0] > self._images.shape[1]:
            grey = self._images
            self._images = np.empty((len(grey), 3, *grey.shape[2:]), dtype=np.uint8)
            self._images[: self._count] = grey[: self._count]
        self._images[self._count] = pixels
        self._count += 1

    def finish(self) -> npt.NDArray[np.uint8]:
        """All images, uint8 (M, C, H, W)."""
        return self._images[: self._count]

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class _Tally:
    size: Size
    kept: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[Size] = field(default_factory=Counter)
    peaks: list[int] = field(default_factory=list)

    def add(self, position: int, outcome: DecodedImage | Problem) -> None:
        if isinstance(outcome, Problem):
            self.problems.append(outcome)
            return
        self.kept.append(position)
        self.modes[outcome.mode] += 1
        self.sizes[outcome.size] += 1
        if outcome.peak is not None:
            self.peaks.append(outcome.peak)

    def facts(self) -> Facts:
        return size_facts(self.sizes, self.size) | {"modes": dict(self.modes.most_common())}


def size_facts(sizes: Counter[Size], target: Size) -> Facts:
    """The facts "sizes" (height x width, the 20 most common) and "resized" of an image set."""
    common = {
        f"{height}x{width}": count for (height, width), count in sizes.most_common(_MOST_SIZES)
    }
    rest = sizes.total() - sum(common.values())
    if rest:
        common["other"] = rest
    return {"sizes": common, "resized": {"images": sizes.total() - sizes[target]}}


def decode_all(
    encoded: EncodedImages, size: Size | None, make_store: Callable[[int, Size], Store]
) -> DecodedImages:
    """Decode every image, with as many threads or processes as the machine has cores.

    Args:
        encoded: the images.
        size: what each is cropped and resized to; None for the most common size, at most 96.
        make_store: makes the place for that many images of that size.

    Raises:
        DataError: no image can be read.
    """
    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool, _decoder(encoded) as decode:
        target = size or _guess_usual_size(encoded, pool)
        images, tally = _decode_to(encoded, target, pool, decode, make_store)
        # With the images decoded all sizes are known, which shows whether the guess was right.
        if size is None and usual_size(tally.sizes) != target:
            del images
            target = usual_size(tally.sizes)
            images, tally = _decode_to(encoded, target, pool, decode, make_store)
    problems = (*tally.problems, *_dark_problem(encoded.source, tally.peaks))
    kept = np.array(tally.kept, dtype=np.int64)
    return DecodedImages(images=images, kept=kept, problems=problems, facts=tally.facts())


_Decode = Callable[[Sequence[Job], Size], list[Outcome]]


@contextmanager
def _decoder(encoded: EncodedImages) -> Iterator[_Decode]:
    """What decodes a handful of images: in the calling thread, or for many images in a process."""
    if len(encoded.names) < _ENOUGH_FOR_PROCESSES:
        yield lambda jobs, size: [decode_image(content, name, size) for name, content in jobs]
        return
    with closing(DecodeWorkers(os.cpu_count() or 1)) as workers:
        yield workers.decode


def _decode_to(
    encoded: EncodedImages,
    size: Size,
    pool: ThreadPoolExecutor,
    decode: _Decode,
    make_store: Callable[[int, Size], Store],
) -> tuple[npt.NDArray[np.uint8], _Tally]:
    tally = _Tally(size)
    jobs = zip(encoded.names, encoded.contents(), strict=True)
    with (
        closing(make_store(len(encoded.names), size)) as store,
        progress_bar("Decoding images", len(encoded.names)) as progress,
    ):
        outcomes = _map_in_chunks(pool, lambda batch: decode(batch, size), jobs)
        for position, outcome in enumerate(outcomes):
            tally.add(position, outcome)
            if isinstance(outcome, DecodedImage):
                store.append(outcome.pixels)
                tally.problems += _changed_problem(encoded, position, outcome)
            progress.advance()
        if not tally.kept:
            raise DataError(_nothing_readable(encoded, tally.problems))
        return store.finish(), tally


def _changed_problem(
    encoded: EncodedImages, position: int, decoded: DecodedImage
) -> tuple[Problem, ...]:
    """What is said of a file that is no longer as it was listed."""
    listed = encoded.stamp[position] if len(encoded.stamp) == len(encoded.names) else None
    if decoded.stamp is None or listed is None or listed[0] != encoded.names[position]:
        return ()
    if listed[1:] == decoded.stamp:
        return ()
    message = "changed while the images were being read; the next start reads it again"
    return (Problem(kind="changed", where=encoded.names[position], message=message),)


def _guess_usual_size(encoded: EncodedImages, pool: ThreadPoolExecutor) -> Size:
    """The usual size: of a sample where all of it agrees, else of all images, by their headers."""
    every = max(1, len(encoded.names) // _SAMPLE)
    sample = _count_sizes(islice(encoded.contents(), 0, None, every), len(encoded.names), pool)
    if len(sample) > 1:
        sample = _count_sizes(encoded.contents(), len(encoded.names), pool)
    return usual_size(sample) if sample else (1, 1)


def _count_sizes(
    contents: Iterator[bytes | str | Path], count: int, pool: ThreadPoolExecutor
) -> Counter[Size]:
    sizes: Counter[Size] = Counter()
    with progress_bar("Reading image sizes", count) as progress:
        reading = _map_in_chunks(pool, lambda batch: [read_size(one) for one in batch], contents)
        for size in reading:
            if size is not None:
                sizes[size] += 1
            progress.advance()
    return sizes


def _map_in_chunks(
    pool: ThreadPoolExecutor, function: Callable[[list[Any]], list[Any]], jobs: Iterator[Any]
) -> Iterator[Any]:
    """Results in the order of the jobs, while a few chunks of them are always under way."""
    waiting: deque[Future[list[Any]]] = deque()
    most = 2 * (os.cpu_count() or 1)
    while batch := list(islice(jobs, _BATCH)):
        waiting.append(pool.submit(function, batch))
        if len(waiting) >= most:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _nothing_readable(encoded: EncodedImages, problems: Sequence[Problem]) -> str:
    if not problems:
        return f"{encoded.source} holds no images."
    first = problems[0]
    if len(problems) == 1:
        return f"The only image, {first.where} of {encoded.source}, {first.message}."
    return (
        f"None of the {len(problems)} images of {encoded.source} can be read; the first, "
        f"{first.where}, {first.message}. Check the files, or export them again as PNG or JPEG."
    )


def _dark_problem(source: str, peaks: Sequence[int]) -> tuple[Problem, ...]:
    if not 0 < max(peaks, default=0) < _DARK_PEAK:
        return ()
    message = (
        f"its {len(peaks)} images with 16 bits stay below {max(peaks) + 1} of 65536 and come out "
        "almost black; stretch them to the full range first"
    )
    return (Problem(kind="dark", where=source, message=message),)
