"""Many encoded images to one array, on disk or in memory, with what was noticed on the way."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fewlabels.data.decode import DecodedImage, decode_image, quiet_pillow, read_size
from fewlabels.data.image_set import Problem
from fewlabels.data.resize import Size, usual_size
from fewlabels.errors import DataError
from fewlabels.progress import progress_bar

# Images per task: handing over small images one by one costs more than decoding them. Few tasks are
# in flight at once, which bounds memory and how long Ctrl-C waits.
_BATCH = 32
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
    contents: Callable[[], Iterator[bytes | Path]]
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
    """Decode every image with as many threads as the machine has cores.

    Args:
        encoded: the images.
        size: what each is cropped and resized to; None for the most common size, at most 96.
        make_store: makes the place for that many images of that size.

    Raises:
        DataError: no image can be read.
    """
    num_images = len(encoded.names)
    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        target = size or _find_usual_size(encoded, pool)
        with closing(make_store(num_images, target)) as store:
            tally = _fill_store(encoded, target, pool, store)
            if not tally.kept:
                raise DataError(_nothing_readable(encoded, tally.problems))
            images = store.finish()
    problems = (*tally.problems, *_dark_problem(encoded.source, tally.peaks))
    kept = np.array(tally.kept, dtype=np.int64)
    return DecodedImages(images=images, kept=kept, problems=problems, facts=tally.facts())


def _fill_store(
    encoded: EncodedImages, size: Size, pool: ThreadPoolExecutor, store: Store
) -> _Tally:
    def decode(job: tuple[str, bytes | Path]) -> DecodedImage | Problem:
        return decode_image(job[1], job[0], size)

    tally = _Tally(size)
    jobs = zip(encoded.names, encoded.contents(), strict=True)
    with progress_bar("Decoding images", len(encoded.names)) as progress:
        for position, outcome in enumerate(_map_in_chunks(pool, decode, jobs)):
            tally.add(position, outcome)
            if isinstance(outcome, DecodedImage):
                store.append(outcome.pixels)
            progress.advance()
    return tally


def _find_usual_size(encoded: EncodedImages, pool: ThreadPoolExecutor) -> Size:
    sizes: Counter[Size] = Counter()
    with progress_bar("Reading image sizes", len(encoded.names)) as progress:
        for size in _map_in_chunks(pool, read_size, encoded.contents()):
            if size is not None:
                sizes[size] += 1
            progress.advance()
    return usual_size(sizes) if sizes else (1, 1)


def _map_in_chunks(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], jobs: Iterator[Any]
) -> Iterator[Any]:
    def work_off(batch: list[Any]) -> list[Any]:
        return [function(job) for job in batch]

    num_batches = 2 * (os.cpu_count() or 1)
    while batches := [batch for _ in range(num_batches) if (batch := list(islice(jobs, _BATCH)))]:
        for outcomes in pool.map(work_off, batches):
            yield from outcomes


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
