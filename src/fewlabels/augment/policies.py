"""Augmentation policies by name: which changes leave an image what it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from fewlabels.augment import colour
from fewlabels.augment.geometry import (
    Movement,
    boxes,
    draw_bend,
    draw_crop,
    move,
    shift_and_mirror,
)
from fewlabels.config import RULES
from fewlabels.contracts import ImageShape
from fewlabels.lookup import find

Fill = Literal["zeros", "border", "reflection"]
_Change = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Ranges from which each image's changes are drawn.

    Attributes:
        flip: probability of mirroring left and right.
        shift: largest shift, share of the side; by whole pixels where nothing else moves the image.
        crop: smallest area of a random resized crop, share of the image's; 1 for none.
        rotate: largest rotation, degrees.
        zoom: largest change of size, as a share: 0.1 gives factors from 0.9 to 1.1.
        shear: largest shear, degrees.
        elastic: deviation of the elastic displacement, share of the longer side.
        elastic_cells: points of its coarse field along a side.
        brightness: largest change, pixels being in [0, 1].
        contrast: largest change of the factor.
        saturation: largest change of the factor; colour images alone.
        hue: largest rotation, turns; colour images alone.
        blur: largest deviation, pixels.
        noise: largest deviation, pixels being in [0, 1].
        cutout: side of a square that is covered with the image's mean colour, share of the side.
        choose: so many of `CHOICES` are drawn for each image, the others are left out for it; 0
            applies all of them to every image.
        mixup: alpha of mixup, for training with labels; 0 for never.
        cutmix: alpha of CutMix, likewise.
        fill: what lies outside the image.
    """

    flip: float = 0.0
    shift: float = 0.0
    crop: float = 1.0
    rotate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_cells: int = 5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    choose: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    fill: Fill = "zeros"


CHOICES = (
    "rotate",
    "zoom",
    "shear",
    "elastic",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "blur",
    "noise",
)
"""What `Policy.choose` picks from."""

_DIGITS_MILD = Policy(shift=0.06, rotate=10.0, zoom=0.1, shear=10.0, elastic=0.03)

POLICIES: dict[str, Policy] = {
    "none": Policy(),
    # FixMatch's weak policy (Sohn et al., 2020): mirror, and shift by up to an eighth.
    "weak": Policy(flip=0.5, shift=0.125, fill="reflection"),
    # In the manner of RandAugment (Cubuk et al., 2020), with Cutout (DeVries and Taylor, 2017).
    "strong": Policy(
        flip=0.5,
        shift=0.125,
        rotate=30.0,
        zoom=0.3,
        shear=17.0,
        elastic=0.03,
        brightness=0.4,
        contrast=0.7,
        saturation=0.9,
        hue=0.1,
        blur=1.0,
        noise=0.1,
        cutout=0.4,
        choose=2,
        fill="reflection",
    ),
    # Never flips: a mirrored digit is another sign. Tuned on MNIST's validation labels only.
    "digits": Policy(shift=0.08, rotate=14.0, zoom=0.14, shear=14.0, elastic=0.045),
    # Narrower ranges, for fully connected networks that meet every image a few dozen times: in so
    # short a time they cannot learn what the wider ones ask of them.
    "digits_mild": _DIGITS_MILD,
    # The strong view of convolutional networks, which gain where fully connected ones lose.
    "digits_covered": replace(_DIGITS_MILD, cutout=0.55),
}


