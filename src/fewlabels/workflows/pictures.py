"""The arrays behind the report's pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save
from sklearn.manifold import TSNE

from fewlabels.contracts import Encoder
from fewlabels.data.image_set import NO_LABEL
from fewlabels.data.selection import Selection
from fewlabels.evaluation.pca import PCAReference, flat_pixels, pca_reference
from fewlabels.evaluation.predict import extract_features
from fewlabels.files import write_bytes
from fewlabels.pretext.objective import HasLatents, Reconstructs
from fewlabels.randomness import numpy_generator
from fewlabels.runs.run_folder import RunFolder
from fewlabels.workflows.model import sorted_by_confidence
from fewlabels.workflows.outcome import Outcome
from fewlabels.workflows.phases import Context
from fewlabels.workflows.prepare import Prepared
from fewlabels.workflows.pretraining import Pretrained, reconstruct
from fewlabels.workflows.settings import Settings

NUM_RECONSTRUCTIONS = 12
NUM_MAP_POINTS = 1_200
NUM_MISTAKES = 24

_FEWEST_POINTS = 4
"""Different features below which there is nothing to lay out."""


@dataclass(frozen=True)
class PretrainingReference:
    """Pretraining measured on images it did not see, beside PCA of the same width.

    Attributes:
        error: the autoencoder's mean squared error per pixel.
        width: its number of features.
        pca: PCA on the same images.
        originals: uint8 or float32 (M, C, H, W).
        reconstructions: float32 (M, C, H, W) in [0, 1].
    """

    error: float
    width: int
    pca: PCAReference
    originals: npt.NDArray[Any]
    reconstructions: npt.NDArray[np.float32]

    def facts(self, settings: Settings, num_images: int) -> dict[str, Any]:
        """The part ``pretraining`` of ``result.json``."""
        return {
            "objective": settings.pretext.name,
            "width": self.width,
            "error": self.error,
            "pca_error": self.pca.error,
            "mean_image_error": self.pca.mean_image_error,
            "num_images": num_images,
        }


def comparable_with_pca(pretrained: Pretrained) -> bool:
    """Whether it draws images from a few numbers of each, as PCA does."""
    objective = pretrained.objective
    return isinstance(objective, Reconstructs) and isinstance(objective, HasLatents)


def pretraining_facts(
    context: Context, pretrained: Pretrained, pool: Selection
) -> PretrainingReference:
    """Compare the autoencoder with PCA on the images held out of pretraining.

    With so few images that none were held out, both are measured on what they were trained on.
    """
    trained = np.setdiff1d(np.arange(len(pool)), pretrained.held_out)
    evaluated = pool[pretrained.held_out] if len(pretrained.held_out) else pool[:]
    objective = pretrained.objective
    assert isinstance(objective, Reconstructs)
    assert isinstance(objective, HasLatents)
    shown = reconstruct(objective, evaluated, context.compute)
    width = objective.num_latents
    pca = pca_reference(
        pool.narrow(trained),
        evaluated,
        width,
        num_reconstructions=NUM_RECONSTRUCTIONS,
        generator=numpy_generator(context.seed, "pca reference"),
    )
    error = float(np.mean((shown.reshape(len(shown), -1) - flat_pixels(evaluated)) ** 2))
    count = NUM_RECONSTRUCTIONS
    return PretrainingReference(error, width, pca, evaluated[:count], shown[:count])


def save_pictures(
    folder: RunFolder,
    context: Context,
    prepared: Prepared,
    outcome: Outcome,
    reference: PretrainingReference | None,
) -> str:
    """Write ``report_data.safetensors``; returns how the map of the features was made."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    if reference is not None:
        arrays["originals"] = _to_bytes(reference.originals)
        arrays["reconstructions"] = _to_bytes(reference.reconstructions)
        arrays["pca_reconstructions"] = _to_bytes(reference.pca.reconstructions)
    if outcome.encoder is not None:
        arrays |= _feature_map(context, prepared, outcome.encoder[0])
    arrays |= _mistakes(outcome)
    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(folder.report_data, save(ready))
    if outcome.encoder is None:
        return "none: no network was trained"
    return f"t-SNE of the features of {outcome.encoder[1]}"


def _feature_map(
    context: Context, prepared: Prepared, encoder: Encoder
) -> dict[str, npt.NDArray[Any]]:
    """All labelled images and as many others as there is room for, laid out by t-SNE."""
    data, split = prepared.data, prepared.split
    rng = numpy_generator(context.seed, "feature map")
    allowed = split.pretraining(len(data))
    known = allowed[data.labels[allowed] != NO_LABEL]
    others = allowed[data.labels[allowed] == NO_LABEL]
    known = rng.permutation(known)[: NUM_MAP_POINTS // 2]
    others = rng.permutation(others)[: NUM_MAP_POINTS - len(known)]
    positions = np.concatenate([known, others])
    features = extract_features(encoder, data.images[positions], device=context.compute.device)
    return {"map_points": lay_out(features), "map_labels": data.labels[positions]}


def lay_out(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Features (N, D) as points (N, 2), such that similar ones lie close.

    A network that gives the same for every image has no map: all points are at the origin. (t-SNE
    would end the program there, as it sorts points into boxes until each has its own.)
    """
    standardised = _standardised(features)
    if not np.isfinite(standardised).all() or len(np.unique(standardised, axis=0)) < _FEWEST_POINTS:
        return np.zeros((len(features), 2), dtype=np.float32)
    # t-SNE needs more points than its perplexity, and is meaningless for a handful.
    perplexity = min(30.0, max(2.0, (len(features) - 1) / 3))
    layout = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=500)
    return np.asarray(layout.fit_transform(standardised), dtype=np.float32)


def _standardised(features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    deviation = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return np.asarray(scaled, dtype=np.float32)


def _mistakes(outcome: Outcome) -> dict[str, npt.NDArray[Any]]:
    if outcome.evaluation is None:
        return {}
    validation, probabilities = outcome.judged, outcome.probabilities
    predicted = probabilities.argmax(axis=1)
    order = sorted_by_confidence(probabilities)
    wrong = order[predicted[order] != validation.labels[order]][:NUM_MISTAKES]
    return {
        "mistakes_images": _to_bytes(validation.images[wrong]),
        "mistakes_true": validation.labels[wrong],
        "mistakes_predicted": predicted[wrong].astype(np.int64),
        "mistakes_confidence": probabilities[wrong].max(axis=1).astype(np.float32),
    }


def _to_bytes(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    return (images * 255).round().clip(0, 255).astype(np.uint8)
