"""Geometry: all movements of an image are composed into one grid, and it is sampled once.

Directions are those a person sees: positive angles turn counter-clockwise, positive shifts go right
and down. Parameters are given per image, shape (B,), on the device of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

FILLS = ("zeros", "border", "reflection")

# Grids of more pixels than this are sampled in parts: they would fill the memory, and already leave
# the processor's cache.
_MAX_GRID_PIXELS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How each image of a batch is moved, float32 (B,) each unless said; None leaves it out.

    Attributes:
        angle: radians, counter-clockwise.
        zoom: factor; 2 shows everything twice as large.
        shear: radians; the upper half goes to the right for positive values.
        shift_x: share of the width, to the right.
        shift_y: share of the height, downwards.
        mirror: bool, True mirrors left and right.
        crop: (B, 4), the part of the image that fills the output: its centre's distance from the
            image's centre to the right and downwards, its width and its height; shares of the side.
        bend: (B, 2, k, k), pixels that places on a coarse k × k field take their colour from, x and
            y; between the points it is interpolated bicubically.
    """

    angle: Tensor | None = None
    zoom: Tensor | None = None
    shear: Tensor | None = None
    shift_x: Tensor | None = None
    shift_y: Tensor | None = None
    mirror: Tensor | None = None
    crop: Tensor | None = None
    bend: Tensor | None = None


