"""Colour and sharpness with parameters per image; results stay in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Luminance and two differences of colour (NTSC, 1953); the same numbers as in Python's colorsys.
_TO_YIQ = torch.tensor(
    [[0.30, 0.59, 0.11], [0.5990, -0.2773, -0.3217], [0.2130, -0.5251, 0.3121]], dtype=torch.float64
)


def adjust(
    images: Tensor,
    *,
    brightness: Tensor | None = None,
    contrast: Tensor | None = None,
    saturation: Tensor | None = None,
    hue: Tensor | None = None,
) -> Tensor:
    """Change colours by one map per image, ``M pixel + offset``, clipped once.

    Each of the four is such a map, so they are multiplied first: hue, then saturation, then
    contrast, then brightness.

    Args:
        images: float32 (B, C, H, W) in [0, 1]; hue and saturation need C = 3.
        brightness: what is added, (B,).
        contrast: factor on the distance to the image's mean luminance, (B,).
        saturation: factor on the distance to the pixel's own luminance, (B,); 0 gives grey.
        hue: rotation about the grey axis at constant luminance, in turns, (B,).
    """
    offset = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    if contrast is not None:
        offset = (1 - contrast) * luminance(images).mean(dim=(1, 2))
    if brightness is not None:
        offset = offset + brightness
    if hue is None and saturation is None:
        factor = 1.0 if contrast is None else contrast.view(-1, 1, 1, 1)
        return (images * factor + offset.view(-1, 1, 1, 1)).clamp_(0, 1)
    matrix = _colour_matrix(images, saturation, hue)
    if contrast is not None:
        matrix = matrix * contrast.view(-1, 1, 1)
    changed = torch.baddbmm(offset.view(-1, 1, 1), matrix, images.flatten(2))
    return changed.clamp_(0, 1).view(images.shape)


def luminance(images: Tensor) -> Tensor:
    """Perceived brightness, (B, H, W); of grey images the images themselves."""
    if images.shape[1] == 1:
        return images[:, 0]
    weights = _TO_YIQ[0].to(images)
    return torch.einsum("c,bchw->bhw", weights, images)


def _colour_matrix(images: Tensor, saturation: Tensor | None, hue: Tensor | None) -> Tensor:
    """Rotation and stretch of the two colour differences, back in red, green, blue: (B, 3, 3)."""
    zero = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    one = zero + 1
    angle = zero if hue is None else 2 * math.pi * hue
    stretch = one if saturation is None else saturation
    cosine, sine = stretch * torch.cos(angle), stretch * torch.sin(angle)
    inner = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).view(
        -1, 3, 3
    )
    to_yiq, back = _TO_YIQ.to(images), torch.linalg.inv(_TO_YIQ).to(images)
    matrix: Tensor = back @ inner @ to_yiq
    return matrix


def blur(images: Tensor, deviation: Tensor, max_deviation: float) -> Tensor:
    """Blur with a Gaussian per image; the border repeats outwards.

    Separable, cut at three times the largest deviation.

    Args:
        images: float32 (B, C, H, W).
        deviation: pixels, (B,); 0 leaves an image as it is.
        max_deviation: upper limit of all of them.
    """
    radius = max(1, round(3 * max_deviation))
    places = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernels = torch.exp(-0.5 * (places / deviation.clamp_min(1e-3).view(-1, 1)) ** 2)  # (B, T)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    num_images, channels, height, width = images.shape
    kernels = kernels.repeat_interleave(channels, dim=0)  # (B * C, T)
    count = num_images * channels
    flat = images.reshape(1, count, height, width)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    flat = F.conv2d(flat, kernels.view(count, 1, 1, -1), groups=count)
    flat = F.conv2d(flat, kernels.view(count, 1, -1, 1), groups=count)
    return flat.reshape(images.shape).clamp_(0, 1)


def noise(images: Tensor, deviation: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of each image's own deviation, (B,)."""
    draw = torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
    return draw.mul_(deviation.view(-1, 1, 1, 1)).add_(images).clamp_(0, 1)
