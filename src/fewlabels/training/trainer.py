"""The training loop. It knows protocols, not methods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewlabels.contracts import Objective, StepResult
from fewlabels.data.batches import BatchSource
from fewlabels.errors import NonFiniteLossError
from fewlabels.interrupts import raise_if_interrupted
from fewlabels.progress import Progress, progress_bar
from fewlabels.randomness import derive_seed
from fewlabels.training.checkpoint import (
    fitting,
    load_checkpoint,
    optimiser_tensors,
    restore_optimisers,
    save_checkpoint,
)
from fewlabels.training.clock import Clock
from fewlabels.training.device import Compute, keep_freed_memory
from fewlabels.training.early_stopping import EarlyStopping
from fewlabels.training.master_weights import MasterWeights
from fewlabels.training.optimisers import (
    build_optimisers,
    l1_penalty,
    limit_norms,
    set_learning_rate,
)
from fewlabels.training.settings import TrainingConfig, length
from fewlabels.training.watch import Watch

# On an accelerator, reading a number makes the program wait for all work under way, so losses are
# looked at once in so many steps. On a CPU nothing waits, and each one is.
_STEPS_BETWEEN_READS = 32

Validate = Callable[[], dict[str, float]]
History = list[dict[str, float | int | str]]


@dataclass
class PhaseResult:
    """What came of a training phase.

    Attributes:
        epochs: epochs trained.
        steps: optimiser steps done.
        best_epoch: epoch (from 0) of the best validation loss where early stopping was on, else the
            last; the weights are those of its end.
        seconds: time spent, over all resumes.
        history: one row per epoch.
        stopped: whether its time is over, so that it does not go on when it is resumed.
    """

    epochs: int = 0
    steps: int = 0
    best_epoch: int = -1
    seconds: float = 0.0
    history: History = field(default_factory=list)
    stopped: bool = False


class Trainer:
    """Trains one objective over one source of batches.

    Args:
        name: of the phase, for messages and history.
        config: settings of the phase.
        compute: device and precision.
        seed: everything random in the phase derives from it and the epoch.
        checkpoint: file to save to and to resume from; None for neither.
        on_history: called with the phase's rows whenever a checkpoint is written.
    """

    def __init__(
        self,
        name: str,
        config: TrainingConfig,
        compute: Compute,
        *,
        seed: int,
        checkpoint: Path | None = None,
        on_history: Callable[[History], None] | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.compute = compute
        self.seed = seed
        self.checkpoint = checkpoint
        self.on_history = on_history

    def run(
        self,
        objective: Objective,
        batches: BatchSource,
        *,
        validate: Validate | None = None,
        stop_after: int | None = None,
        clock: Clock | None = None,
    ) -> PhaseResult:
        """Train until the epochs are over or patience runs out; the objective is left in eval mode.

        Args:
            objective: trained in place.
            batches: its training data.
            validate: called after each epoch; returns at least "val_loss".
            stop_after: end after this many epochs with the schedule of the full length, to repeat a
                phase at the length that validation chose.
            clock: how long it may go on, with at most as many epochs as the settings say; None for
                just these.

        Raises:
            NonFiniteLossError: the loss was infinite or not a number. On a CPU the weights are
                those from before the step; on an accelerator it is noticed up to 32 steps later.
        """
        keep_freed_memory()
        objective.to(self.compute.device)
        weights = MasterWeights(objective, self.compute.precision == "bf16")
        groups = weights.groups(objective.parameter_groups())
        optimisers = build_optimisers(self.config.optimiser, groups)
        watch = Watch(objective, self.config.watch)
        stopping = EarlyStopping(self.config.patience if validate else 0)
        result, best = PhaseResult(), dict[str, Tensor]()
        if self.checkpoint is not None and self.checkpoint.exists():
            result, best = self._restore(objective, optimisers, stopping)
        last_saved, first_epoch = time.perf_counter(), result.epochs
        lengths = _Lengths(length(self.config, batches.num_batches), stop_after, clock)
        remaining = lengths.of(result).end - result.epochs
        # Dropout draws from torch's global generator: leave the caller's as it was.
        with (
            torch.random.fork_rng(devices=_cuda_devices(self.compute)),
            progress_bar(self.name.replace("_", " "), remaining * batches.num_batches) as progress,
        ):
            while not (result.stopped or stopping.should_stop):
                full_length, end = lengths.of(result)
                if result.epochs >= end:
                    break
                progress.expect((end - first_epoch) * batches.num_batches)
                started = time.perf_counter()
                _seed_dropout(self.compute, derive_seed(self.seed, "dropout", result.epochs))
                objective.train()
                objective.before_epoch(result.epochs, full_length)
                with weights.lowered():
                    row = self._train_epoch(
                        objective,
                        optimisers,
                        weights,
                        batches,
                        result,
                        progress,
                        watch,
                        full_length,
                        clock,
                    )
                if validate is not None:
                    objective.eval()
                    row |= validate()
                if stopping.patience and stopping.update(float(row["val_loss"]), result.epochs):
                    best = {k: v.detach().clone() for k, v in objective.state_dict().items()}
                row["seconds"] = time.perf_counter() - started
                result.seconds += float(row["seconds"])
                result.history.append(row)
                result.epochs += 1
                if time.perf_counter() - last_saved >= self.config.checkpoint_seconds:
                    self._save(objective, optimisers, stopping, result, best)
                    last_saved = time.perf_counter()
        if best:
            objective.load_state_dict(best)
        result.best_epoch = stopping.best_epoch if best else result.epochs - 1
        result.stopped = clock is not None
        objective.eval()
        self._save(objective, optimisers, stopping, result, best)
        return result

    def _train_epoch(
        self,
        objective: Objective,
        optimisers: Mapping[str, torch.optim.Optimizer],
        weights: MasterWeights,
        batches: BatchSource,
        result: PhaseResult,
        progress: Progress,
        watch: Watch,
        full_length: int,
        clock: Clock | None,
    ) -> dict[str, float | int | str]:
        epoch, started, seen = result.epochs, time.perf_counter(), 0
        losses = [float(row.get("val_loss", row["train_loss"])) for row in result.history]
        sums: dict[str, Tensor] = {}
        learning_rate = 0.0
        for position, batch in enumerate(batches.epoch(epoch)):
            # Halfway through the step, so that a warm-up from zero does not waste the first one.
            now = epoch + (position + 0.5) / batches.num_batches
            factor = self.config.schedule.factor(now, full_length, losses)
            learning_rate = self.config.optimiser.learning_rate * factor
            with self.compute.autocast(), watch.looking(position):
                step = objective.loss(batch, result.steps)
            loss = self._penalised(objective, step)
            if self._reads(position, batches.num_batches):
                value = self._finite(loss, batch.images, epoch, result.steps, learning_rate)
                speed = (position + 1) * batches.batch_size / (time.perf_counter() - started)
                progress.note(loss=f"{value:.4f}", speed=f"{speed:,.0f} images/s")
            loss.backward()  # type: ignore[no-untyped-call]
            watch.gradients(position)
            self._update(optimisers, weights, learning_rate)
            with weights.raised():
                objective.after_step(result.steps)
            result.steps += 1
            for name, logged in {"train_loss": step.loss.detach(), **step.logs}.items():
                sums[name] = sums.get(name, 0) + logged * batch.size
            seen += batch.size
            progress.advance()
            raise_if_interrupted()
            if clock is not None and clock.over:
                result.stopped = True
                break
        averages = {name: float(total) / seen for name, total in sums.items()}
        speed = seen / (time.perf_counter() - started)
        return {
            "phase": self.name,
            "epoch": epoch,
            "step": result.steps,
            "learning_rate": learning_rate,
            **averages,
            **watch.row(),
            "images_per_second": speed,
        }

    def _reads(self, position: int, num_batches: int) -> bool:
        """Whether the loss of this step is looked at."""
        if self.compute.device.type == "cpu" or position == num_batches - 1:
            return True
        return position % _STEPS_BETWEEN_READS == 0

    def _penalised(self, objective: Objective, step: StepResult) -> Tensor:
        if self.config.l1 > 0:
            return step.loss + self.config.l1 * l1_penalty(objective.parameters())
        return step.loss

    def _update(
        self,
        optimisers: Mapping[str, torch.optim.Optimizer],
        weights: MasterWeights,
        learning_rate: float,
    ) -> None:
        weights.take_gradients()
        if self.config.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(weights.parameters(), self.config.gradient_clip)
        for optimiser in optimisers.values():
            set_learning_rate(optimiser, learning_rate)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if self.config.max_norm > 0:
            limit_norms(weights.parameters(), self.config.max_norm)

    def _finite(
        self, loss: Tensor, images: Tensor, epoch: int, step: int, learning_rate: float
    ) -> float:
        value = loss.item()
        if math.isfinite(value):
            return value
        if not torch.isfinite(images).all():
            cause = "the images hold values that are not finite; clean the data"
        else:
            cause = (
                f"most likely the learning rate {learning_rate:.3g} is too high; try a tenth of "
                "it, or gradient_clip = 1"
            )
        raise NonFiniteLossError(
            f"The loss of phase {self.name!r} became {value} at step {step} (epoch {epoch + 1}); "
            f"training stopped. Likely cause: {cause}."
        )

    def _save(
        self,
        objective: Objective,
        optimisers: Mapping[str, torch.optim.Optimizer],
        stopping: EarlyStopping,
        result: PhaseResult,
        best: Mapping[str, Tensor],
    ) -> None:
        if self.on_history is not None:
            self.on_history(result.history)
        if self.checkpoint is None:
            return
        tensors = {f"objective/{name}": value for name, value in objective.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in best.items()}
        tensors |= optimiser_tensors(optimisers)
        facts = {"result": vars(result), "stopping": vars(stopping)}
        save_checkpoint(self.checkpoint, tensors, _without_infinity(facts))

    def _restore(
        self,
        objective: Objective,
        optimisers: Mapping[str, torch.optim.Optimizer],
        stopping: EarlyStopping,
    ) -> tuple[PhaseResult, dict[str, Tensor]]:
        assert self.checkpoint is not None
        tensors, facts = load_checkpoint(self.checkpoint)
        with fitting(self.checkpoint):
            objective.load_state_dict(_part(tensors, "objective"))
            restore_optimisers(optimisers, tensors)
            saved = facts["stopping"]
            stopping.best = math.inf if saved["best"] is None else saved["best"]
            stopping.best_epoch, stopping.waited = saved["best_epoch"], saved["waited"]
            result = PhaseResult(**facts["result"])
        return result, _part(tensors, "best")


class _Length(NamedTuple):
    """Epochs of the schedule, and after how many of them the training ends."""

    full: int
    end: int


@dataclass(frozen=True)
class _Lengths:
    """How long a training is: as its settings say, or shorter by the clock or by wish."""

    longest: int
    stop_after: int | None
    clock: Clock | None

    def of(self, result: PhaseResult) -> _Length:
        full = self.longest
        if self.clock is not None:
            full = min(full, self.clock.num_epochs(result.history))
        return _Length(full, min(full, self.stop_after or full))


def _part(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    prefix = f"{kind}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _without_infinity(facts: dict[str, Any]) -> dict[str, Any]:
    stopping = dict(facts["stopping"])
    stopping["best"] = None if math.isinf(stopping["best"]) else stopping["best"]
    return {**facts, "stopping": stopping}


def _seed_dropout(compute: Compute, seed: int) -> None:
    """Seed the generator that dropout draws from, on the device alone.

    `torch.manual_seed` remembers a call for every other kind of device, once for each epoch.
    """
    torch.default_generator.manual_seed(seed)
    if compute.device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif compute.device.type == "mps":
        torch.mps.manual_seed(seed)


def _cuda_devices(compute: Compute) -> list[torch.device]:
    return [compute.device] if compute.device.type == "cuda" else []
