"""Principal component analysis as the yardstick of an autoencoder of the same width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from fewlabels.data.selection import Images

MAX_FITTED_IMAGES = 20_000
MAX_PIXELS = 4_096


@dataclass(frozen=True)
class PCAReference:
    """What PCA of the same width reaches on the same images.

    Attributes:
        error: mean squared error per pixel, pixels in [0, 1].
        mean_image_error: the same for always answering with the mean image.
        reconstructions: float32 (M, C, H, W) in [0, 1], of the first images.
    """

    error: float
    mean_image_error: float
    reconstructions: npt.NDArray[np.float32]


def pca_reference(
    fitted: Images,
    evaluated: npt.NDArray[Any],
    width: int,
    *,
    num_reconstructions: int,
    generator: np.random.Generator,
) -> PCAReference:
    """Fit PCA with `width` components and reconstruct other images with it.

    Args:
        fitted: uint8 or float32 (N, C, H, W); at most 20,000 of them, drawn at random, are used.
        evaluated: images of the same shape that were not fitted.
        width: number of components, cut to what images and pixels allow.
        num_reconstructions: how many of the first `evaluated` images to return.
        generator: of the draw and of the randomised solver for images over 4,096 pixels.
    """
    drawn = np.arange(len(fitted))
    if len(fitted) > MAX_FITTED_IMAGES:
        drawn = np.sort(generator.choice(len(fitted), MAX_FITTED_IMAGES, replace=False))
    pixels, targets = flat_pixels(fitted[drawn]), flat_pixels(evaluated)
    num_components = min(width, *pixels.shape)
    solver = "covariance_eigh" if pixels.shape[1] <= MAX_PIXELS else "randomized"
    seed = int(generator.integers(2**31))
    pca = PCA(num_components, svd_solver=solver, random_state=seed).fit(pixels)
    reconstructions = pca.inverse_transform(pca.transform(targets))
    shown = reconstructions[:num_reconstructions].reshape(-1, *evaluated.shape[1:])
    return PCAReference(
        error=float(np.mean((reconstructions - targets) ** 2)),
        mean_image_error=float(np.mean((pixels.mean(axis=0) - targets) ** 2)),
        reconstructions=shown.clip(0, 1).astype(np.float32),
    )


def flat_pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Images as float32 (N, C * H * W) in [0, 1]."""
    flat = images.reshape(len(images), -1)
    pixels = flat.astype(np.float32)
    return np.divide(pixels, 255, dtype=np.float32) if images.dtype == np.uint8 else pixels
