"""One picture of an image set: a row of examples per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fewlabels.data.image_set import NO_LABEL, ImageSet, Part
from fewlabels.files import write_atomically

_SHOWN_SIDE = 56  # pixels; smaller images are enlarged in whole steps, so that they stay sharp
_GAP = 6
_NAME_WIDTH = 150
_FONT_SIZE = 14
_MOST_ROWS = 100
_LONGEST_NAME = 18
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (120, 120, 120)


def contact_sheet(data: ImageSet, path: Path, num_per_class: int = 12) -> Path:
    """Write a PNG with a row of images per class, and one of images without label.

    Images of the official test part are left out: their labels stay sealed.

    Args:
        data: the images.
        path: the PNG to write; its folder must exist.
        num_per_class: images per row, spread evenly over the class.

    Raises:
        StorageError: it cannot be written.
    """
    rows = _rows(data, num_per_class)
    scale = max(1, round(_SHOWN_SIDE / max(data.image_shape[1:])))
    height, width = (side * scale for side in data.image_shape[1:])
    step = max(height, 2 * _FONT_SIZE) + _GAP
    hidden = max(0, len(rows) - _MOST_ROWS)
    num_rows = len(rows) - hidden + bool(hidden)
    size = (_NAME_WIDTH + num_per_class * (width + _GAP) + _GAP, num_rows * step + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    top = _GAP
    for name, count, positions in rows[: len(rows) - hidden]:
        draw.text((_GAP, top), _shortened(name), fill=_INK, font=font)
        draw.text((_GAP, top + _FONT_SIZE), f"{count:,}", fill=_FAINT, font=font)
        for column, position in enumerate(positions):
            tile = _tile(data.images[position]).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (_NAME_WIDTH + column * (width + _GAP), top))
        top += step
    if hidden:
        draw.text((_GAP, top), f"… and {hidden} more", fill=_FAINT, font=font)
    return write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def _rows(data: ImageSet, num_per_class: int) -> list[tuple[str, int, npt.NDArray[np.intp]]]:
    names = dict(enumerate(data.class_names)) | {NO_LABEL: "no label"}
    rows = []
    for label, name in names.items():
        positions = np.flatnonzero((data.labels == label) & (data.parts != Part.TEST))
        if not len(positions) and label == NO_LABEL:
            continue
        number = min(num_per_class, len(positions))
        spread = np.linspace(0, len(positions) - 1, number).round().astype(np.intp)
        rows.append((name, len(positions), positions[spread]))
    return rows


def _tile(image: npt.NDArray[Any]) -> Image.Image:
    pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
    shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(shown))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
