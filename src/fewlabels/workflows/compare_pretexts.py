"""Which objective helps on these images? All of them with the same network, time and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.config import build_named
from fewlabels.data.image_set import NO_LABEL
from fewlabels.data.selection import Selection
from fewlabels.errors import ConfigError, DataError
from fewlabels.evaluation.metrics import paired_difference
from fewlabels.evaluation.predict import extract_features
from fewlabels.evaluation.probe import probe_features
from fewlabels.lookup import find
from fewlabels.plots.comparisons import check_picture, difference_chart, write_picture
from fewlabels.pretext import PRETEXTS
from fewlabels.progress import say
from fewlabels.randomness import derive_seed
from fewlabels.training.memory import peak_memory
from fewlabels.workflows.compare import Draw, accuracy_of, draw_labels, verdict, without_sealed_test
from fewlabels.workflows.methods import labels_alone
from fewlabels.workflows.pace import pretraining_within
from fewlabels.workflows.phases import Context
from fewlabels.workflows.prepare import labelled, read_source
from fewlabels.workflows.pretraining import check_pretext, pretrain
from fewlabels.workflows.settings import Settings


@dataclass(frozen=True)
class _Learnt:
    """What one objective has made of the images.

    Attributes:
        state: weights of the encoder.
        seconds: of its training.
        memory: bytes at the peak; None where that cannot be measured.
        context: settings that it was trained with.
    """

    state: dict[str, Any]
    seconds: float
    memory: int | None
    context: Context


def compare_pretexts(
    settings: Settings, names: str, num_draws: int, seconds: float, picture: Path | None
) -> dict[str, Any]:
    """Pretrain once with each objective, then transfer over draws of the labels.

    Args:
        settings: of every run; the network is the same for all.
        names: of objectives with commas between them, or "all".
        num_draws: at least 2.
        seconds: that each objective may take to learn.
        picture: where to draw the result; None for nowhere.

    Raises:
        DataError: too few draws or labels.
        UnknownNameError: no such objective.
    """
    check_picture(picture)
    if num_draws < 2:
        raise DataError(f"A comparison needs at least 2 draws to have a spread. Got {num_draws}.")
    chosen = list(PRETEXTS) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen:
        find(PRETEXTS, name, "pretext objective")
    data = without_sealed_test(read_source(settings.data), settings)
    draws = [draw_labels(data, settings, number) for number in range(num_draws)]
    # An encoder that serves all draws must not have seen the images that score any of them.
    pool = Selection(data.images, reduce(np.intersect1d, [draw.pool for draw in draws]))
    alone = labels_alone(settings).name
    strategy = settings.transfer.strategies[-1] if settings.transfer.strategies else "full"
    learnt, left_out = _learn_all(settings, chosen, pool, seconds)
    scores: dict[str, list[float]] = {}
    for number, draw in enumerate(draws):
        context = Context.of(replace(settings, run=replace(settings.run, seed=number)))
        scores.setdefault(alone, []).append(accuracy_of(context, draw, alone, None, None))
        for name, one in learnt.items():
            found = accuracy_of(context, draw, f"{name}_{strategy}", one.state, strategy)
            scores.setdefault(name, []).append(found)
        shown = ", ".join(f"{name} {values[-1]:.1%}" for name, values in scores.items())
        say(f"Draw {number + 1} of {num_draws}: {shown}")
    rows = {
        name: _row(name, values, scores[alone], learnt.get(name), draws)
        for name, values in scores.items()
    }
    ordered = sorted(rows.values(), key=lambda row: -row["mean"])
    if picture is not None:
        title = f"{data.source}: {settings.network.name}, {num_draws} draws of the labels"
        others = [row for row in ordered if row["name"] != alone]
        write_picture(difference_chart(others, rows[alone]["mean"], title), picture)
    return {
        "source": data.source,
        "network": settings.network.name,
        "strategy": strategy,
        "draws": num_draws,
        "n_per_draw": len(draws[0].split.test),
        "seconds": seconds,
        "rows": ordered,
        "left_out": left_out,
        "picture": None if picture is None else str(picture),
    }


def _row(
    name: str, values: list[float], alone: list[float], learnt: _Learnt | None, draws: list[Draw]
) -> dict[str, Any]:
    """The figures of one objective, or of learning from labels alone."""
    row: dict[str, Any] = {
        "name": name,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "accuracies": values,
    }
    if learnt is None:
        return row
    difference = paired_difference(values, alone)
    return row | {
        "difference": difference._asdict(),
        "helps": verdict(difference),
        "probe": _probe(learnt, draws),
        "seconds": learnt.seconds,
        "memory": learnt.memory,
    }


def _learn_all(
    settings: Settings, names: list[str], pool: Selection, seconds: float
) -> tuple[dict[str, _Learnt], dict[str, str]]:
    """What each objective has learnt, and why those are left out that do not fit the network."""
    learnt: dict[str, _Learnt] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            learnt[name] = _learn(settings, name, pool, seconds)
        except ConfigError as error:
            left_out[name] = str(error)
    return learnt, left_out


def _learn(settings: Settings, name: str, pool: Selection, seconds: float) -> _Learnt:
    """Train an encoder with one objective for so long.

    Raises:
        ConfigError: the objective does not go with the network.
    """
    given = settings.pretext if settings.pretext.name == name else None
    pretext = given or build_named(PRETEXTS, {"name": name}, "pretext", "pretext objective")
    context = Context.of(replace(settings, pretext=pretext))
    check_pretext(context, pool)
    context, some = pretraining_within(context, pool, seconds)
    say(f"{name.replace('_', ' ')} …")
    with peak_memory(context.compute.device) as peak:
        done = pretrain(context, some)
    return _Learnt(done.encoder.state_dict(), done.phase.seconds, peak.num_bytes, context)


def _probe(learnt: _Learnt, draws: list[Draw]) -> float | None:
    """Mean accuracy of a linear probe on the labels of each draw, in turns."""
    encoder = learnt.context.new_encoder(draws[0].data.images, "scratch")
    encoder.load_state_dict(learnt.state)
    device = learnt.context.compute.device
    found = []
    for draw in draws:
        known = labelled(draw.data, np.flatnonzero(draw.data.labels != NO_LABEL))
        features = extract_features(encoder.to(device), known.images, device=device)
        seed = derive_seed(learnt.context.seed, "probe")
        probed = probe_features(features, known.labels, seed)
        found += [probed["probe_accuracy"]] if probed else []
    return float(np.mean(found)) if found else None