def move(images: Tensor, movement: Movement, fill: str = "zeros") -> Tensor:
    """Move images by one bilinear sampling.

    An output pixel at p (pixels from the centre) takes its colour from
    ``crop(A (p - shift) + bend(p))``, A being the inverse of mirror, then zoom and shear, then
    rotation.

    Args:
        images: float32 (B, C, H, W).
        movement: parameters per image.
        fill: what lies outside the image: "zeros", "border" or "reflection".
    """
    num_images, _, height, width = images.shape
    coefficients, cells = _coefficients(movement, images)
    basis = _basis(height, width, cells, images.dtype, images.device)
    at_once = max(1, _MAX_GRID_PIXELS // (height * width))
    parts = []
    for start in range(0, num_images, at_once):
        part = images[start : start + at_once]
        # Affine map and elastic field are both linear in the coefficients, so one matrix product
        # gives the whole grid. x and y stay apart: grid_sample reads them faster that way.
        grid = coefficients[start : start + at_once].flatten(0, 1) @ basis
        grid = grid.view(len(part), 2, height, width).permute(0, 2, 3, 1)
        parts.append(
            F.grid_sample(part, grid, mode="bilinear", padding_mode=fill, align_corners=False)
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def shift_and_mirror(
    images: Tensor,
    shift_x: Tensor | None,
    shift_y: Tensor | None,
    mirror: Tensor | None,
    fill: str = "zeros",
) -> Tensor:
    """Shift by whole pixels and mirror, by picking pixels: nothing is interpolated.

    Args:
        images: (B, C, H, W), any dtype.
        shift_x: pixels to the right, int64 (B,); None for none.
        shift_y: pixels downwards, int64 (B,); None for none.
        mirror: bool (B,), True mirrors left and right before the shift; None for none.
        fill: see `move`.
    """
    num_images, channels, height, width = images.shape
    rows, rows_inside = _source_places(height, shift_y, images, fill)
    columns, columns_inside = _source_places(width, shift_x, images, fill)
    if mirror is not None:
        columns = torch.where(mirror.view(-1, 1), width - 1 - columns, columns)
    places = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(-1, 1, height * width)
    picked = images.flatten(2).gather(2, places.expand(num_images, channels, -1))
    picked = picked.view(images.shape)
    if fill == "zeros":
        picked = picked * rows_inside.view(-1, 1, height, 1) * columns_inside.view(-1, 1, 1, width)
    return picked


def _source_places(
    length: int, shift: Tensor | None, images: Tensor, fill: str
) -> tuple[Tensor, Tensor]:
    """Row or column that each output place is taken from, (B, length), and whether it exists."""
    places = torch.arange(length, device=images.device).expand(len(images), length)
    if shift is not None:
        places = places - shift.view(-1, 1)
    inside = (places >= 0) & (places < length)
    if fill == "reflection":  # about the outer edges of the border pixels, as grid_sample does
        places = places.remainder(2 * length)
        places = torch.minimum(places, 2 * length - 1 - places)
    return places.clamp(0, length - 1), inside


def _coefficients(movement: Movement, images: Tensor) -> tuple[Tensor, int]:
    """Factors (B, 2, 3 + k * k) of the grid's basis, and k, the side of the coarse field."""
    height, width = images.shape[2:]
    size = torch.tensor([width, height], dtype=images.dtype, device=images.device)
    matrix = _source_matrix(movement, images)  # (B, 2, 2), in pixels
    shift = torch.stack(
        [
            _or_zero(movement.shift_x, images) * width,
            _or_zero(movement.shift_y, images) * height,
        ],
        dim=1,
    )  # (B, 2)
    terms = [matrix, -(matrix @ shift.unsqueeze(2))]
    if movement.bend is not None:
        terms.append(movement.bend.flatten(2))
    coefficients = torch.cat(terms, dim=2)
    if movement.crop is not None:
        coefficients = coefficients * movement.crop[:, 2:].unsqueeze(2)
        coefficients[:, :, 2] += movement.crop[:, :2] * size
    # grid_sample counts from -1 to 1 over each side.
    coefficients = coefficients * (2 / size).view(1, 2, 1)
    return coefficients, 0 if movement.bend is None else movement.bend.shape[2]


@lru_cache(maxsize=16)
def _basis(height: int, width: int, cells: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What every pixel's source is a sum of, (3 + cells², H * W): x, y, one, the coarse points."""
    x = torch.arange(width, dtype=dtype, device=device) - (width - 1) / 2
    y = torch.arange(height, dtype=dtype, device=device) - (height - 1) / 2
    plane = torch.stack([x.expand(height, width), y.view(-1, 1).expand(height, width)])
    rows = [plane, torch.ones(1, height, width, dtype=dtype, device=device)]
    if cells:
        points = torch.eye(cells * cells, dtype=dtype, device=device)
        rows.append(
            F.interpolate(
                points.view(1, -1, cells, cells),
                size=(height, width),
                mode="bicubic",
                align_corners=True,
            )[0]
        )
    return torch.cat(rows).flatten(1)


def _source_matrix(movement: Movement, images: Tensor) -> Tensor:
    angle = _or_zero(movement.angle, images)
    shear = torch.tan(_or_zero(movement.shear, images))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # Rotation back (y points down), then shear back, then zoom back, then the mirror.
    row_x = torch.stack([cosine + shear * sine, shear * cosine - sine], dim=1)
    if movement.mirror is not None:
        row_x = torch.where(movement.mirror.view(-1, 1), -row_x, row_x)
    rows = torch.stack([row_x, torch.stack([sine, cosine], dim=1)], dim=1)
    return rows if movement.zoom is None else rows / movement.zoom.view(-1, 1, 1)


def _or_zero(values: Tensor | None, images: Tensor) -> Tensor:
    if values is None:
        return torch.zeros(len(images), dtype=images.dtype, device=images.device)
    return values


def draw_bend(images: Tensor, pixels: float, cells: int, generator: torch.Generator) -> Tensor:
    """Normal draws on a coarse field for each image, float32 (B, 2, cells, cells), in pixels.

    Args:
        images: gives number, dtype and device.
        pixels: standard deviation.
        cells: points of the coarse field along each side.
        generator: on the device of `images`.

    Source: Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis
    (Simard, Steinkraus and Platt, 2003); a coarse field instead of a smoothed fine one.
    """
    shape = (len(images), 2, cells, cells)
    draw = torch.randn(shape, generator=generator, dtype=images.dtype, device=images.device)
    return draw * pixels


def draw_crop(uniform: Tensor, smallest_area: float, largest_stretch: float = 4 / 3) -> Tensor:
    """Boxes of random area, aspect and place inside the image, float32 (B, 4); see `Movement`.

    Args:
        uniform: draws from [0, 1), (4, B).
        smallest_area: share of the image's area, in (0, 1].
        largest_stretch: of the box's aspect against the image's, both ways.

    Source: Going Deeper with Convolutions (Szegedy et al., 2015), section 6.
    """
    area = smallest_area + (1 - smallest_area) * uniform[0]
    stretch = largest_stretch ** (2 * uniform[1] - 1)  # even chances for narrow and wide
    width = (area * stretch).sqrt().clamp_max(1)
    height = (area / stretch).sqrt().clamp_max(1)
    x, y = (uniform[2] - 0.5) * (1 - width), (uniform[3] - 0.5) * (1 - height)
    return torch.stack([x, y, width, height], dim=1)


def boxes(images: Tensor, box: Tensor) -> Tensor:
    """Which pixels lie in each image's box, bool (B, 1, H, W); boxes may stick out.

    Args:
        images: (B, C, H, W), gives size and device.
        box: (B, 4): centre's x and y, width and height; shares of the side, from the left and top.
    """
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    across = (x - box[:, :1]).abs() < box[:, 2:3] / 2  # (B, W)
    down = (y - box[:, 1:2]).abs() < box[:, 3:] / 2  # (B, H)
    return down.view(-1, 1, height, 1) & across.view(-1, 1, 1, width)
