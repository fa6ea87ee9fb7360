"""Latents of several widths: how well they draw, and how much of the classes they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA

from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.selection import Selection, select
from fewlabels.errors import ConfigError
from fewlabels.evaluation.pca import MAX_FITTED_IMAGES, flat_pixels
from fewlabels.evaluation.probe import probe_features
from fewlabels.plots.comparisons import check_picture, width_chart, write_picture
from fewlabels.pretext.objective import HasLatents, Reconstructs
from fewlabels.progress import say
from fewlabels.randomness import derive_seed, numpy_generator
from fewlabels.workflows.phases import Context, LabelledImages
from fewlabels.workflows.prepare import prepare
from fewlabels.workflows.pretraining import Pretrained, check_pretext, pretrain, reconstruct
from fewlabels.workflows.settings import Settings

_SAME = 0.01
"""Shares by which figures must differ to count as different: of the accuracy, and of the error."""


def latent_sizes(settings: Settings, widths: str, picture: Path | None) -> dict[str, Any]:
    """Pretrain once for each width.

    Args:
        settings: of every run; the objective must draw images from latents.
        widths: whole numbers, with commas between them.
        picture: where to draw the curves; None for nowhere.

    Raises:
        ConfigError: widths that are none, or an objective without latents.
        DataError: the images cannot be used.
    """
    check_picture(picture)
    numbers = _parsed(widths)
    variants = [_with_width(settings, width) for width in numbers]
    prepared, _ = prepare(settings)
    pool = Selection(prepared.data.images, prepared.split.pretraining(len(prepared.data)))
    labelled = prepared.training + prepared.validation
    check_pretext(Context.of(variants[0]), pool)
    pca: PCA | None = None
    rows = []
    for width, variant in zip(numbers, variants, strict=True):
        say(f"Width {width} …")
        context = Context.of(variant)
        done = pretrain(context, pool)
        if pca is None:
            pca = _fitted_pca(pool, done, max(numbers), context.seed)
        rows.append({"width": width, **_figures(context, done, pool, labelled, pca, width)})
        say(f"Width {width}: error {rows[-1]['error']:.4f}, PCA {rows[-1]['pca_error']:.4f}")
    if picture is not None:
        write_picture(width_chart(rows), picture)
    return {
        "source": prepared.data.source,
        "num_labels": len(labelled.labels),
        "rows": rows,
        "findings": findings(rows),
        "picture": None if picture is None else str(picture),
    }


def _parsed(widths: str) -> list[int]:
    parts = [part.strip() for part in widths.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"`--widths {widths}` must be whole numbers from 1 on with commas between them. Write "
            "for example --widths 2,8,32."
        )
    return sorted({int(part) for part in parts})


def _with_width(settings: Settings, width: int) -> Settings:
    if hasattr(settings.pretext, "latent"):
        return replace(settings, pretext=replace(settings.pretext, latent=width))
    if hasattr(settings.network, "latent"):
        return replace(settings, network=replace(settings.network, latent=width))
    raise ConfigError(
        f"Neither {settings.pretext.name} nor the network {settings.network.name} has a latent of "
        "any width. Use network.name = mlp, or pretext.name = variational_autoencoder."
    )


def _fitted_pca(pool: Selection, done: Pretrained, width: int, seed: int) -> PCA:
    """On images that the pretraining learnt from; its first components are those of any width."""
    trained = np.setdiff1d(np.arange(len(pool)), done.held_out)
    drawn = numpy_generator(seed, "pca reference").permutation(trained)[:MAX_FITTED_IMAGES]
    pixels = flat_pixels(pool[np.sort(drawn)])
    return PCA(min(width, *pixels.shape), random_state=0).fit(pixels)


def _figures(
    context: Context,
    done: Pretrained,
    pool: Selection,
    labelled: LabelledImages,
    pca: PCA,
    width: int,
) -> dict[str, Any]:
    """Errors on held-out images, and probes on the labels, of the objective and of PCA."""
    objective = done.objective
    if not isinstance(objective, Reconstructs) or not isinstance(objective, HasLatents):
        raise ConfigError(
            f"{context.settings.pretext.name} does not draw images from latents. Use autoencoder "
            "or variational_autoencoder."
        )
    unseen = select(pool, done.held_out)[:] if len(done.held_out) else pool[:]
    pixels = flat_pixels(unseen)
    drawn = flat_pixels(reconstruct(objective, unseen, context.compute))
    with torch.inference_mode():
        latents = objective.to_latents(
            to_float(as_tensor(labelled.images)).to(context.compute.device)
        )
    components = pca.components_[:width]
    projected = (pixels - pca.mean_) @ components.T
    seed = derive_seed(context.seed, "probe")
    return {
        "error": float(np.mean((drawn - pixels) ** 2)),
        "pca_error": float(np.mean((projected @ components + pca.mean_ - pixels) ** 2)),
        "probe": _probe(latents.float().cpu().numpy(), labelled, seed),
        "pca_probe": _probe(
            (flat_pixels(labelled.images) - pca.mean_) @ components.T, labelled, seed
        ),
        "seconds": done.phase.seconds,
    }


def _probe(features: npt.NDArray[Any], labelled: LabelledImages, seed: int) -> float | None:
    return probe_features(features, labelled.labels, seed).get("probe_accuracy")


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """Which widths are too small and which too large, in sentences with numbers."""
    errors = {row["width"]: row["error"] for row in rows}
    best_error = min(errors.values())
    enough = min(width for width, error in errors.items() if error <= best_error * (1 + 10 * _SAME))
    sentences = [
        f"Drawing: width {enough} is within a tenth of the smallest error; narrower ones leave "
        "something out, wider ones add little."
    ]
    probes = {row["width"]: row["probe"] for row in rows if row["probe"] is not None}
    if probes:
        best = max(probes.values())
        fits = [width for width, probe in probes.items() if probe >= best - _SAME]
        sentences.append(
            f"Classes: the probe is best from width {min(fits)} to {max(fits)}, within a point; "
            "the widths with the least error need not be those with the best features."
        )
    worse = [row["width"] for row in rows if row["error"] > row["pca_error"]]
    if worse:
        sentences.append(
            f"At width {', '.join(map(str, worse))} PCA draws better: train for longer, or with a "
            "wider network."
        )
    return sentences
