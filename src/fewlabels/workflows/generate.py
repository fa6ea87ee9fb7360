"""Letting a pretrained model draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri

from fewlabels.data import load_for_prediction
from fewlabels.data.selection import Selection
from fewlabels.errors import DataError, RunError
from fewlabels.evaluation.predict import extract_features
from fewlabels.evaluation.sample_quality import judge_samples
from fewlabels.files import check_folder_of, write_bytes
from fewlabels.lookup import find
from fewlabels.plots.sheet import image_sheet
from fewlabels.pretext import able
from fewlabels.pretext.diffusion import Diffusion
from fewlabels.pretext.objective import Generates, HasLatents, Reconstructs
from fewlabels.randomness import generator, numpy_generator
from fewlabels.runs.run_folder import open_run, read_json
from fewlabels.training.device import Compute, choose
from fewlabels.workflows.artefact import Artefact, load_artefact
from fewlabels.workflows.model import Model, load_model
from fewlabels.workflows.prepare import prepare
from fewlabels.workflows.settings import build_settings

COLUMNS = 8
MOST_AT_ONCE = 256
MOST_TRIES = 50
"""Times as many images as asked for that are made in search of a class."""

STEPS_SHOWN = 10
GRID_SIDE = 20
JUDGED = 2_000
"""Images made, and twice as many real ones looked at, to judge by."""


def generate(
    run: Path,
    count: int,
    output: Path,
    *,
    seed: int = 0,
    show: str = "samples",
    classifier: Path | None = None,
    of_class: str | None = None,
) -> dict[str, Any]:
    """Draw new images and write them in one picture.

    Args:
        run: of a pretraining.
        count: images.
        output: PNG file; its folder must exist.
        seed: of the draw.
        show: "samples"; "steps" for what they look like on the way from noise, for diffusion;
            "grid" for all of a latent plane, where there are two latents.
        classifier: a finished run that judges the images, or picks those of a class.
        of_class: name of a class that all images are to belong to by the classifier.

    Raises:
        RunError: the run cannot do that.
        DataError: no such class, or hardly any image of it is drawn.
        StorageError: the picture cannot be written.
    """
    check_folder_of(output)
    artefact = load_artefact(run)
    objective = artefact.objective
    compute = choose("auto", "32")
    objective.to(compute.device)
    facts: dict[str, Any] = {"run": str(run), "output": str(output), "count": count, "seed": seed}
    if show != "samples":
        images, columns = find(_SHOWN, show, "picture")(artefact, count, seed, compute)
        write_bytes(output, image_sheet(images, columns))
        return {**facts, "shown": show}
    maker = _maker(artefact)
    model = None if classifier is None else _classifier(classifier, artefact)
    if of_class is not None:
        if model is None:
            raise DataError(
                "Only a classifier can tell the images of a class. Name a finished run with "
                "--classifier RUN."
            )
        label = find({n: i for i, n in enumerate(model.class_names)}, of_class, "class")
        images, tried = _of_class(maker, model, label, count, seed, compute)
        facts |= {"class": of_class, "tried": tried}
    else:
        images = _made(maker, count, seed, compute)
    write_bytes(output, image_sheet(images, COLUMNS))
    if model is not None and of_class is None:
        facts["quality"] = _quality(artefact, maker, model, seed, compute)
    return facts


def reconstruct_images(
    run: Path, images: str, output: Path, *, count: int = 16, seed: int = 0
) -> dict[str, Any]:
    """Write a picture of images and, below each, what the run draws of it.

    Raises:
        RunError: the run cannot do that.
        DataError: the images cannot be read.
    """
    check_folder_of(output)
    artefact = load_artefact(run)
    objective = artefact.objective
    if not isinstance(objective, Reconstructs):
        raise RunError(_cannot(artefact, "draw an image that it is shown", Reconstructs))
    data = load_for_prediction(images, artefact.image_shape)
    shown = _as_float(np.asarray(data.images[:count]))
    with torch.no_grad():
        drawn = objective.reconstruct(torch.from_numpy(shown), generator(seed, "reconstruct"))
    array = drawn.float().numpy()
    write_bytes(output, image_sheet(np.concatenate([shown, array]), len(shown)))
    error = float(np.mean((array - shown) ** 2))
    return {"run": str(run), "output": str(output), "count": len(shown), "error": error}


def interpolate(
    run: Path, first: str, second: str, output: Path, *, steps: int = 10
) -> dict[str, Any]:
    """Write a strip from one image to another, by way of the latents between theirs.

    Raises:
        RunError: the run keeps no latents.
        DataError: the images cannot be read.
    """
    check_folder_of(output)
    artefact = load_artefact(run)
    objective = artefact.objective
    if not isinstance(objective, HasLatents):
        raise RunError(_cannot(artefact, "go from one image to another", HasLatents))
    ends = [
        _as_float(np.asarray(load_for_prediction(source, artefact.image_shape).images[:1]))
        for source in (first, second)
    ]
    with torch.no_grad():
        start, end = (objective.to_latents(torch.from_numpy(image)) for image in ends)
        shares = torch.linspace(0, 1, steps).view(-1, 1)
        between = objective.from_latents((1 - shares) * start + shares * end).float().numpy()
    write_bytes(output, image_sheet(np.concatenate([ends[0], between, ends[1]]), steps + 2))
    return {"run": str(run), "output": str(output), "steps": steps}


def _as_float(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    scaled = images / np.float32(255) if images.dtype == np.uint8 else images
    return np.asarray(scaled, dtype=np.float32)


def _cannot(artefact: Artefact, what: str, ability: type) -> str:
    """One sentence: what the run cannot do, and which objectives can."""
    return (
        f"The run {artefact.run} learnt {artefact.name}, which cannot {what}. These objectives of "
        f"fewlabels pretrain can: {', '.join(able(ability))}."
    )


Maker = Callable[[int, torch.Generator], torch.Tensor]


def _maker(artefact: Artefact) -> Maker:
    """What makes so many new images."""
    if not isinstance(artefact.objective, Generates):
        raise RunError(_cannot(artefact, "make new images", Generates))
    return artefact.objective.generate


@torch.no_grad()
def _made(maker: Maker, count: int, seed: int, compute: Compute) -> npt.NDArray[np.float32]:
    random = generator(seed, "generate", device=compute.device)
    parts = [
        maker(min(MOST_AT_ONCE, count - start), random).float().cpu().numpy()
        for start in range(0, count, MOST_AT_ONCE)
    ]
    return np.concatenate(parts)


def _classifier(run: Path, artefact: Artefact) -> Model:
    """The network of a finished run, for images of the artefact's size.

    Raises:
        RunError: it is none, or for other images.
    """
    model = load_model(open_run(run).model)
    if not isinstance(model, Model):
        raise RunError(
            f"The run {run} shipped a baseline, which has no features to judge images by. Name a "
            "run with a network."
        )
    if model.image_shape != artefact.image_shape:
        theirs, ours = (
            "×".join(map(str, one)) for one in (model.image_shape, artefact.image_shape)
        )
        raise RunError(
            f"The classifier of {run} takes images of {theirs}, and {artefact.run} makes images of "
            f"{ours}. Name a run with images of that size."
        )
    return model


def _of_class(
    maker: Maker, model: Model, label: int, count: int, seed: int, compute: Compute
) -> tuple[npt.NDArray[np.float32], int]:
    """Images that the classifier takes for a class, and how many were made to find them."""
    random = generator(seed, "generate", device=compute.device)
    found: list[npt.NDArray[np.float32]] = []
    tried = 0
    while sum(map(len, found)) < count and tried < MOST_TRIES * count:
        with torch.no_grad():
            made = maker(MOST_AT_ONCE, random).float().cpu().numpy()
        tried += len(made)
        found.append(made[model.predict(made, compute).argmax(axis=1) == label])
    images = np.concatenate(found)[:count]
    if len(images) < count:
        raise DataError(
            f"Of {tried:,} images made, the classifier takes {len(images)} for "
            f"{model.class_names[label]!r}; {count} were asked for. Ask for fewer, or train the "
            "model for longer."
        )
    return images, tried


def _quality(
    artefact: Artefact, maker: Maker, model: Model, seed: int, compute: Compute
) -> dict[str, Any]:
    """Figures of made images beside real ones that the pretraining was allowed to see."""
    pool = _pool(artefact)
    order = numpy_generator(seed, "judged").permutation(len(pool))[: 2 * JUDGED]
    real, made = pool[order], _made(maker, min(JUDGED, len(order) // 2), seed + 1, compute)
    encoder = model.classifier.encoder.to(compute.device)
    ours, theirs = (
        extract_features(encoder, images, device=compute.device) for images in (made, real)
    )
    quality = judge_samples(theirs, ours, model.predict(made, compute))
    shares = dict(zip(model.class_names, quality.shares, strict=True))
    return {**asdict(quality), "shares": shares, "num_made": len(made), "num_real": len(real)}


def _pool(artefact: Artefact) -> Selection:
    """The images that the pretraining was allowed to see."""
    folder = open_run(artefact.run)
    prepared, _ = prepare(build_settings(folder.read_config()), read_json(folder.splits))
    return Selection(prepared.data.images, prepared.split.pretraining(len(prepared.data)))


def _steps(
    artefact: Artefact, count: int, seed: int, compute: Compute
) -> tuple[npt.NDArray[np.float32], int]:
    """A row an image, from noise to the finished one."""
    objective = artefact.objective
    if not isinstance(objective, Diffusion):
        raise RunError(_cannot(artefact, "show its way from noise to an image", Diffusion))
    random = generator(seed, "generate", device=compute.device)
    with torch.no_grad():
        seen = [images.cpu().numpy() for images in objective.denoised(count, random)]
    places = np.linspace(0, len(seen) - 1, STEPS_SHOWN).round().astype(int)
    rows = np.stack([seen[place] for place in places], axis=1)  # (B, steps, C, H, W)
    return rows.reshape(-1, *rows.shape[2:]), STEPS_SHOWN


def _grid(
    artefact: Artefact, count: int, seed: int, compute: Compute
) -> tuple[npt.NDArray[np.float32], int]:
    """All of a latent plane: equal steps of probability where latents are normal, as in the paper
    of the variational autoencoder; else of the latents that images have.
    """
    objective = artefact.objective
    if not isinstance(objective, HasLatents) or objective.num_latents != 2:
        raise RunError(
            f"A grid shows a plane of two latents, which {artefact.run} does not have. Pretrain "
            "with two: --set pretext.latent=2, or --set network.latent=2 for an autoencoder."
        )
    if isinstance(objective, Generates):
        places = ndtri(np.linspace(0.03, 0.97, GRID_SIDE))
        axes = [places, places]
    else:
        some = torch.from_numpy(_as_float(_pool(artefact)[:JUDGED])).to(compute.device)
        with torch.no_grad():
            known = objective.to_latents(some).float().cpu().numpy()
        low, high = np.quantile(known, (0.02, 0.98), axis=0)
        axes = list(np.linspace(low, high, GRID_SIDE).T)
    plane = np.stack(np.meshgrid(axes[0], axes[1][::-1]), axis=-1).reshape(-1, 2)
    with torch.no_grad():
        latents = torch.from_numpy(plane.astype(np.float32)).to(compute.device)
        drawn = objective.from_latents(latents)
    return drawn.float().cpu().numpy(), GRID_SIDE


_SHOWN = {"steps": _steps, "grid": _grid}
