"""Several views of each image at test time, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional as F

CROP_SCALES = (1.0, 0.875)
"""Sides of the crops, as shares of the image's side."""


def fixed_crops(
    images: Tensor, *, mirror: bool, scales: Sequence[float] = CROP_SCALES
) -> Iterator[Tensor]:
    """The four corners and the centre at each scale, each also mirrored; ten crops a scale.

    Where all five crops are the whole image, it comes once.

    Args:
        images: float32 (B, C, H, W).
        mirror: False leaves the mirrored ones out, for images that a mirror makes another thing.
        scales: sides of the crops as shares of the image's, in (0, 1].

    Yields:
        float32 (B, C, H, W), resized bilinearly where cropped.

    Source: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky, Sutskever
    and Hinton, 2012), section 4.1.
    """
    height, width = images.shape[2:]
    for scale in scales:
        crop_height, crop_width = max(1, round(height * scale)), max(1, round(width * scale))
        down, right = height - crop_height, width - crop_width
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        for top, left in dict.fromkeys(corners):
            view = images[:, :, top : top + crop_height, left : left + crop_width]
            if down or right:
                view = F.interpolate(view, (height, width), mode="bilinear", align_corners=False)
            yield view
            if mirror:
                yield view.flip(3)
