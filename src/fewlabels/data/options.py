"""What a reader is told besides the path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Keep = Literal["auto", "memory", "disk"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read an image set.

    Attributes:
        labels: a label file, None where the labels are part of the data.
        image_size: height, width in pixels; None for the most common size, at most 96.
        cache: keep decoded images on disk for the next start.
        keep: where decoded images are kept meanwhile: "memory", "disk" (in the cache, from where
            they are read as they are needed), or "auto" for what their size suggests.
    """

    labels: Path | None = None
    image_size: tuple[int, int] | None = None
    cache: bool = True
    keep: Keep = "auto"
