"""Running a network over many images, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewlabels.data.batches import as_tensor, to_float

Views = Callable[[Tensor], Iterable[Tensor]]
"""From images, float32 (B, C, H, W) in [0, 1], to several views of them, each of that shape."""

_BATCH_SIZE = 512  # activations of so many images still lie in the processor's cache


def predict_probabilities(
    model: nn.Module,
    images: npt.NDArray[Any],
    *,
    device: torch.device | str,
    precision: str = "32",
    views: Views | None = None,
    batch_size: int = _BATCH_SIZE,
) -> npt.NDArray[np.float64]:
    """The softmax of a classifier's logits.

    Args:
        model: images (B, C, H, W) to logits (B, K), on `device`; its training mode is restored.
        images: uint8 (N, C, H, W), or float32 in [0, 1].
        device: where batches go.
        precision: of the matrix products, "32" or "bf16".
        views: whose probabilities are averaged; None for the image itself.
        batch_size: images at once; matters for speed and memory, not for the result.

    Returns:
        float64 (N, K), rows sum to 1.
    """

    def probabilities(batch: Tensor) -> Tensor:
        shown = [batch] if views is None else views(batch)
        # On the CPU, as some devices have no float64.
        parts = [model(view).float().cpu().double().softmax(dim=1) for view in shown]
        return parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)

    return _over_batches(model, probabilities, images, torch.device(device), precision, batch_size)


def extract_features(
    encoder: nn.Module,
    images: npt.NDArray[Any],
    *,
    device: torch.device | str,
    batch_size: int = _BATCH_SIZE,
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

    return _over_batches(encoder, features, images, torch.device(device), "32", batch_size)


def _over_batches(
    module: nn.Module,
    compute: Callable[[Tensor], Tensor],
    images: npt.NDArray[Any],
    device: torch.device,
    precision: str,
    batch_size: int,
) -> npt.NDArray[Any]:
    pixels = as_tensor(images)
    # What is asked for, whatever a caller has on around this.
    low = precision == "bf16"
    with (
        evaluating(module),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=low),
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
