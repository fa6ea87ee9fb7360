"""Running a network over many images, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewlabels.data.batches import as_tensor, to_float


def predict_probabilities(
    model: nn.Module,
    images: npt.NDArray[Any],
    *,
    device: torch.device | str,
    batch_size: int = 1024,
) -> npt.NDArray[np.float64]:
    """The softmax of a classifier's logits, in float32 up to the logits.

    Args:
        model: images (B, C, H, W) to logits (B, K), on `device`; its training mode is restored.
        images: uint8 (N, C, H, W), or float32 in [0, 1].
        device: where batches go.
        batch_size: images at once; matters for speed and memory, not for the result.

    Returns:
        float64 (N, K), rows sum to 1.
    """

    def probabilities(batch: Tensor) -> Tensor:
        logits: Tensor = model(batch)
        # On the CPU, as some devices have no float64.
        return logits.float().cpu().double().softmax(dim=1)

    return _over_batches(model, probabilities, images, torch.device(device), batch_size)


def extract_features(
    encoder: nn.Module,
    images: npt.NDArray[Any],
    *,
    device: torch.device | str,
    batch_size: int = 1024,
) -> npt.NDArray[np.float32]:
    """An encoder's features, computed in float32.

    Args:
        encoder: images (B, C, H, W) to features (B, D), on `device`; its training mode is restored.
        images: uint8 (N, C, H, W), or float32 in [0, 1].
        device: where batches go.
        batch_size: images at once; matters for speed and memory, not for the result.

    Returns:
        float32 (N, D).
    """

    def features(batch: Tensor) -> Tensor:
        output: Tensor = encoder(batch)
        return output.float().cpu()

    return _over_batches(encoder, features, images, torch.device(device), batch_size)


def _over_batches(
    module: nn.Module,
    compute: Callable[[Tensor], Tensor],
    images: npt.NDArray[Any],
    device: torch.device,
    batch_size: int,
) -> npt.NDArray[Any]:
    pixels = as_tensor(images)
    # Autocast off, also where a caller has it on: numbers that are reported are float32 numbers.
    with (
        evaluating(module),
        torch.inference_mode(),
        torch.autocast(device.type, enabled=False),
    ):
        # An empty set goes through once, so that its result has the right width.
        starts = range(0, max(len(images), 1), batch_size)
        outputs = [compute(to_float(pixels[i : i + batch_size].to(device))) for i in starts]
    return torch.cat(outputs).numpy()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards each submodule is in its own mode again."""
    # One by one: parts that are frozen in a network under training are in evaluation mode already.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