@config_dataclass(frozen=True, kw_only=True, config=RULES)
class AugmentConfig:
    """Changes to a policy; what is left out stays as the policy has it."""

    # "auto" flips colour images alone: mirrored digits, letters and X-rays mean something else.
    flip: bool | Literal["auto"] = "auto"
    shift: float | None = Field(default=None, ge=0.0, le=0.5)
    crop: float | None = Field(default=None, gt=0.0, le=1.0)
    rotate: float | None = Field(default=None, ge=0.0, le=180.0)
    zoom: float | None = Field(default=None, ge=0.0, lt=1.0)
    shear: float | None = Field(default=None, ge=0.0, lt=80.0)
    elastic: float | None = Field(default=None, ge=0.0, le=0.5)
    elastic_cells: int | None = Field(default=None, ge=2, le=32)
    brightness: float | None = Field(default=None, ge=0.0, le=1.0)
    contrast: float | None = Field(default=None, ge=0.0, le=1.0)
    saturation: float | None = Field(default=None, ge=0.0, le=1.0)
    hue: float | None = Field(default=None, ge=0.0, le=0.5)
    blur: float | None = Field(default=None, ge=0.0, le=10.0)
    noise: float | None = Field(default=None, ge=0.0, le=1.0)
    cutout: float | None = Field(default=None, ge=0.0, le=1.0)
    choose: int | None = Field(default=None, ge=0, le=len(CHOICES))
    mixup: float | None = Field(default=None, ge=0.0, le=10.0)
    cutmix: float | None = Field(default=None, ge=0.0, le=10.0)
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


VIEWS = {
    "digits": {
        "usual": "digits_mild",
        "weak": "none",
        "strong": "digits_mild",
        "strong, convolutional": "digits_covered",
        "contrast": "digits",
    },
    "weak": {
        "usual": "weak",
        "weak": "weak",
        "strong": "strong",
        "strong, convolutional": "strong",
        "contrast": "strong",
    },
}
"""In training with unlabelled images: policies of labelled images and of the views of others, by
the policy that "auto" stands for elsewhere."""


def view_name(
    view: str, asked: str, image_shape: ImageShape, *, convolutional: bool = False
) -> str:
    """The policy of a view of unlabelled images.

    Args:
        view: "usual", as labelled images are changed too, "weak", "strong", or "contrast", for
            contrastive pretraining.
        asked: the policy that the settings ask for in general: "none" holds for all views, any
            other name than "auto" for the usual one.
        image_shape: of the images.
        convolutional: whether the network that sees them is.
    """
    if view == "strong" and convolutional:
        view = "strong, convolutional"
    if asked == "none" or (asked != "auto" and view == "usual"):
        return asked
    return VIEWS[resolve_name("auto", image_shape)][view]


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


_RANGES = (
    *("shift", "rotate", "zoom", "shear", "elastic", "brightness", "contrast"),
    *("saturation", "hue", "blur", "noise", "cutout"),
)


def narrowed(policy: Policy, share: float) -> Policy:
    """The policy with all its ranges a share as wide; mirroring and mixing stay as they are.

    Args:
        policy: to narrow.
        share: between 0 and 1.
    """
    ranges = {name: share * getattr(policy, name) for name in _RANGES}
    return replace(policy, crop=1 - share * (1 - policy.crop), **ranges)


def is_identity(policy: Policy) -> bool:
    """Whether the policy leaves every single image as it is."""
    same = replace(policy, elastic_cells=5, fill="zeros", choose=0, mixup=0.0, cutmix=0.0)
    return same == Policy()


def augment(images: Tensor, generator: torch.Generator, policy: Policy) -> Tensor:
    """Change each image of a batch by its own draw from the policy.

    Args:
        images: float32 (B, C, H, W) in [0, 1].
        generator: on the device of `images`.
        policy: the ranges.
    """
    draw = _draw(images, generator, policy)
    images = _move(images, generator, policy, draw)
    colours = ("brightness", "contrast", "saturation", "hue")
    if any(name in draw for name in colours):
        images = colour.adjust(images, **{name: draw.get(name) for name in colours})
    if "blur" in draw:
        images = _on_chosen(
            images, draw["blur"], lambda some, by: colour.blur(some, by, policy.blur)
        )
    if "noise" in draw:
        images = _on_chosen(
            images, draw["noise"], lambda some, by: colour.noise(some, by, generator)
        )
    if policy.cutout:
        images = _cut_out(images, generator, policy.cutout)
    return images


