"""Exact duplicates: images whose pixels are all equal."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.memory import let_go

_IMAGES_BETWEEN = 16_384


def duplicate_groups(images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """For each image the position of the first image with identical content.

    An image without an earlier twin gets its own position. Content is compared by a 128-bit hash.

    Args:
        images: (N, ...), any type.

    Returns:
        int64 (N,).
    """
    first: dict[bytes, int] = {}
    groups = np.empty(len(images), dtype=np.int64)
    for position, image in enumerate(images):
        # A flat contiguous copy of one image: the hash takes no strided memory.
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        groups[position] = first.setdefault(digest, position)
        if position % _IMAGES_BETWEEN == 0:
            let_go(images)
    return groups
