"""Pretraining by itself: an encoder that others can start from, and how good its features are."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fewlabels
from fewlabels.data.selection import Selection
from fewlabels.evaluation.predict import extract_features
from fewlabels.evaluation.probe import linear_probe
from fewlabels.files import write_bytes, write_json
from fewlabels.lookup import find
from fewlabels.networks.classifier import num_parameters
from fewlabels.plots.sheet import image_sheet
from fewlabels.pretext import PRETEXTS
from fewlabels.pretext.objective import Generates, HasLatents, Reconstructs
from fewlabels.progress import say
from fewlabels.randomness import generator
from fewlabels.report.report import write_report
from fewlabels.runs.run_folder import RunFolder
from fewlabels.workflows.artefact import save_artefact
from fewlabels.workflows.course import (
    RunHistory,
    begin_run,
    data_facts,
    phase_row,
    saying_how_to_go_on,
)
from fewlabels.workflows.phases import Context, LabelledImages
from fewlabels.workflows.pictures import comparable_with_pca, pretraining_facts
from fewlabels.workflows.prepare import Prepared, prepare
from fewlabels.workflows.pretraining import Pretrained, check_pretext, pretrain
from fewlabels.workflows.probing import NUM_DRAWN, Watcher
from fewlabels.workflows.recipes import recipes
from fewlabels.workflows.settings import Settings

_JUDGED_SAMPLES = 500
_LEAST_SHARE = 0.2
"""Of its share among real images that a class must have among made ones not to be missing."""

_LEAST_ACTIVE = 0.1
"""Of the latents that must say something, or most have collapsed."""


def recipe_for(objective: str) -> str:
    """The recipe of an objective's name where there is one, else the default.

    Raises:
        UnknownNameError: no such objective.
    """
    find(PRETEXTS, objective, "pretext objective")
    known = recipes()
    return objective if objective in known and known[objective].complete else "default"


def pretrain_run(settings: Settings, runs: Path) -> dict[str, Any]:
    """Train an encoder on all images, in a new run folder.

    Returns:
        What ``result.json`` holds.

    Raises:
        FewlabelsError: bad data, settings or disk; a started run can be resumed.
    """
    prepared, _ = prepare(settings)
    context = Context.of(settings)
    check_pretext(context, prepared.data.images)
    folder = begin_run(runs, settings, prepared)
    with saying_how_to_go_on(folder):
        return complete_pretraining(folder, settings, prepared)


def complete_pretraining(
    folder: RunFolder, settings: Settings, prepared: Prepared
) -> dict[str, Any]:
    """All of a pretraining run; what a checkpoint holds is taken from it."""
    started = time.perf_counter()
    history = RunHistory(folder)
    context = Context.of(settings, checkpoint=folder.checkpoint, on_history=history.update)
    data = prepared.data
    pool = Selection(data.images, prepared.split.pretraining(len(data)))
    labelled = prepared.training + prepared.validation
    watcher = Watcher(folder, labelled, pool[:NUM_DRAWN], context.compute, context.seed)
    say(f"{settings.pretext.name.replace('_', ' ')} on {len(pool):,} images without labels …")
    done = pretrain(context, pool, watcher)
    save_artefact(folder.path, settings, done, data.image_shape)
    watcher.draw(done.objective, done.phase.epochs)
    reference = pretraining_facts(context, done, pool) if comparable_with_pca(done) else None
    if reference is not None:
        rows = [reference.originals, reference.reconstructions]
        shown = np.concatenate([_as_float(images) for images in rows])
        sheet = image_sheet(shown, len(reference.originals))
        write_bytes(folder.path / "samples" / "reconstructions.png", sheet)
    result = {
        "run": str(folder.path),
        "task": "pretrain",
        "version": fewlabels.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - started,
        "recipe": settings.run.recipe,
        "objective": settings.pretext.name,
        "abilities": _abilities(done),
        "phases": [phase_row("pretrain", done.phase)],
        "probe": {**watcher.probe(done.encoder), "num_labels": len(labelled.labels)},
        "pretraining": reference.facts(settings, len(pool)) if reference else None,
        "findings": findings(context, done, labelled, pool),
        "data": data_facts(prepared),
        "network": {
            "name": settings.network.name,
            "num_parameters": num_parameters(done.encoder),
            "num_features": done.encoder.num_features,
        },
        "compute": {
            "device": str(context.compute.device),
            "precision": context.compute.precision,
        },
    }
    write_json(folder.result, result)
    write_report(folder.path)
    return result


def _as_float(images: Any) -> Any:
    return images / np.float32(255) if images.dtype == np.uint8 else images


def _abilities(done: Pretrained) -> list[str]:
    """What can be asked of it afterwards: commands by name."""
    known = {"generate": Generates, "reconstruct": Reconstructs, "interpolate": HasLatents}
    return [name for name, kind in known.items() if isinstance(done.objective, kind)]


def findings(
    context: Context, done: Pretrained, labelled: LabelledImages, pool: Selection
) -> list[str]:
    """What has gone wrong with what it draws, in sentences with numbers."""
    found = [_collapsed_latents(done), _missing_classes(context, done, labelled, pool)]
    return [sentence for sentence in found if sentence is not None]


def _collapsed_latents(done: Pretrained) -> str | None:
    active = done.phase.history[-1].get("active_latents") if done.phase.history else None
    if active is None or not isinstance(done.objective, HasLatents):
        return None
    count = done.objective.num_latents
    if float(active) >= max(1.0, _LEAST_ACTIVE * count):
        return None
    return (
        f"Posterior collapse: only {float(active):.0f} of {count} latents say anything about the "
        "image. Try a smaller pretext.beta, a longer pretext.warmup, or fewer latents."
    )


def _missing_classes(
    context: Context, done: Pretrained, labelled: LabelledImages, pool: Selection
) -> str | None:
    """Classes that a probe on the run's own features hardly finds among made images."""
    objective = done.objective
    if not isinstance(objective, Generates) or len(np.unique(labelled.labels)) < 2:
        return None
    device = context.compute.device
    probe: Any = linear_probe()
    probe.fit(extract_features(done.encoder, labelled.images, device=device), labelled.labels)
    with torch.no_grad():
        random = generator(context.seed, "judged", device=device)
        made = objective.generate(_JUDGED_SAMPLES, random).float().cpu().numpy()
    shares = []
    for images in (pool[: 2 * _JUDGED_SAMPLES], made):
        guesses = probe.predict(extract_features(done.encoder, images, device=device))
        shares.append(np.array([(guesses == label).mean() for label in probe.classes_]))
    missing = probe.classes_[shares[1] < _LEAST_SHARE * shares[0]]
    if not len(missing):
        return None
    return (
        f"Mode collapse: of {len(probe.classes_)} classes, {len(missing)} hardly occur among "
        f"{_JUDGED_SAMPLES} made images, by a probe on the run's own features. Try more epochs or "
        "a smaller learning rate; for an adversarial network also a larger pretext.r1."
    )
