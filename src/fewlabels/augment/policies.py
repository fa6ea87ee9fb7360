"""Augmentation policies by name: which changes leave an image what it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from fewlabels.augment import colour
from fewlabels.augment.geometry import Movement, elastic_field, move, uniform
from fewlabels.config import RULES
from fewlabels.contracts import ImageShape
from fewlabels.lookup import find

Fill = Literal["zeros", "border", "reflection"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Ranges from which each image's changes are drawn.

    Attributes:
        flip: probability of mirroring left and right.
        shift: largest shift, share of the side.
        rotate: largest rotation, degrees.
        zoom: largest change of size, as a share: 0.1 gives factors from 0.9 to 1.1.
        shear: largest shear, degrees.
        elastic: deviation of the elastic displacement, share of the longer side.
        elastic_cells: points of its coarse field along a side.
        brightness: largest change, pixels being in [0, 1].
        contrast: largest change of the factor.
        blur: largest deviation, pixels.
        noise: largest deviation, pixels being in [0, 1].
        fill: what lies outside the image.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_cells: int = 5
    brightness: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    fill: Fill = "zeros"


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "weak": Policy(flip=0.5, shift=0.07, zoom=0.05, fill="border"),
    "strong": Policy(
        flip=0.5,
        shift=0.12,
        rotate=15.0,
        zoom=0.15,
        shear=10.0,
        elastic=0.03,
        brightness=0.2,
        contrast=0.3,
        blur=0.8,
        noise=0.08,
        fill="border",
    ),
    # Never flips: a mirrored digit is another sign. Tuned on MNIST's validation labels only.
    "digits": Policy(shift=0.08, rotate=14.0, zoom=0.14, shear=14.0, elastic=0.045),
}


@config_dataclass(frozen=True, kw_only=True, config=RULES)
class AugmentConfig:
    """Changes to a policy; what is left out stays as the policy has it."""

    # "auto" flips colour images alone: mirrored digits, letters and X-rays mean something else.
    flip: bool | Literal["auto"] = "auto"
    shift: float | None = Field(default=None, ge=0.0, le=0.5)
    rotate: float | None = Field(default=None, ge=0.0, le=180.0)
    zoom: float | None = Field(default=None, ge=0.0, lt=1.0)
    shear: float | None = Field(default=None, ge=0.0, lt=80.0)
    elastic: float | None = Field(default=None, ge=0.0, le=0.5)
    elastic_cells: int | None = Field(default=None, ge=2, le=32)
    brightness: float | None = Field(default=None, ge=0.0, le=1.0)
    contrast: float | None = Field(default=None, ge=0.0, le=1.0)
    blur: float | None = Field(default=None, ge=0.0, le=10.0)
    noise: float | None = Field(default=None, ge=0.0, le=1.0)
    fill: Fill | None = None


def resolve_name(name: str, image_shape: ImageShape) -> str:
    """The policy's own name for "auto": "digits" for small grey images, else "weak".

    Raises:
        UnknownNameError: no policy of that name.
    """
    if name == "auto":
        channels, height, width = image_shape
        return "digits" if channels == 1 and max(height, width) <= 32 else "weak"
    find(POLICIES, name, "augmentation policy")
    return name


def resolve(name: str, config: AugmentConfig, image_shape: ImageShape) -> Policy:
    """The policy with the changes laid over it, its "auto" decided for images of this shape."""
    policy = find(POLICIES, name, "augmentation policy")
    given = {
        field.name: getattr(config, field.name)
        for field in fields(policy)
        if field.name != "flip" and getattr(config, field.name) is not None
    }
    if config.flip == "auto":
        flip = policy.flip if image_shape[0] == 3 else 0.0
    else:
        # The digits policy never flips on its own, but an explicit wish is a wish.
        flip = 0.5 if config.flip else 0.0
    return replace(policy, flip=flip, **given)


def is_identity(policy: Policy) -> bool:
    """Whether the policy leaves every image as it is."""
    ranges = (f.name for f in fields(policy) if f.name not in ("elastic_cells", "fill"))
    return all(getattr(policy, name) == 0 for name in ranges)


def augment(images: Tensor, generator: torch.Generator, policy: Policy) -> Tensor:
    """Change each image of a batch by its own draw from the policy.

    Args:
        images: float32 (B, C, H, W) in [0, 1].
        generator: on the device of `images`.
        policy: the ranges.
    """
    if policy.flip or policy.shift or policy.rotate or policy.zoom or policy.shear:
        images = move(images, _draw_movement(images, generator, policy), policy.fill)
    elif policy.elastic:
        images = move(images, Movement(displacement=_field(images, generator, policy)), policy.fill)
    if policy.brightness:
        images = colour.brightness(images, generator, policy.brightness)
    if policy.contrast:
        images = colour.contrast(images, generator, policy.contrast)
    if policy.blur:
        images = colour.blur(images, generator, policy.blur)
    if policy.noise:
        images = colour.noise(images, generator, policy.noise)
    return images


def _draw_movement(images: Tensor, generator: torch.Generator, policy: Policy) -> Movement:
    def symmetric(limit: float) -> Tensor | None:
        return uniform(images, -limit, limit, generator) if limit else None

    zoom = symmetric(policy.zoom)
    return Movement(
        angle=symmetric(math.radians(policy.rotate)),
        zoom=None if zoom is None else 1 + zoom,
        shear=symmetric(math.radians(policy.shear)),
        shift_x=symmetric(policy.shift),
        shift_y=symmetric(policy.shift),
        mirror=uniform(images, 0.0, 1.0, generator) < policy.flip if policy.flip else None,
        displacement=_field(images, generator, policy) if policy.elastic else None,
    )


def _field(images: Tensor, generator: torch.Generator, policy: Policy) -> Tensor:
    pixels = policy.elastic * max(images.shape[2:])
    return elastic_field(images, pixels, policy.elastic_cells, generator)