def _draw(images: Tensor, generator: torch.Generator, policy: Policy) -> dict[str, Tensor]:
    """One value per image, (B,), for each range that is not empty."""
    factors = ("zoom", "contrast", "saturation")  # around one, the others around zero
    limits = _limits(images, policy)
    if not limits:
        return {}
    count, device = len(images), images.device
    uniform = torch.rand(
        (len(limits), count), generator=generator, dtype=images.dtype, device=device
    )
    low = torch.tensor([limit[0] for limit in limits.values()], device=device).view(-1, 1)
    high = torch.tensor([limit[1] for limit in limits.values()], device=device).view(-1, 1)
    values = torch.lerp(low, high, uniform)
    choices = [row for row, name in enumerate(limits) if name in CHOICES]
    if policy.choose and len(choices) > policy.choose:
        order = torch.rand((len(choices), count), generator=generator, device=device).argsort(dim=0)
        values[choices] *= order < policy.choose
    draw = dict(zip(limits, values, strict=True))
    return {name: 1 + value if name in factors else value for name, value in draw.items()}


def _limits(images: Tensor, policy: Policy) -> dict[str, tuple[float, float]]:
    turn = math.pi / 180
    limits = {
        "flip": (0.0, 1.0 if policy.flip else 0.0),
        "shift_x": (-policy.shift, policy.shift),
        "shift_y": (-policy.shift, policy.shift),
        "rotate": (-policy.rotate * turn, policy.rotate * turn),
        "zoom": (-policy.zoom, policy.zoom),
        "shear": (-policy.shear * turn, policy.shear * turn),
        # Whether the field is used at all; its values are drawn by themselves.
        "elastic": (1.0, 1.0) if policy.elastic else (0.0, 0.0),
        "brightness": (-policy.brightness, policy.brightness),
        "contrast": (-policy.contrast, policy.contrast),
        "saturation": (-policy.saturation, policy.saturation),
        "hue": (-policy.hue, policy.hue),
        "blur": (0.0, policy.blur),
        "noise": (0.0, policy.noise),
    }
    if images.shape[1] == 1:
        del limits["saturation"], limits["hue"]
    return {name: limit for name, limit in limits.items() if limit[1] > 0}


def _move(
    images: Tensor, generator: torch.Generator, policy: Policy, draw: dict[str, Tensor]
) -> Tensor:
    mirror = draw["flip"] < policy.flip if "flip" in draw else None
    shift_x, shift_y = draw.get("shift_x"), draw.get("shift_y")
    if not draw.keys() & {"rotate", "zoom", "shear", "elastic"} and policy.crop == 1:
        if mirror is None and shift_x is None:
            return images
        height, width = images.shape[2:]
        return shift_and_mirror(
            images, _pixels(shift_x, width), _pixels(shift_y, height), mirror, policy.fill
        )
    bend = crop = None
    if "elastic" in draw:
        pixels = policy.elastic * max(images.shape[2:])
        bend = draw_bend(images, pixels, policy.elastic_cells, generator)
        bend = bend * draw["elastic"].view(-1, 1, 1, 1)
    if policy.crop < 1:
        uniform = torch.rand((4, len(images)), generator=generator, device=images.device)
        crop = draw_crop(uniform, policy.crop)
    movement = Movement(
        angle=draw.get("rotate"),
        zoom=draw.get("zoom"),
        shear=draw.get("shear"),
        shift_x=shift_x,
        shift_y=shift_y,
        mirror=mirror,
        crop=crop,
        bend=bend,
    )
    return move(images, movement, policy.fill)


def _pixels(share: Tensor | None, side: int) -> Tensor | None:
    return None if share is None else (share * side).round().long()


def _on_chosen(images: Tensor, values: Tensor, change: _Change) -> Tensor:
    """Apply a change where its value is above zero."""
    # Asking which those are would stop an accelerator until it has caught up.
    if images.device.type != "cpu":
        return change(images, values)
    chosen = values.nonzero().squeeze(1)
    if len(chosen) == len(images):
        return change(images, values)
    if not len(chosen):
        return images
    changed = change(images.index_select(0, chosen), values.index_select(0, chosen))
    return images.index_copy(0, chosen, changed)


def _cut_out(images: Tensor, generator: torch.Generator, side: float) -> Tensor:
    place = torch.rand((2, len(images)), generator=generator, device=images.device)
    sides = torch.full_like(place, side)
    covered = boxes(images, torch.cat([place, sides]).T)
    return torch.where(covered, images.mean(dim=(2, 3), keepdim=True), images)
