"""The recipe that chooses for itself: looks at the images, tries, and stops in time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.selection import Selection
from fewlabels.evaluation.baselines import BaselineResult, fit_baseline, run_baselines, together
from fewlabels.evaluation.metrics import standard_errors_ahead
from fewlabels.progress import say
from fewlabels.runs.run_folder import RunFolder
from fewlabels.workflows.adapting import Seen, adapt
from fewlabels.workflows.candidates import Candidate, best, comparison_row
from fewlabels.workflows.judging import ENOUGH_PER_CLASS, Judging, judge_by
from fewlabels.workflows.methods import (
    SCRATCH,
    Method,
    Pretraining,
    semisupervised,
    train,
    transfer,
)
from fewlabels.workflows.model import BaselineModel, Model
from fewlabels.workflows.outcome import Outcome
from fewlabels.workflows.pace import TIMED_STEPS, of_steps, seconds_a_step, throwaway
from fewlabels.workflows.phases import Context, LabelledImages, Trained, pretrain
from fewlabels.workflows.plan import Plan
from fewlabels.workflows.prepare import Prepared
from fewlabels.workflows.views import make_views

DEFAULT_BUDGET = 300.0
"""Seconds for everything where nothing else is asked for."""

# Shares of the budget: pretraining, each candidate's trial over all turns, and what must be left at
# the end for the model, the report and whatever the estimates missed.
_PRETRAINING_SHARE = 0.35
_PRETRAINING_SHARE_OF_TRANSFER = 0.1  # where nothing but the transfer candidates needs it
_TRIAL_SHARE = {"scratch": 0.03, "transfer": 0.03, "semisupervised": 0.12}
_RESERVE_SHARE, _RESERVE_SECONDS = 0.03, 9.0

_FEWEST_STEPS = 30
"""Optimiser steps below which a network has learnt nothing worth judging."""

_LEAST_SCRATCH_STEPS = 150
"""Steps of the network from scratch that must fit in the budget, or no network is tried."""


def choose_automatically(
    folder: RunFolder, context: Context, prepared: Prepared, pool: Selection
) -> Outcome:
    """Choose among baselines, scratch, transfer and semi-supervised training, inside the budget.

    Args:
        folder: of the run; the plan is kept there.
        context: settings and machine.
        prepared: images with roles.
        pool: images that may be learnt from without labels.
    """
    budget = context.settings.auto.time_budget
    seconds = DEFAULT_BUDGET if budget == "auto" else float(budget)
    plan = Plan(folder.checkpoint("plan").with_suffix(".json"), seconds)
    judging = judge_by(prepared.training, prepared.validation, context.seed)
    choice = _Choice(context, prepared, pool, plan, judging)
    choice.look()
    choice.try_baselines()
    if not choice.time_for_networks():
        return choice.ship_baseline()
    methods = choice.methods()
    if not judging.turns:
        return choice.ship_untried(methods[0])
    for method in methods:
        choice.try_method(method)
    winner = choice.winner()
    return choice.ship_baseline() if winner is None else choice.ship(winner)


class _Choice:
    """The steps of one automatic run; each one's outcome is in the plan once it is done."""

    def __init__(
        self, context: Context, prepared: Prepared, pool: Selection, plan: Plan, judging: Judging
    ) -> None:
        self.context = context
        self.prepared = prepared
        self.pool = pool
        self.plan = plan
        self.judging = judging
        self.pretraining = Pretraining(context, pool)
        self.baselines: list[BaselineResult] = []
        self.candidates: list[Candidate] = []
        self.phases: dict[str, Any] = {}
        self.few = False  # so few labels a class that a graph of all images says more than they do
        self.step_seconds: dict[str, float] = {}  # of methods that have been tried
        self.reserve = _RESERVE_SHARE * plan.budget + _RESERVE_SECONDS

    @property
    def num_classes(self) -> int:
        return self.prepared.data.num_classes

    def look(self) -> None:
        """What can be said before anything is trained."""
        labels, how = self.judging.labelled.labels, self.judging.how
        sizes = np.bincount(labels)
        sizes = sizes[sizes > 0]
        count = len(self.judging.judged)
        reason = {
            "validation": f"judged on {count} validation images, as every class has at least "
            f"{ENOUGH_PER_CLASS} labels",
            "cross-validation": f"judged by cross-validation in {len(self.judging.turns)} turns "
            f"over all {count} labels, as the rarest class has only {sizes.min()}",
            "nothing": "judged by nothing: with one label in a class none can be held out, so "
            "the method is the one that usually does best, and no number says how good it is",
        }[how]
        self.plan.tell(f"Candidates are {reason}.")
        unlabelled = len(self.pool) - len(labels)
        if unlabelled <= 0:
            self.plan.tell("There are no unlabelled images, so the labels have to do alone.")
        seen = Seen(self.prepared.data.image_shape, sizes, unlabelled)
        self.few = seen.few
        settings = adapt(self.context.settings, seen, self.plan.tell)
        self.context = replace(self.context, settings=settings)

    def try_baselines(self) -> None:
        """Cheap classifiers on pixels, in the same turns as everything else."""
        if not self.judging.turns:
            return
        say("Baselines on raw pixels and on principal components …")
        saved = self.plan.remember("baselines", self._run_baselines)
        self.baselines = [BaselineResult(**row) for row in saved]

    def _run_baselines(self) -> list[dict[str, Any]]:
        turns = [
            run_baselines(
                learnt.images,
                learnt.labels,
                self.pool,
                judged.images,
                judged.labels,
                seed=self.context.seed,
            )
            for learnt, judged in self.judging.parts()
        ]
        return [vars(together(results)) for results in zip(*turns, strict=True)]

    def time_for_networks(self) -> bool:
        """Whether the cheapest network fits in what is left, with a little to spare for others."""
        needed = self.plan.remember(
            "least seconds", lambda: self._seconds_a_step(SCRATCH) * _LEAST_SCRATCH_STEPS
        )
        left = self.plan.remember("left for networks", lambda: self.plan.left - self.reserve)
        if left >= needed or not self.baselines:
            return True
        self.plan.tell(
            f"The time budget of {self.plan.budget:.0f} s is too short to train a network "
            f"(that takes {needed + self.reserve:.0f} s at least), so the best baseline is taken."
        )
        return False

    def methods(self) -> list[Method]:
        """What is tried; one is enough where nothing can be judged."""
        settings = self.context.settings
        unlabelled = len(self.pool) > len(self.judging.labelled.labels)
        joint = [semisupervised(settings)] if unlabelled and settings.semisupervised else []
        if not self.judging.turns:
            return joint or [SCRATCH]
        strategies = settings.transfer.strategies if unlabelled else ()
        return [SCRATCH, *map(transfer, strategies), *joint]

    def try_method(self, method: Method) -> None:
        """Train a method for a part of the time in every turn, and judge it."""
        context = self._shortened(method, f"trial of {method.name}", self._trial_seconds(method))
        if context is None:
            self.plan.tell(f"There is no time for {method.name.replace('_', ' ')}.")
            return
        say(f"{method.title} …")
        trained: list[Trained] = []

        def predict(turn: int, learnt: LabelledImages, judged: LabelledImages) -> npt.NDArray[Any]:
            phase = method.name if len(self.judging.turns) == 1 else f"{method.name}_{turn + 1}"
            trained.append(self._train(context, method, phase, learnt, judged))
            self.phases[phase] = trained[-1].phase
            model = self._model(trained[-1])
            views = make_views(context.settings, model)
            return model.predict(judged.images, context.compute, views)

        names = self.prepared.data.class_names
        probabilities, evaluation = self.judging.evaluate(predict, names)
        seconds = sum(one.phase.seconds for one in trained)
        if trained[-1].phase.epochs > 1:
            self.step_seconds[method.name] = seconds_a_step(trained[-1].phase)
        self.candidates.append(Candidate(method, trained[-1], probabilities, evaluation, seconds))
        if method is SCRATCH:
            self._decide_on_flips(trained[-1])

    def _decide_on_flips(self, trained: Trained) -> None:
        """Mirrored images are as good as others where a network takes them for the same."""
        settings = self.context.settings
        if settings.augment.flip != "auto":
            return

        def measure() -> dict[str, float]:
            _, judged = self.judging.parts()[-1]  # what this network has not learnt from
            mirrored = np.ascontiguousarray(judged.images[..., ::-1])
            right, right_mirrored = (
                self._model(trained).predict(images, self.context.compute).argmax(axis=1)
                == judged.labels
                for images in (judged.images, mirrored)
            )
            difference = right_mirrored.astype(float) - right
            error = float(difference.std() / math.sqrt(len(difference)))
            return {"difference": float(difference.mean()), "error": error, "n": len(difference)}

        found = self.plan.remember("flips", measure)
        keep = found["difference"] >= -max(found["error"], 1 / found["n"])
        self._set(augment=replace(settings.augment, flip=keep))
        change = f"{100 * found['difference']:+.1f} points on {found['n']} images"
        self.plan.tell(
            f"Images are {'also' if keep else 'not'} shown mirrored: mirroring changed the "
            f"accuracy of the network from scratch by {change}."
        )

    def winner(self) -> Candidate | None:
        """The network to train on all labels; None where a baseline is better.

        What uses all images comes first: a trial is only a part of its training, and it gains most
        by more. Another one is taken where it is better by more than the noise.
        """
        if not self.candidates:
            return None
        labels = self.judging.labels
        chosen = best(self.candidates)
        for joint in self.candidates:
            if joint.method.kind == "semisupervised":
                lead = standard_errors_ahead(chosen.correct(labels), joint.correct(labels))
                chosen = chosen if lead > 1 else joint
        rival = self._best_baseline
        wrong = rival.n - rival.num_correct + int((~chosen.correct(labels)).sum())
        if rival.num_correct - chosen.evaluation.num_correct > math.sqrt(wrong):
            return None
        self.plan.tell(
            f"Chosen: {chosen.name.replace('_', ' ')}, right on {chosen.evaluation.accuracy:.1%} "
            f"of {chosen.evaluation.num_images} held-out images. {self._others(chosen)}"
        )
        return chosen

    @property
    def _best_baseline(self) -> BaselineResult:
        return max(self.baselines, key=lambda row: row.num_correct)

    def _others(self, chosen: Candidate) -> str:
        rival = self._best_baseline
        networks = [one for one in self.candidates if one is not chosen]
        rows = [(one.name, one.evaluation.accuracy) for one in networks]
        rows.append((rival.name, rival.accuracy))
        name, accuracy = max(rows, key=lambda row: row[1])
        words = f"The best of the others, {name.replace('_', ' ')}, was right on {accuracy:.1%}"
        if accuracy <= chosen.evaluation.accuracy:
            return f"{words}."
        if chosen.method.kind != "semisupervised":
            return f"{words}, which is no more than the noise of so few images."
        return (
            f"{words}, which is no more than the noise of so few images; and what learns from all "
            "images gains most by a longer training."
        )

    def ship_baseline(self) -> Outcome:
        """The best baseline, fitted to all labels."""
        rival = self._best_baseline
        if self.candidates:
            network = best(self.candidates)
            self.plan.tell(
                f"Chosen: the baseline {rival.name.replace('_', ' ')}, right on "
                f"{rival.accuracy:.1%} of {rival.n} held-out images; the best network, "
                f"{network.name.replace('_', ' ')}, only on {network.evaluation.accuracy:.1%}."
            )
        data, labelled = self.prepared.data, self.judging.labelled
        fitted = fit_baseline(
            rival.name, labelled.images, labelled.labels, self.pool, seed=self.context.seed
        )
        names = data.class_names
        probabilities, evaluation = self.judging.evaluate(
            lambda _, learnt, judged: fit_baseline(
                rival.name, learnt.images, learnt.labels, self.pool, seed=self.context.seed
            ).predict_probabilities(judged.images, len(names)),
            names,
        )
        encoder = None
        if self.candidates:
            network = best(self.candidates)
            encoder = (network.trained.classifier.encoder, network.name)
        return self._outcome(
            model=BaselineModel(fitted, data.image_shape, names),
            chosen=rival.name,
            probabilities=probabilities,
            evaluation=evaluation,
            encoder=encoder,
            pseudo_labels=self._pseudo_labels(),
        )

    def ship(self, winner: Candidate) -> Outcome:
        """The winner, trained on all labels for as long as there is time."""
        # From the beginning: a cluster that the trial's fewer labels got wrong would stay wrong.
        trained = self._final(winner.method)
        return self._outcome(
            model=self._model(trained),
            chosen=winner.name,
            probabilities=winner.probabilities,
            evaluation=winner.evaluation,
            encoder=(winner.trained.classifier.encoder, winner.name),
            pseudo_labels=self._pseudo_labels(),
        )

    def _pseudo_labels(self) -> list[dict[str, Any]] | None:
        """Those of the last semi-supervised trial, whether it won or not."""
        found = [one.trained.pseudo_labels for one in self.candidates if one.trained.pseudo_labels]
        return found[-1] if found else None

    def ship_untried(self, method: Method) -> Outcome:
        """A method that could not be judged."""
        trained = self._final(method)
        return self._outcome(
            model=self._model(trained),
            chosen=method.name,
            probabilities=np.zeros((0, self.num_classes)),
            evaluation=None,
            encoder=(trained.classifier.encoder, method.name),
            pseudo_labels=trained.pseudo_labels,
        )

    def _final(self, method: Method) -> Trained:
        if method.pretrained:
            self._pretrain()
        context = self._shortened(method, "final training", self.plan.left - self.reserve)
        until = self.reserve
        if context is None:  # A model must come out, and its schedule must end.
            context, until = self._of_steps(method, _FEWEST_STEPS), -math.inf
        say("Training on all labels …")
        trained = self._train(context, method, "final", self.judging.labelled, None, until)
        self.phases["final"] = trained.phase
        return trained

    def _train(
        self,
        context: Context,
        method: Method,
        phase: str,
        learnt: LabelledImages,
        judged: LabelledImages | None,
        until: float = 0.0,
    ) -> Trained:
        return train(
            context,
            method,
            phase,
            learnt,
            judged,
            self.num_classes,
            pool=self.pool,
            encoder_state=self.pretraining.encoder_state,
            out_of_time=lambda: self.plan.left < until,
        )

    def _pretrain(self) -> None:
        """Once, for its part of the time."""
        if self.pretraining.done is not None:
            return

        def decide() -> int:
            some = self.pool.narrow(np.arange(min(len(self.pool), TIMED_STEPS * batch_size)))
            phase = pretrain(throwaway(self.context), some).phase
            joint = self.context.settings.unlabelled.pretrained
            share = _PRETRAINING_SHARE if joint else _PRETRAINING_SHARE_OF_TRANSFER
            seconds = share * self.plan.budget
            return int(seconds / seconds_a_step(phase) * batch_size / len(self.pool))

        config = self.context.settings.pretraining
        batch_size = config.batch_size
        epochs = self.plan.remember("epochs of pretraining", decide)
        epochs = min(config.epochs, max(1, epochs))
        self._set(pretraining=replace(config, epochs=epochs))
        self.pretraining = Pretraining(self.context, self.pool)
        self.pretraining.encoder_state()

    def _trial_seconds(self, method: Method) -> float:
        """For one turn; pretraining is taken out of the time beforehand."""
        if method.pretrained:
            self._pretrain()
        return _TRIAL_SHARE[method.kind] * self.plan.budget / len(self.judging.turns)

    def _shortened(self, method: Method, decision: str, seconds: float) -> Context | None:
        """The context with as many epochs as fit in so many seconds.

        None where fewer steps fit than are worth it.
        """

        def decide() -> int:
            step = self.step_seconds.get(method.name) or self._seconds_a_step(method)
            return int(seconds / step)

        steps = self.plan.remember(f"steps of {decision}", decide)
        return None if steps < _FEWEST_STEPS else self._of_steps(method, steps)

    def _of_steps(self, method: Method, steps: int) -> Context:
        """The context with at most so many optimiser steps, and at least one epoch."""
        turns = self.judging.turns
        learnt = turns[0][0] if turns else self.judging.labelled.labels
        settings = of_steps(
            self.context.settings,
            method,
            steps,
            num_labelled=len(learnt),
            num_images=len(self.pool),
        )
        return replace(self.context, settings=settings)

    def _seconds_a_step(self, method: Method) -> float:
        """Measured over a few steps that are thrown away."""
        labelled = self.judging.labelled
        if method.kind != "semisupervised":
            count = 2 * self.context.settings.training.batch_size
            labelled = self.judging.part(np.arange(min(len(labelled.labels), count)))
        fresh = replace(method, pretrained=False)
        # Also where the time is over: what is to be done in no time must still be known.
        timed = self._train(
            throwaway(self.context), fresh, "timing", labelled, None, until=-math.inf
        )
        return seconds_a_step(timed.phase)

    def _model(self, trained: Trained) -> Model:
        data = self.prepared.data
        network = self.context.settings.network
        return Model(trained.classifier, network, data.image_shape, data.class_names)

    def _set(self, **parts: Any) -> None:
        """Other settings from here on."""
        self.context = replace(self.context, settings=replace(self.context.settings, **parts))

    def _outcome(self, **facts: Any) -> Outcome:
        if self.pretraining.done is not None:
            self.phases["pretrain"] = self.pretraining.done.phase
        return Outcome(
            settings=self.context.settings,
            chosen_epochs=None,
            comparison=[
                *map(comparison_row, self.baselines),
                *map(comparison_row, self.candidates),
            ],
            judged_by=self.judging.how,
            judged=self.judging.part(self.judging.judged),
            pretrained=self.pretraining.done,
            phases=self.phases,
            decisions=self.plan.said,
            **facts,
        )
