"""The main job: baselines, from scratch, pretrain, transfer, choose, refit, report."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fewlabels
from fewlabels.data.image_set import ImageSet
from fewlabels.data.selection import Selection
from fewlabels.errors import ConfigError
from fewlabels.evaluation.baselines import BaselineResult, run_baselines
from fewlabels.evaluation.metrics import evaluate
from fewlabels.files import write_json
from fewlabels.progress import say
from fewlabels.report.report import write_report
from fewlabels.runs.run_folder import RunFolder, open_run, read_json
from fewlabels.workflows.auto import choose_automatically
from fewlabels.workflows.candidates import Candidate, best, comparison_row
from fewlabels.workflows.course import (
    RunHistory,
    begin_run,
    check_same_data,
    data_facts,
    phase_row,
    saying_how_to_go_on,
)
from fewlabels.workflows.methods import Method, Pretraining, methods, pretrains, train
from fewlabels.workflows.model import Model, save_model
from fewlabels.workflows.outcome import Outcome
from fewlabels.workflows.phases import Context, Trained, check_objective
from fewlabels.workflows.pictures import comparable_with_pca, pretraining_facts, save_pictures
from fewlabels.workflows.prepare import Prepared, prepare
from fewlabels.workflows.pretrain import complete_pretraining
from fewlabels.workflows.pretraining import check_pretext
from fewlabels.workflows.reuse import check_encoder, encoder_warnings
from fewlabels.workflows.settings import Settings, build_settings
from fewlabels.workflows.testing import open_test
from fewlabels.workflows.views import make_views


def fit(
    settings: Settings, runs: Path, *, open_test_set: bool = False, started: float | None = None
) -> dict[str, Any]:
    """Make a classifier from few labels, in a new run folder.

    Args:
        settings: of the run.
        runs: folder in which the run folder is made.
        open_test_set: evaluate on the sealed test set at the end, and record it.
        started: on the clock of `time.perf_counter`, from when on the time budget counts; None for
            the present.

    Returns:
        What ``result.json`` holds.

    Raises:
        FewlabelsError: bad data, settings or disk; a started run can be resumed.
    """
    if settings.auto.time_budget != "auto" and not settings.auto.enabled:
        raise ConfigError(
            "Only the recipe that chooses for itself watches the clock: a time budget goes with "
            "--recipe auto. For other recipes set joint_training.max_steps or training.max_steps."
        )
    started = time.perf_counter() if started is None else started
    prepared, data = prepare(settings)
    context = Context.of(settings)
    context.check_network(prepared.data.images)
    check_encoder(settings, prepared)
    # Recipe auto may still choose another objective; it checks that itself.
    if not settings.auto.enabled and pretrains(settings):
        check_pretext(context, prepared.data.images)
    folder = begin_run(runs, settings, prepared)
    with saying_how_to_go_on(folder):
        return complete(
            folder, settings, prepared, data, open_test_set=open_test_set, started=started
        )


def resume(path: Path, *, open_test_set: bool = False) -> dict[str, Any]:
    """Finish an interrupted run exactly as it would have gone on.

    Raises:
        RunError: no run, another version, or the images have changed since.
    """
    started = time.perf_counter()
    folder = open_run(path)
    settings = build_settings(folder.read_config())
    if folder.result.is_file():
        say(f"The run {path} has already finished; there is nothing to resume.")
        if not folder.report.is_file():
            write_report(folder.path)
        return folder.read_result()
    prepared, data = prepare(settings)
    check_same_data(folder, prepared)
    if settings.run.task == "pretrain":
        with saying_how_to_go_on(folder):
            return complete_pretraining(folder, settings, prepared)
    with saying_how_to_go_on(folder):
        return complete(
            folder, settings, prepared, data, open_test_set=open_test_set, started=started
        )


def complete(
    folder: RunFolder,
    settings: Settings,
    prepared: Prepared,
    data: ImageSet,
    *,
    open_test_set: bool,
    started: float,
) -> dict[str, Any]:
    """All phases of a run; those with a finished checkpoint are taken from it.

    Args:
        folder: an existing run folder with its settings written.
        settings: of the run.
        prepared: images with roles, test labels sealed.
        data: the same with test labels, handed on only to the opening of the seal.
        open_test_set: evaluate on the test set at the end.
        started: on the clock of `time.perf_counter`, when the program began with it.
    """
    history = RunHistory(folder)
    context = Context.of(settings, checkpoint=folder.checkpoint, on_history=history.update)
    pool = Selection(prepared.data.images, prepared.split.pretraining(len(prepared.data)))
    if settings.auto.enabled:
        outcome = choose_automatically(folder, context, prepared, pool, started)
    else:
        outcome = try_all(folder, context, prepared, pool)
    save_model(folder.model, outcome.model, {"recipe": settings.run.recipe})
    folder.write_settings(outcome.settings.to_values())
    pretrained = outcome.pretrained
    compares = pretrained is not None and comparable_with_pca(pretrained)
    reference = pretraining_facts(context, pretrained, pool) if pretrained and compares else None
    map_method = save_pictures(folder, context, prepared, outcome, reference)
    result = {
        "run": str(folder.path),
        "version": fewlabels.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - started,
        "recipe": settings.run.recipe,
        "phases": [phase_row(name, phase) for name, phase in outcome.phases.items()],
        "comparison": outcome.comparison,
        "pretraining": reference.facts(settings, len(pool)) if reference else None,
        "map_method": map_method,
        **_chosen_facts(outcome),
        **_made_of(context, prepared, outcome),
    }
    write_json(folder.result, result)
    if open_test_set and len(prepared.split.test):
        views = make_views(outcome.settings, outcome.model)
        return open_test(folder, outcome.model, data, prepared, context.compute, views)
    write_report(folder.path)
    return result


def try_all(folder: RunFolder, context: Context, prepared: Prepared, pool: Selection) -> Outcome:
    """Train whatever the settings name, choose on validation, and refit on all labels if asked."""
    settings, data = context.settings, prepared.data
    check_objective(context, prepared.training, data.num_classes)
    baselines = _baselines(folder, context, prepared, pool)
    pretraining = Pretraining(context, pool)
    num_unlabelled = len(pool) - len(prepared.training.labels) - len(prepared.validation.labels)
    candidates = [
        _candidate(context, prepared, pool, method, pretraining)
        for method in methods(settings, num_unlabelled)
    ]
    chosen = best(candidates)
    say(f"Chosen on validation: {chosen.name} ({chosen.evaluation.accuracy:.1%}).")
    phases = {candidate.name: candidate.trained.phase for candidate in candidates}
    if pretraining.done is not None:
        phases["pretrain"] = pretraining.done.phase
    final = chosen.trained
    if settings.run.refit:
        final = _refit(context, prepared, pool, chosen, pretraining)
        phases["refit"] = final.phase
    policy, _ = context.policy(data.image_shape)
    return Outcome(
        model=Model(final.classifier, settings.network, data.image_shape, data.class_names),
        settings=settings,
        chosen=chosen.name,
        chosen_epochs=chosen.trained.phase.best_epoch + 1,
        comparison=[*map(comparison_row, baselines), *map(comparison_row, candidates)],
        judged_by="validation",
        judged=prepared.validation,
        probabilities=chosen.probabilities,
        evaluation=chosen.evaluation,
        encoder=(chosen.trained.classifier.encoder, chosen.name),
        pretrained=pretraining.done,
        phases=phases,
        pseudo_labels=_pseudo_labels(candidates),
        decisions=[
            f"Augmentation policy: {policy} (asked for: {settings.augment_policy}).",
        ],
    )


def _pseudo_labels(candidates: list[Candidate]) -> list[dict[str, Any]] | None:
    """Those of the semi-supervised candidate, which validation has not been learnt by."""
    found = [one.trained.pseudo_labels for one in candidates if one.trained.pseudo_labels]
    return found[-1] if found else None


def _chosen_facts(outcome: Outcome) -> dict[str, Any]:
    evaluation = outcome.evaluation
    return {
        "chosen": outcome.chosen,
        "chosen_epochs": outcome.chosen_epochs,
        "judged_by": outcome.judged_by,
        "val_accuracy": evaluation.accuracy if evaluation else None,
        "val_interval": list(evaluation.interval) if evaluation else None,
        "validation": evaluation.to_dict() if evaluation else None,
        "pseudo_labels": outcome.pseudo_labels,
        "flip": outcome.settings.augment.flip,
        "test_accuracy": None,
        "test": None,
    }


def _made_of(context: Context, prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    problems = prepared.data.problems
    return {
        "data": data_facts(prepared),
        "network": outcome.model.facts(),
        "compute": {
            "device": str(context.compute.device),
            "precision": context.compute.precision,
        },
        "decisions": [*_decisions(context, prepared), *outcome.decisions],
        "warnings": encoder_warnings(context.settings, prepared),
        "problems": [vars(problem) for problem in problems[:50]],
        "num_problems": len(problems),
    }


def _baselines(
    folder: RunFolder, context: Context, prepared: Prepared, pool: Selection
) -> list[BaselineResult]:
    saved = folder.checkpoint("baselines").with_suffix(".json")
    if saved.is_file():
        return [BaselineResult(**row) for row in read_json(saved)["baselines"]]
    say("Baselines on raw pixels and on principal components …")
    training, validation = prepared.training, prepared.validation
    results = run_baselines(
        training.images,
        training.labels,
        pool,
        validation.images,
        validation.labels,
        seed=context.seed,
    )
    write_json(saved, {"baselines": [vars(result) for result in results]})
    return results


def _candidate(
    context: Context, prepared: Prepared, pool: Selection, method: Method, pretraining: Pretraining
) -> Candidate:
    say(f"{method.title} …")
    trained = train(
        context,
        method,
        method.name,
        prepared.training,
        prepared.validation,
        prepared.data.num_classes,
        pool=pool,
        encoder_state=pretraining.encoder_state,
    )
    validation = prepared.validation
    model = Model(trained.classifier, context.settings.network, prepared.data.image_shape, ())
    probabilities = model.predict(
        validation.images, context.compute, make_views(context.settings, model)
    )
    evaluation = evaluate(probabilities, validation.labels, prepared.data.class_names)
    return Candidate(method, trained, probabilities, evaluation, trained.phase.seconds)


def _refit(
    context: Context,
    prepared: Prepared,
    pool: Selection,
    chosen: Candidate,
    pretraining: Pretraining,
) -> Trained:
    say("Refit of the chosen one on training and validation labels together …")
    return train(
        context,
        chosen.method,
        "refit",
        prepared.training + prepared.validation,
        None,
        prepared.data.num_classes,
        pool=pool,
        encoder_state=pretraining.encoder_state,
        stop_after=chosen.trained.phase.best_epoch + 1,
    )


def _decisions(context: Context, prepared: Prepared) -> list[str]:
    settings, compute = context.settings, context.compute
    sentences = [
        f"Computed on {compute.device} in {compute.precision} precision "
        f"(asked for: {settings.run.device}, {settings.run.precision}).",
    ]
    if prepared.counts()["held_back"]:
        sentences.append(
            f"The data has an official test part, so the third share of the split "
            f"({prepared.counts()['held_back']} images) is held back unused."
        )
    return sentences
