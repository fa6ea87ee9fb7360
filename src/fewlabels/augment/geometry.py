"""Geometry: all movements of an image are composed into one grid, and it is sampled once.

Directions are those a person sees: positive angles turn counter-clockwise, positive shifts go right
and down. Parameters are given per image, shape (B,), on the device of the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FILLS = ("zeros", "border", "reflection")


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How each image of a batch is moved, float32 (B,) each; None leaves it out.

    Attributes:
        angle: radians, counter-clockwise.
        zoom: factor; 2 shows everything twice as large.
        shear: radians; the upper half goes to the right for positive values.
        shift_x: share of the width, to the right.
        shift_y: share of the height, downwards.
        mirror: bool, True mirrors left and right.
        displacement: float32 (B, 2, H, W), pixels that each place takes its colour from, x and y.
    """

    angle: Tensor | None = None
    zoom: Tensor | None = None
    shear: Tensor | None = None
    shift_x: Tensor | None = None
    shift_y: Tensor | None = None
    mirror: Tensor | None = None
    displacement: Tensor | None = None


def move(images: Tensor, movement: Movement, fill: str = "zeros") -> Tensor:
    """Move images by one bilinear sampling.

    An output pixel at p (pixels from the centre) takes its colour from ``A (p - shift) + d(p)``, A
    being the inverse of mirror, then zoom and shear, then rotation.

    Args:
        images: float32 (B, C, H, W).
        movement: parameters per image.
        fill: what lies outside the image: "zeros", "border" or "reflection".
    """
    num_images, _, height, width = images.shape
    size = torch.tensor([width, height], dtype=images.dtype, device=images.device)
    matrix = _source_matrix(movement, images)  # (B, 2, 2), in pixels
    shift = torch.stack(
        [
            _or_zero(movement.shift_x, images) * width,
            _or_zero(movement.shift_y, images) * height,
        ],
        dim=1,
    )  # (B, 2)
    # grid_sample counts from -1 to 1 over each side, so the matrix is scaled on both sides.
    scaled = matrix * (size.view(1, 1, 2) / size.view(1, 2, 1))
    offset = -(matrix @ shift.unsqueeze(2)).squeeze(2) * 2 / size  # (B, 2)
    theta = torch.cat([scaled, offset.unsqueeze(2)], dim=2)
    grid = F.affine_grid(theta, [num_images, 1, height, width], align_corners=False)
    if movement.displacement is not None:
        grid = grid + movement.displacement.permute(0, 2, 3, 1) * (2 / size)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=fill, align_corners=False)


def _source_matrix(movement: Movement, images: Tensor) -> Tensor:
    angle = _or_zero(movement.angle, images)
    shear = torch.tan(_or_zero(movement.shear, images))
    zoom = torch.ones_like(angle) if movement.zoom is None else movement.zoom
    sign = torch.ones_like(angle)
    if movement.mirror is not None:
        sign = torch.where(movement.mirror, -sign, sign)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # Rotation back (y points down), then shear back, then zoom back, then the mirror.
    rows = torch.stack(
        [
            torch.stack([sign * (cosine + shear * sine), sign * (shear * cosine - sine)], dim=1),
            torch.stack([sine, cosine], dim=1),
        ],
        dim=1,
    )
    return rows / zoom.view(-1, 1, 1)


def _or_zero(values: Tensor | None, images: Tensor) -> Tensor:
    if values is None:
        return torch.zeros(len(images), dtype=images.dtype, device=images.device)
    return values


def elastic_field(images: Tensor, pixels: float, cells: int, generator: torch.Generator) -> Tensor:
    """A smooth random displacement of each image, float32 (B, 2, H, W) in pixels.

    Normal draws on a coarse field of `cells` × `cells` points, interpolated bicubically.

    Args:
        images: gives number, size, dtype and device.
        pixels: standard deviation of the displacement at the coarse points.
        cells: points of the coarse field along each side.
        generator: on the device of `images`.

    Source: Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis
    (Simard, Steinkraus and Platt, 2003); a coarse field instead of a smoothed fine one.
    """
    num_images, _, height, width = images.shape
    coarse = torch.randn(
        (num_images, 2, cells, cells), generator=generator, dtype=images.dtype, device=images.device
    )
    return F.interpolate(coarse * pixels, size=(height, width), mode="bicubic", align_corners=True)


def uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One uniform draw from [low, high) per image, float32 (B,)."""
    draw = torch.rand(len(images), generator=generator, dtype=images.dtype, device=images.device)
    return low + (high - low) * draw


def flip(images: Tensor, generator: torch.Generator, probability: float = 0.5) -> Tensor:
    """Mirror images left and right, each with `probability`."""
    chosen = uniform(images, 0.0, 1.0, generator) < probability
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def shift(
    images: Tensor, generator: torch.Generator, share: float = 0.1, fill: str = "zeros"
) -> Tensor:
    """Shift by up to `share` of each side."""
    shift_x = uniform(images, -share, share, generator)
    shift_y = uniform(images, -share, share, generator)
    return move(images, Movement(shift_x=shift_x, shift_y=shift_y), fill)


def rotate(
    images: Tensor, generator: torch.Generator, degrees: float = 15.0, fill: str = "zeros"
) -> Tensor:
    """Rotate about the centre by up to `degrees` either way."""
    limit = math.radians(degrees)
    return move(images, Movement(angle=uniform(images, -limit, limit, generator)), fill)


def zoom(
    images: Tensor,
    generator: torch.Generator,
    low: float = 0.9,
    high: float = 1.1,
    fill: str = "zeros",
) -> Tensor:
    """Zoom about the centre by a factor from `low` to `high`."""
    return move(images, Movement(zoom=uniform(images, low, high, generator)), fill)


def shear(
    images: Tensor, generator: torch.Generator, degrees: float = 10.0, fill: str = "zeros"
) -> Tensor:
    """Shear sideways by up to `degrees` either way."""
    limit = math.radians(degrees)
    return move(images, Movement(shear=uniform(images, -limit, limit, generator)), fill)


def elastic(
    images: Tensor,
    generator: torch.Generator,
    pixels: float = 1.0,
    cells: int = 5,
    fill: str = "zeros",
) -> Tensor:
    """Bend each image by its own smooth random field; see `elastic_field`."""
    return move(
        images, Movement(displacement=elastic_field(images, pixels, cells, generator)), fill
    )
