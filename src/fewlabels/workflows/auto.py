"""The recipe that chooses for itself: looks at the images, tries, and stops in time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fewlabels.data.selection import Selection
from fewlabels.evaluation.baselines import BaselineResult, fit_baseline, run_baselines, together
from fewlabels.evaluation.metrics import Evaluation, standard_errors_ahead
from fewlabels.progress import say
from fewlabels.runs.run_folder import RunFolder
from fewlabels.training.clock import Clock, Countdown
from fewlabels.workflows.adapting import Seen, adapt, keep_mirrored
from fewlabels.workflows.candidates import Candidate, added_up, best, comparison_row
from fewlabels.workflows.judging import ENOUGH_PER_CLASS, Judging, judge_by
from fewlabels.workflows.methods import (
    Method,
    Pretraining,
    labels_alone,
    pretrains,
    semisupervised,
    train,
    transfer,
)
from fewlabels.workflows.model import BaselineModel, Model
from fewlabels.workflows.outcome import Outcome
from fewlabels.workflows.pace import (
    FEWEST_STEPS,
    drawn_images,
    images_within,
    in_epochs,
    seconds_a_step,
    throwaway,
)
from fewlabels.workflows.phases import (
    MAX_PSEUDO_LABELS,
    Context,
    LabelledImages,
    Trained,
    check_objective,
)
from fewlabels.workflows.plan import Plan
from fewlabels.workflows.prepare import Prepared
from fewlabels.workflows.pretraining import check_pretext
from fewlabels.workflows.views import make_views

DEFAULT_BUDGET = 300.0
"""Seconds for everything where nothing else is asked for."""

# Shares of the budget: pretraining, each candidate's trial over all turns, and what must be left at
# the end for the model, the report and whatever the estimates missed.
_PRETRAINING_SHARE = 0.35
_PRETRAINING_SHARE_OF_TRANSFER = 0.1  # where nothing but the transfer candidates needs it
_TRIAL_SHARE = {"scratch": 0.03, "transfer": 0.03, "semisupervised": 0.12}
_RESERVE_SHARE, _RESERVE_SECONDS = 0.03, 9.0
_RESERVE_SECONDS_AN_IMAGE = 3e-4  # of those whose pseudo-labels are looked at

_UNJUDGED_BASELINE = "nearest_neighbour"
"""What is shipped where no network fits in the time and nothing could be judged."""

_LEAST_SCRATCH_STEPS = 150
"""Steps of the network from scratch that must fit in the budget, or no network is tried."""


def choose_automatically(
    folder: RunFolder, context: Context, prepared: Prepared, pool: Selection, started: float
) -> Outcome:
    """Choose among baselines, scratch, transfer and semi-supervised training, inside the budget.

    Args:
        folder: of the run; the plan is kept there.
        context: settings and machine.
        prepared: images with roles.
        pool: images that may be learnt from without labels.
        started: on the clock of `time.perf_counter`, when the program began with the run.
    """
    budget = context.settings.auto.time_budget
    seconds = DEFAULT_BUDGET if budget == "auto" else float(budget)
    plan = Plan(folder.checkpoint("plan").with_suffix(".json"), seconds, started)
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
        self.step_seconds: dict[str, float] = {}  # of methods that have been tried
        looked_at = min(len(pool), MAX_PSEUDO_LABELS)
        self.reserve = _RESERVE_SHARE * plan.budget + _RESERVE_SECONDS
        self.reserve += _RESERVE_SECONDS_AN_IMAGE * looked_at

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
            "nothing": "judged by nothing: with one label in most classes none can be held out, "
            "so the method is the one that usually does best, and no number says how good it is",
        }[how]
        self.plan.tell(f"Candidates are {reason}.")
        unlabelled = len(self.pool) - len(labels)
        if unlabelled <= 0:
            self.plan.tell("There are no unlabelled images, so the labels have to do alone.")
        seen = Seen(self.prepared.data.image_shape, sizes, unlabelled)
        settings = adapt(self.context.settings, seen, self.plan.tell)
        self.context = replace(self.context, settings=settings)
        check_objective(self.context, self.judging.labelled, self.num_classes)
        if pretrains(settings):
            check_pretext(self.context, self.pool)

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
            "least seconds",
            lambda: (
                self._seconds_a_step(labels_alone(self.context.settings)) * _LEAST_SCRATCH_STEPS
            ),
        )
        left = self.plan.remember("left for networks", lambda: self.plan.left - self.reserve)
        if left >= needed:
            return True
        which = "best baseline" if self.baselines else "nearest labelled image"
        self.plan.tell(
            f"The time budget of {self.plan.budget:.0f} s is too short to train a network "
            f"(that takes {needed + self.reserve:.0f} s at least), so the {which} is taken."
        )
        return False

    def methods(self) -> list[Method]:
        """What is tried; one is enough where nothing can be judged."""
        settings = self.context.settings
        unlabelled = len(self.pool) > len(self.judging.labelled.labels)
        joint = [semisupervised(settings)] if unlabelled and settings.semisupervised else []
        alone = labels_alone(settings)
        if not self.judging.turns:
            return joint or [alone]
        strategies = settings.transfer.strategies if unlabelled else ()
        return [alone, *map(transfer, strategies), *joint]

    def try_method(self, method: Method) -> None:
        """Train a method for a part of the time in every turn, and judge it."""
        seconds = self._trial_seconds(method)
        steps = self._steps(method, f"trial of {method.name}", seconds)
        if steps < FEWEST_STEPS:
            self.plan.tell(f"There is no time for {method.name.replace('_', ' ')}.")
            return
        context, planned = self._in_epochs(method, steps, len(self.judging.turns[0][0]))
        say(f"{method.title} …")
        trained: list[Trained] = []

        def predict(turn: int, learnt: LabelledImages, judged: LabelledImages) -> npt.NDArray[Any]:
            phase = method.name if len(self.judging.turns) == 1 else f"{method.name}_{turn + 1}"
            # What comes before the first step, such as a graph of all images, is not counted.
            countdown = Countdown(seconds)
            clock = Clock(lambda: min(countdown(), self.plan.left), planned)
            trained.append(self._train(context, method, phase, learnt, judged, clock))
            self.phases[phase] = trained[-1].phase
            model = self._model(trained[-1])
            views = make_views(context.settings, model)
            return model.predict(judged.images, context.compute, views)

        names = self.prepared.data.class_names
        probabilities, evaluation = self.judging.evaluate(predict, names)
        seconds = sum(one.phase.seconds for one in trained)
        if trained[-1].phase.epochs > 1:
            self.step_seconds[method.name] = seconds_a_step(trained[-1].phase)
        last = replace(trained[-1], pseudo_labels=added_up([one.pseudo_labels for one in trained]))
        self.candidates.append(Candidate(method, last, probabilities, evaluation, seconds))
        if method.kind == "scratch":
            self._decide_on_flips(trained)

    def _decide_on_flips(self, trained: list[Trained]) -> None:
        """Mirrored images are as good as others where a network takes them for the same.

        Args:
            trained: the network of each turn, asked about what it has not learnt from.
        """
        settings = self.context.settings
        if settings.augment.flip != "auto" or settings.augment_policy == "none":
            return

        def measure() -> dict[str, Any]:
            right: list[npt.NDArray[np.bool_]] = []
            right_mirrored: list[npt.NDArray[np.bool_]] = []
            for one, (_, judged) in zip(trained, self.judging.parts(), strict=True):
                mirrored = np.ascontiguousarray(judged.images[..., ::-1])
                for found, images in ((right, judged.images), (right_mirrored, mirrored)):
                    shown = self._model(one).predict(images, self.context.compute)
                    found.append(shown.argmax(axis=1) == judged.labels)
            plain, turned = np.concatenate(right), np.concatenate(right_mirrored)
            colour = self.prepared.data.image_shape[0] > 1
            return {
                "keep": keep_mirrored(plain, turned, colour=colour),
                "difference": float(turned.mean() - plain.mean()),
                "n": len(plain),
            }

        found = self.plan.remember("flips", measure)
        keep = bool(found["keep"])
        self._set(augment=replace(settings.augment, flip=keep))
        change = f"{100 * found['difference']:+.1f} points on {found['n']} images"
        self.plan.tell(
            f"Images are {'also' if keep else 'not'} shown mirrored: mirroring changed the "
            f"accuracy of the network trained on labels alone by {change}."
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
        """The best baseline, fitted to all labels; the nearest image where none was judged."""
        name = self._best_baseline.name if self.baselines else _UNJUDGED_BASELINE
        if self.candidates:
            rival, network = self._best_baseline, best(self.candidates)
            self.plan.tell(
                f"Chosen: the baseline {rival.name.replace('_', ' ')}, right on "
                f"{rival.accuracy:.1%} of {rival.n} held-out images; the best network, "
                f"{network.name.replace('_', ' ')}, only on {network.evaluation.accuracy:.1%}."
            )
        data, labelled = self.prepared.data, self.judging.labelled
        fitted = fit_baseline(
            name, labelled.images, labelled.labels, self.pool, seed=self.context.seed
        )
        names = data.class_names
        probabilities, evaluation = self._judged_baseline(name)
        encoder = None
        if self.candidates:
            network = best(self.candidates)
            encoder = (network.trained.classifier.encoder, network.name)
        return self._outcome(
            model=BaselineModel(fitted, data.image_shape, names),
            chosen=name,
            probabilities=probabilities,
            evaluation=evaluation,
            encoder=encoder,
            pseudo_labels=self._pseudo_labels(),
        )

    def _judged_baseline(self, name: str) -> tuple[npt.NDArray[Any], Evaluation | None]:
        """Its probabilities of all judged images; nothing where none are judged."""
        names = self.prepared.data.class_names
        if not self.judging.turns:
            return np.zeros((0, len(names))), None
        return self.judging.evaluate(
            lambda _, learnt, judged: fit_baseline(
                name, learnt.images, learnt.labels, self.pool, seed=self.context.seed
            ).predict_probabilities(judged.images, len(names)),
            names,
        )

    def ship(self, winner: Candidate) -> Outcome:
        """The winner, trained on all labels for as long as there is time."""
        # From the beginning: a cluster that the trial's fewer labels got wrong would stay wrong.
        trained = self._final(winner.method, least=winner.trained.phase.steps)
        if trained is None:
            self.plan.tell(
                "There is no time to train again on all labels for as long as in its trial, so "
                "the network of the trial is taken."
            )
            trained = winner.trained
        return self._outcome(
            model=self._model(trained),
            chosen=winner.name,
            probabilities=winner.probabilities,
            evaluation=winner.evaluation,
            encoder=(winner.trained.classifier.encoder, winner.name),
            pseudo_labels=self._pseudo_labels(),
        )

    def _pseudo_labels(self) -> list[dict[str, Any]] | None:
        """Those of the semi-supervised trial, whether it won or not."""
        found = [one.trained.pseudo_labels for one in self.candidates if one.trained.pseudo_labels]
        return found[-1] if found else None

    def ship_untried(self, method: Method) -> Outcome:
        """A method that could not be judged; without time for it, the nearest labelled image."""
        trained = self._final(method, least=FEWEST_STEPS)
        if trained is None:
            self.plan.tell(
                f"There is no time for {method.name.replace('_', ' ')}, so the nearest labelled "
                "image is taken."
            )
            return self.ship_baseline()
        return self._outcome(
            model=self._model(trained),
            chosen=method.name,
            probabilities=np.zeros((0, self.num_classes)),
            evaluation=None,
            encoder=(trained.classifier.encoder, method.name),
            pseudo_labels=trained.pseudo_labels,
        )

    def _final(self, method: Method, least: int) -> Trained | None:
        """On all labels, for as long as there is time; None where that is below `least` steps."""
        if method.pretrained:
            self._pretrain()
        labelled = self.judging.labelled
        steps = self._steps(method, "final training", self.plan.left - self.reserve)
        if steps < least:
            return None
        context, planned = self._in_epochs(method, steps, len(labelled.labels))
        say("Training on all labels …")
        clock = Clock(lambda: self.plan.left - self.reserve, planned)
        trained = self._train(context, method, "final", labelled, None, clock)
        self.phases["final"] = trained.phase
        return trained

    def _train(
        self,
        context: Context,
        method: Method,
        phase: str,
        learnt: LabelledImages,
        judged: LabelledImages | None,
        clock: Clock | None,
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
            clock=clock,
        )

    def _pretrain(self) -> None:
        """Once, for its part of the time; on a draw of the images where not all fit in it."""
        given = self.context.settings.transfer.encoder != "none"
        if given or self.pretraining.done is not None:
            return

        def decide() -> int:
            joint = self.context.settings.unlabelled.pretrained
            share = _PRETRAINING_SHARE if joint else _PRETRAINING_SHARE_OF_TRANSFER
            seconds = share * (self.plan.budget - self.reserve)
            return images_within(self.context, self.pool, seconds)

        config = self.context.settings.pretraining
        seen = self.plan.remember("images of pretraining", decide)
        drawn = drawn_images(len(self.pool), seen, config.batch_size, self.context.seed)
        if len(drawn) < len(self.pool):
            self.plan.tell(
                f"There is time to pretrain on {len(drawn):,} of {len(self.pool):,} images, once."
            )
        self._set(
            pretraining=replace(config, epochs=min(config.epochs, max(1, seen // len(drawn))))
        )
        self.pretraining = Pretraining(self.context, self.pool.narrow(drawn))
        self.pretraining.encoder_state()
        done = self.pretraining.done
        assert done is not None
        self.pretraining.done = replace(done, held_out=drawn[done.held_out])

    def _trial_seconds(self, method: Method) -> float:
        """For one turn; pretraining is taken out of the time beforehand."""
        if method.pretrained:
            self._pretrain()
        return _TRIAL_SHARE[method.kind] * self.plan.budget / len(self.judging.turns)

    def _steps(self, method: Method, decision: str, seconds: float) -> int:
        """How many optimiser steps fit in so many seconds."""

        def decide() -> int:
            step = self.step_seconds.get(method.name) or self._seconds_a_step(method)
            return max(0, int(seconds / step))

        return int(self.plan.remember(f"steps of {decision}", decide))

    def _in_epochs(self, method: Method, steps: int, num_labelled: int) -> tuple[Context, int]:
        """A context for about so many optimiser steps, and how many epochs they are."""
        settings, planned = in_epochs(
            self.context.settings,
            method,
            steps,
            num_labelled=num_labelled,
            num_images=len(self.pool),
        )
        return replace(self.context, settings=settings), planned

    def _seconds_a_step(self, method: Method) -> float:
        """Measured over a few steps that are thrown away."""
        labelled = self.judging.labelled
        if method.kind != "semisupervised":
            count = 2 * self.context.settings.training.batch_size
            labelled = self.judging.part(np.arange(min(len(labelled.labels), count)))
        fresh = replace(method, pretrained=False)
        timed = self._train(throwaway(self.context), fresh, "timing", labelled, None, None)
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
