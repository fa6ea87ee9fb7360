"""Colour and sharpness, per image; results stay in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels.augment.geometry import uniform


def brightness(images: Tensor, generator: torch.Generator, amount: float = 0.2) -> Tensor:
    """Add a number from [-amount, amount) to all pixels of an image."""
    change = uniform(images, -amount, amount, generator).view(-1, 1, 1, 1)
    return (images + change).clamp(0, 1)


def contrast(images: Tensor, generator: torch.Generator, amount: float = 0.2) -> Tensor:
    """Multiply the distance to the image's mean by a factor from [1 - amount, 1 + amount)."""
    factor = uniform(images, 1 - amount, 1 + amount, generator).view(-1, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (images - mean) * factor).clamp(0, 1)


def blur(images: Tensor, generator: torch.Generator, max_deviation: float = 1.0) -> Tensor:
    """Blur with a Gaussian whose deviation is drawn from [0, max_deviation) pixels.

    Separable, one kernel per image, cut at three deviations; the border repeats outwards.
    """
    deviation = uniform(images, 0.0, max_deviation, generator).clamp_min(1e-3)  # (B,)
    radius = max(1, round(3 * max_deviation))
    places = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernels = torch.exp(-0.5 * (places / deviation.view(-1, 1)) ** 2)  # (B, T)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    num_images, channels, height, width = images.shape
    kernels = kernels.repeat_interleave(channels, dim=0)  # (B * C, T)
    flat = images.reshape(1, num_images * channels, height, width)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    count = num_images * channels
    flat = F.conv2d(flat, kernels.view(count, 1, 1, -1), groups=count)
    flat = F.conv2d(flat, kernels.view(count, 1, -1, 1), groups=count)
    return flat.reshape(images.shape).clamp(0, 1)


def noise(images: Tensor, generator: torch.Generator, max_deviation: float = 0.1) -> Tensor:
    """Add Gaussian noise whose deviation is drawn from [0, max_deviation) for each image."""
    deviation = uniform(images, 0.0, max_deviation, generator).view(-1, 1, 1, 1)
    draw = torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
    return (images + deviation * draw).clamp(0, 1)
