"""Where decoded images are kept: in memory, or mapped from the cache on disk."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.options import Keep
from fewlabels.progress import say

# Half-gathered batches, networks and other programs need room too; and past a gibibyte, mapped
# images train as fast as held ones, so that holding them buys nothing.
_LARGEST_SHARE = 1 / 8
_LARGEST_BYTES = 1 << 30
_REMARKABLE_BYTES = 64 << 20


def keep(images: npt.NDArray[Any], where: Keep) -> npt.NDArray[Any]:
    """Images where they shall be kept; what is decided for large ones is said.

    Args:
        images: (N, C, H, W), mapped from disk or not; those in memory stay there.
        where: "memory", "disk", or "auto": in memory where they take at most an eighth of what is
            free, and at most 1 GiB.
    """
    if mapping(images) is None:
        return images
    limit = min(_LARGEST_BYTES, free_memory() * _LARGEST_SHARE)
    held = where == "memory" or (where == "auto" and images.nbytes <= limit)
    if images.nbytes >= _REMARKABLE_BYTES:
        place = "held in memory" if held else "read from the cache on disk as they are needed"
        say(f"{len(images):,} images ({images.nbytes / 1e9:.2f} GB) are {place}.")
    return np.array(images) if held else images


def mapping(images: npt.NDArray[Any]) -> mmap.mmap | None:
    """The file mapping that an array lies in; None for memory of its own."""
    base: Any = images
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def gather(images: npt.NDArray[Any], positions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
    """A copy of the images at `positions`.

    Mapped images are read from their file instead: touching a mapping brings in up to 2 MB around
    each image, so that a few batches would make the whole file count as this process's memory.
    """
    place = _file_place(images)
    taken: npt.NDArray[Any]
    if place is None:
        taken = images[positions]
        return taken
    path, offset = place
    taken = np.empty((len(positions), *images.shape[1:]), dtype=images.dtype)
    target = taken.reshape(-1).view(np.uint8).data
    num_bytes = images[0].nbytes
    try:
        with open(path, "rb", buffering=0) as file:
            for row, position in enumerate(positions.tolist()):
                part = target[row * num_bytes : (row + 1) * num_bytes]
                if os.preadv(file.fileno(), [part], offset + position * num_bytes) != num_bytes:
                    raise OSError("the file has been cut")
    except OSError:  # removed or replaced meanwhile; the mapping still has it
        taken = images[positions]
    return taken


def _file_place(images: npt.NDArray[Any]) -> tuple[str, int] | None:
    """File and offset of the first of mapped images that lie one after the other; else None."""
    base: Any = images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    if not isinstance(base, np.memmap) or not images.flags.c_contiguous or not images.size:
        return None
    if base.filename is None or not hasattr(os, "preadv"):
        return None
    start: int = images.ctypes.data - base.ctypes.data
    return os.fspath(base.filename), int(base.offset) + start


def let_go(images: npt.NDArray[Any]) -> None:
    """Take pages of mapped images off this process; the system still has them while it likes.

    Otherwise a pass over all images makes all of them count as this process's memory.
    """
    mapped = mapping(images)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def free_memory() -> int:
    """Bytes that can be taken without pushing other programs out; half of all where unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            facts = dict(line.split(":", 1) for line in lines)
        return min(int(facts["MemAvailable"].split()[0]) * 1024, _group_limit())
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _group_limit() -> int:
    """What a container leaves of its memory; very much where there is no limit."""
    try:
        limit, used = (
            int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii"))
            for name in ("max", "current")
        )
        return max(0, limit - used)
    except (OSError, ValueError):
        return 1 << 62
