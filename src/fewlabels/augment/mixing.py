"""Mixing two images and their labels."""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.special import betaincinv
from torch import Tensor

from fewlabels.augment.geometry import boxes
from fewlabels.contracts import Mixing

_TABLE_POINTS = 4096


def mix(
    images: Tensor, generator: torch.Generator, *, mixup: float, cutmix: float
) -> tuple[Tensor, Mixing]:
    """Mix every image with another one of the batch, by one method or, given both, by either.

    Args:
        images: float32 (B, C, H, W).
        generator: on the device of `images`.
        mixup: alpha of the Beta distribution that the image's share is drawn from; 0 for never.
            Source: mixup: Beyond Empirical Risk Minimization (Zhang et al., 2018).
        cutmix: alpha, of the share that the box of the other image leaves; 0 for never.
            Source: CutMix: Regularization Strategy to Train Strong Classifiers (Yun et al., 2019).

    Returns:
        The mixed images, and whose labels count how much.
    """
    count, device = len(images), images.device
    draw = torch.rand((4, count), generator=generator, dtype=images.dtype, device=device)
    partners = torch.randperm(count, generator=generator, device=device)
    others = images[partners]
    by_box = draw[0] < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = torch.where(by_box, _beta(draw[1], cutmix), _beta(draw[1], mixup))
    side = (1 - share).sqrt()
    inside = boxes(images, torch.stack([draw[2], draw[3], side, side], dim=1))
    inside = inside & by_box.view(-1, 1, 1, 1)
    # What sticks out of the image is not there, so the share is counted, not computed.
    share = torch.where(by_box, 1 - inside.float().mean(dim=(1, 2, 3)), share)
    blended = torch.lerp(others, images, share.view(-1, 1, 1, 1))
    pasted = torch.where(inside, others, images)
    mixed = torch.where(by_box.view(-1, 1, 1, 1), pasted, blended)
    return mixed, Mixing(partners=partners, share=share)


def _beta(uniform: Tensor, alpha: float) -> Tensor:
    """Draws from Beta(alpha, alpha) by its inverse distribution function."""
    if not alpha:
        return torch.ones_like(uniform)
    table = _inverse_beta(alpha).to(uniform)
    place = uniform * (_TABLE_POINTS - 1)
    below = place.long()
    return torch.lerp(table[below], table[below + 1], place - below)


@lru_cache(maxsize=8)
def _inverse_beta(alpha: float) -> Tensor:
    points = torch.linspace(0, 1, _TABLE_POINTS, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, points.numpy()))
