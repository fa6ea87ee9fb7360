"""The loop and its parts against torch, NumPy and hand calculation."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.augment.policies import POLICIES, augment
from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.contracts import Batch, Objective, ParameterGroup, StepResult
from fewlabels.data.batches import Batches
from fewlabels.data.builtin import digits
from fewlabels.errors import ConfigError, NonFiniteLossError, RunError
from fewlabels.networks import NETWORKS
from fewlabels.networks.classifier import Classifier
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.networks.summary import stage_names
from fewlabels.runs.run_folder import RunFolder
from fewlabels.training.checkpoint import load_checkpoint, save_checkpoint
from fewlabels.training.clock import Clock, Countdown
from fewlabels.training.device import Compute, choose
from fewlabels.training.early_stopping import EarlyStopping
from fewlabels.training.optimisers import (
    OPTIMISERS,
    AdamConfig,
    AdamWConfig,
    build_optimisers,
    l1_penalty,
    limit_norms,
    set_learning_rate,
)
from fewlabels.training.schedules import SCHEDULES, CosineConfig, ReduceOnPlateauConfig
from fewlabels.training.settings import TrainingConfig, build_training, length
from fewlabels.training.trainer import Trainer
from fewlabels.training.watch import Watch
from fewlabels.transfer.frozen import Frozen
from fewlabels.transfer.full import Full
from fewlabels.transfer.supervised import Supervised

CPU = Compute(torch.device("cpu"), "32")


# Schedules


def torch_factors(make, epochs: int = 40) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimiser)
    factors = []
    for _ in range(epochs):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return factors


@pytest.mark.parametrize(
    ("name", "settings", "make"),
    [
        ("constant", {}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (
            "step",
            {"every": 7, "gamma": 0.3},
            lambda o: torch.optim.lr_scheduler.StepLR(o, 7, gamma=0.3),
        ),
        (
            "multi_step",
            {"milestones": (5, 20), "gamma": 0.2},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [5, 20], gamma=0.2),
        ),
        (
            "exponential",
            {"gamma": 0.9},
            lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.9),
        ),
        (
            "fractional",
            {"k": 0.3},
            lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda e: 1 / (1 + 0.3 * e)),
        ),
        (
            "cosine",
            {"warmup": 0.0, "final": 0.1},
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.1),
        ),
    ],
)
def test_schedules_equal_torchs(name: str, settings: dict, make) -> None:
    schedule = SCHEDULES[name](**settings)
    ours = [schedule.factor(epoch, 40, []) for epoch in range(40)]
    np.testing.assert_allclose(ours, torch_factors(make), rtol=1e-6)


def test_warm_up_rises_in_a_line() -> None:
    schedule = CosineConfig(warmup=0.25)
    assert [schedule.factor(e, 8, []) for e in (0, 0.5, 1, 2)] == pytest.approx([0, 0.25, 0.5, 1])
    assert schedule.factor(8, 8, []) == pytest.approx(0)


def test_plateau_equals_torchs() -> None:
    losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.6, 0.7, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)
    ours = ReduceOnPlateauConfig(gamma=0.5, patience=2)
    for epoch, loss in enumerate(losses):
        theirs.step(loss)
        seen = losses[: epoch + 1]
        assert ours.factor(epoch + 1, 99, seen) == optimiser.param_groups[0]["lr"]


# Optimisers


def three_steps(name: str, **settings: float) -> np.ndarray:
    """Minimise sum(w**3) / 3 from (1, 2) by the table's optimiser."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    config = OPTIMISERS[name](learning_rate=0.1, **settings)
    groups = {"main": [ParameterGroup(name="all", parameters=[weight])]}
    optimiser = build_optimisers(config, groups)["main"]
    for _ in range(3):
        (weight**3 / 3).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    return weight.detach().numpy()


def by_hand(name: str, l2: float = 0.0, decay: float = 0.0) -> np.ndarray:
    w, v, s = np.array([1.0, 2.0]), np.zeros(2), np.zeros(2)
    for step in range(1, 4):
        g = w**2 + l2 * w
        if name == "sgd":
            w = w - 0.1 * g
        elif name == "momentum":
            v = 0.9 * v + g
            w = w - 0.1 * v
        elif name == "nesterov":
            v = 0.9 * v + g
            w = w - 0.1 * (g + 0.9 * v)
        elif name == "rmsprop":
            s = 0.99 * s + 0.01 * g**2
            w = w - 0.1 * g / (np.sqrt(s) + 1e-8)
        else:
            w = w - 0.1 * decay * w
            v = 0.9 * v + 0.1 * g
            s = 0.999 * s + 0.001 * g**2
            w = w - 0.1 * (v / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return w


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_by_hand(name: str) -> None:
    settings = {"weight_decay": 0.0} if name == "adamw" else {}
    np.testing.assert_allclose(three_steps(name, **settings), by_hand(name), rtol=1e-5, atol=1e-6)


def test_l2_in_the_loss_is_not_weight_decay_for_adam() -> None:
    in_loss, decoupled = three_steps("adam", l2=0.5), three_steps("adamw", weight_decay=0.5)
    np.testing.assert_allclose(in_loss, by_hand("adam", l2=0.5), rtol=1e-5)
    np.testing.assert_allclose(decoupled, by_hand("adamw", decay=0.5), rtol=1e-5)
    assert not np.allclose(in_loss, decoupled, atol=1e-2)


def test_groups_keep_their_scale() -> None:
    parts = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        ParameterGroup(name="a", parameters=parts[:1]),
        ParameterGroup(name="b", parameters=parts[1:], learning_rate_scale=0.01),
    ]
    optimiser = build_optimisers(AdamWConfig(), {"main": groups})["main"]
    set_learning_rate(optimiser, 0.5)
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.005]


def test_max_norm_and_l1_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, -0.4]]))
    bias = nn.Parameter(torch.tensor([9.0]))
    assert l1_penalty([weight, bias]).item() == pytest.approx(7.7)
    limit_norms([weight, bias], 1.0)
    torch.testing.assert_close(weight.data, torch.tensor([[0.6, 0.8], [0.3, -0.4]]))
    assert bias.item() == 9


# The loop


def small_objective(dropout: float = 0.2, seed: int = 0) -> Supervised:
    generator = torch.Generator().manual_seed(seed)
    network = MLPConfig(widths=(24, 16), norm="batch", dropout=dropout)
    encoder = network.build((1, 8, 8), generator)
    return Supervised(Classifier(encoder, 10, generator), ClassificationConfig(), Full())


def small_batches(augmented: bool = True) -> Batches:
    data = digits()
    return Batches(
        data.images[:120],
        data.labels[:120],
        batch_size=32,
        device=CPU.device,
        augmentation=partial(augment, policy=POLICIES["digits"]) if augmented else None,
        seed=5,
    )


def train(objective: Objective, checkpoint: Path | None = None, **settings) -> None:
    stop_at = settings.pop("interrupt_after", None)
    config = TrainingConfig(**{"epochs": 6, "checkpoint_seconds": 0.0, **settings})
    calls = 0

    def validate() -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return {"val_loss": 1.0 / calls}

    trainer = Trainer("phase", config, CPU, seed=7, checkpoint=checkpoint)
    trainer.run(objective, small_batches(), validate=validate)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_resume_is_exact_for_every_optimiser(name: str, tmp_path: Path) -> None:
    """With dropout, batch norm and augmentation on."""
    config = OPTIMISERS[name](learning_rate=0.01)
    undisturbed = small_objective()
    train(undisturbed, optimiser=config)
    file = tmp_path / "phase.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(small_objective(), file, optimiser=config, interrupt_after=4)
    resumed = small_objective(seed=99)  # its weights must not matter
    train(resumed, file, optimiser=config)
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_training_learns_and_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    objective = small_objective(dropout=0.0)
    config = TrainingConfig(epochs=60, optimiser=AdamWConfig(learning_rate=0.01))
    result = Trainer("phase", config, CPU, seed=0).run(objective, small_batches(augmented=False))
    assert torch.equal(state, torch.random.get_rng_state())
    assert result.history[-1]["train_accuracy"] > 0.95
    assert result.steps == 60 * 4
    assert result.history[0]["train_loss"] == pytest.approx(math.log(10), abs=0.8)


def test_early_stopping_restores_the_best_weights() -> None:
    objective = small_objective()
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    seen: list[dict[str, torch.Tensor]] = []

    def validate() -> dict[str, float]:
        seen.append({k: v.clone() for k, v in objective.state_dict().items()})
        return {"val_loss": next(scores)}

    config = TrainingConfig(epochs=50, patience=3)
    result = Trainer("phase", config, CPU, seed=0).run(
        objective, small_batches(), validate=validate
    )
    assert (result.epochs, result.best_epoch) == (5, 1)
    for key, value in objective.state_dict().items():
        assert torch.equal(value, seen[1][key])


def test_early_stopping_counts() -> None:
    stopping = EarlyStopping(2)
    assert [stopping.update(score, i) for i, score in enumerate([1.0, 0.5, 0.5, 0.6])] == [
        True,
        True,
        False,
        False,
    ]
    assert stopping.should_stop
    assert not EarlyStopping(0, waited=99).should_stop


class Exploding(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def loss(self, batch: Batch, step: int) -> StepResult:
        factor = math.inf if step == 2 else 1.0
        return StepResult((self.weight * factor).sum())


def test_infinite_loss_stops_before_the_update() -> None:
    objective = Exploding()
    config = TrainingConfig(epochs=3, optimiser=AdamConfig(learning_rate=0.1))
    before: list[float] = []
    original = objective.loss

    def spying(batch: Batch, step: int) -> StepResult:
        before.append(objective.weight.item())
        return original(batch, step)

    objective.loss = spying  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLossError, match=r"inf at step 2 .*learning rate"):
        Trainer("phase", config, CPU, seed=0).run(objective, small_batches())
    assert objective.weight.item() == before[2]


def test_gradient_clipping_equals_torchs() -> None:
    first, second = small_objective(0.0), small_objective(0.0)
    config = build_training(
        {"epochs": 1, "gradient_clip": 0.01, "optimiser": "sgd", "schedule": "constant"}, "training"
    )
    batches = small_batches(augmented=False)
    batches.batch_size = 120
    Trainer("phase", config, CPU, seed=0).run(first, batches)
    (batch,) = batches.epoch(0)
    second.train()
    second.loss(batch, 0).loss.backward()
    torch.nn.utils.clip_grad_norm_(second.parameters(), 0.01)
    torch.optim.SGD(second.parameters(), lr=config.optimiser.learning_rate).step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_max_steps_shortens_the_epochs() -> None:
    config = TrainingConfig(epochs=1000, max_steps=100)
    assert [length(config, batches) for batches in (1, 3, 100, 1000)] == [100, 34, 1, 1]
    assert length(TrainingConfig(epochs=5, max_steps=100), 2) == 5


class Watching(Supervised):
    """Notes the types of its weights where they are used."""

    def loss(self, batch: Batch, step: int) -> StepResult:
        self.in_loss = {name: p.dtype for name, p in self.named_parameters()}
        return super().loss(batch, step)

    def after_step(self, step: int) -> None:
        self.after = {p.dtype for p in self.parameters()}


BF16 = Compute(torch.device("cpu"), "bf16")


def watching_objective() -> Watching:
    plain = small_objective()
    return Watching(plain.classifier, plain.config, plain.strategy)


def test_bfloat16_weights_have_float32_masters() -> None:
    objective = watching_objective()
    result = Trainer("phase", TrainingConfig(epochs=2), BF16, seed=0).run(
        objective, small_batches()
    )
    for name, dtype in objective.in_loss.items():
        is_norm = re.search(r"layers\.\d\.1\.", name) is not None
        assert dtype == (torch.float32 if is_norm else torch.bfloat16), name
    assert objective.after == {torch.float32}
    assert all(p.dtype == torch.float32 for p in objective.parameters())
    assert math.isfinite(float(result.history[-1]["train_loss"]))


def test_masters_keep_updates_that_bfloat16_would_lose() -> None:
    """A thousand steps of 1e-4 from 1 add up, though 1 + 1e-4 is 1 in bfloat16."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)

    class Slope(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def loss(self, batch: Batch, step: int) -> StepResult:
            return StepResult(-self.layer.weight.float().sum())

    config = TrainingConfig(
        epochs=250,
        optimiser=OPTIMISERS["sgd"](learning_rate=1e-4),
        schedule=SCHEDULES["constant"](),
    )
    Trainer("phase", config, BF16, seed=0).run(Slope(), small_batches(augmented=False))
    assert layer.weight.item() == pytest.approx(1.1, abs=1e-3)


def test_bfloat16_resumes_exactly_and_leaves_frozen_weights_alone(tmp_path: Path) -> None:
    def run(objective: Objective, checkpoint: Path | None, stop_after: int | None = None) -> None:
        config = TrainingConfig(epochs=5, checkpoint_seconds=0.0, gradient_clip=1.0, max_norm=2.0)
        trainer = Trainer("phase", config, BF16, seed=3, checkpoint=checkpoint)
        trainer.run(objective, small_batches(), stop_after=stop_after)

    def frozen_objective(seed: int = 0) -> Supervised:
        plain = small_objective()
        plain.classifier.reset_head(torch.Generator().manual_seed(seed))
        return Supervised(plain.classifier, plain.config, Frozen())

    undisturbed, first, resumed = frozen_objective(), frozen_objective(), frozen_objective(seed=9)
    run(undisturbed, None)
    run(first, tmp_path / "a.safetensors", stop_after=2)
    run(resumed, tmp_path / "a.safetensors")
    untrained = frozen_objective()
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
        assert torch.equal(value, untrained.state_dict()[key]) == ("encoder" in key), key


def test_bfloat16_training_ends_where_float32_training_does() -> None:
    losses = []
    for compute in (CPU, BF16):
        config = TrainingConfig(epochs=40, optimiser=AdamWConfig(learning_rate=0.01))
        trainer = Trainer("phase", config, compute, seed=0)
        result = trainer.run(small_objective(dropout=0.0), small_batches())
        losses.append(float(result.history[-1]["train_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


# Checkpoints and devices


def test_checkpoint_holds_no_program(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"x": torch.arange(3.0)}, {"step": 4})
    tensors, facts = load_checkpoint(path)
    assert torch.equal(tensors["x"], torch.arange(3.0))
    assert facts == {"step": 4}
    path.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(RunError, match="cannot be read"):
        load_checkpoint(path)


def test_device_and_precision_are_resolved_once() -> None:
    compute = choose("cpu", "auto")
    assert compute.device.type == "cpu"
    assert compute.precision in ("32", "bf16")
    assert choose("cpu", "32").precision == "32"
    with pytest.raises(ConfigError, match="Did you mean 'cpu'"):
        choose("cpuu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="not available"):
            choose("cuda")


def test_training_ends_within_an_epoch_when_time_is_over(tmp_path: Path) -> None:
    """Four steps an epoch; time is over after the sixth."""
    encoder = MLPConfig(widths=(20,)).build((1, 8, 8), torch.Generator().manual_seed(0))
    objective = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    config = TrainingConfig(epochs=10, batch_size=32)
    checkpoint = tmp_path / "timed.safetensors"
    asked: list[float] = []

    def left() -> float:
        asked.append(5 - len(asked))
        return asked[-1]

    trainer = Trainer("timed", config, CPU, seed=0, checkpoint=checkpoint)
    result = trainer.run(objective, some_batches(128), clock=Clock(left, planned=10))
    assert (result.steps, result.epochs, result.stopped) == (6, 2, True)
    assert [row["step"] for row in result.history] == [4, 6]
    assert all(0 < row["train_loss"] < 10 for row in result.history)
    again = Trainer("timed", config, CPU, seed=0, checkpoint=checkpoint)
    assert again.run(objective, some_batches(128), clock=Clock(left, planned=10)).steps == 6


@pytest.mark.parametrize(
    ("planned", "longest", "expected"), [(3, 100, 12), (50, 100, 12), (3, 8, 8)]
)
def test_a_training_by_the_clock_comes_to_the_end_of_its_schedule(
    planned: int, longest: int, expected: int
) -> None:
    """An epoch takes a second of a clock of its own; twelve of them, whatever was planned."""
    encoder = MLPConfig(widths=(20,)).build((1, 8, 8), torch.Generator().manual_seed(0))
    objective = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    now = 0.0

    class Slow:
        num_batches = 2
        batch_size = 32

        def epoch(self, number: int):
            nonlocal now
            for batch in some_batches(64).epoch(number):
                now += 0.5
                yield batch

    config = TrainingConfig(epochs=longest, batch_size=32, schedule=CosineConfig(warmup=0.0))
    trainer = Trainer("timed", config, CPU, seed=0)
    clock = Clock(lambda: 12.5 - now, planned)
    with pytest.MonkeyPatch.context() as patch:
        # Seconds of epochs are those of the same clock.
        patch.setattr("fewlabels.training.trainer.time.perf_counter", lambda: now)
        result = trainer.run(objective, Slow(), clock=clock)
    assert result.epochs == expected
    rates = [float(row["learning_rate"]) for row in result.history]
    assert rates[-1] < 0.02 * config.optimiser.learning_rate  # the end of the cosine
    assert rates[0] > 0.5 * config.optimiser.learning_rate
    assert result.stopped


def test_the_clock_goes_by_what_epochs_took() -> None:
    clock = Clock(lambda: 10.0, planned=7)
    assert clock.num_epochs([]) == 7
    assert clock.num_epochs([{"seconds": 100.0}]) == 7  # the first one warms up
    assert clock.num_epochs([{"seconds": 100.0}, {"seconds": 2.0}]) == 2 + 5
    later = [{"seconds": s} for s in (9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0)]
    assert clock.num_epochs(later) == 9 + 10  # the last five count
    assert not clock.over
    assert Clock(lambda: 0.0, planned=7).over


def test_a_countdown_begins_when_it_is_asked() -> None:
    countdown = Countdown(1e6)
    first = countdown()
    assert first == pytest.approx(1e6)
    assert countdown() < first


# Watching


def some_batches(count: int) -> Batches:
    data = digits()
    return Batches(
        data.images[:count],
        data.labels[:count],
        batch_size=32,
        device=CPU.device,
        augmentation=None,
        seed=0,
    )


def watched(network, **rest):
    encoder = network.build((1, 8, 8), torch.Generator().manual_seed(0))
    objective = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    batches = some_batches(128)
    config = TrainingConfig(epochs=3, batch_size=32, watch=True, **rest)
    return objective, Trainer("watched", config, CPU, seed=0).run(objective, batches)


def test_watching_changes_nothing_and_sees_every_stage() -> None:
    network = MLPConfig(widths=(30, 20))
    row = watched(network)[1].history[-1]
    for stage in ("layers.0", "layers.1"):
        assert row[f"watch/{stage}/deviation"] > 0
        assert row[f"watch/{stage}/gradient"] > 0
        assert 0 <= row[f"watch/{stage}/dead"] <= 1
    plain = watched(network)[0]
    batches = some_batches(128)
    encoder = network.build((1, 8, 8), torch.Generator().manual_seed(0))
    other = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    rows = Trainer("watched", TrainingConfig(epochs=3, batch_size=32), CPU, seed=0).run(
        other, batches
    )
    assert not [key for key in rows.history[-1] if key.startswith("watch")]
    for mine, theirs in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"pretrained"}))
def test_every_network_is_watched_with_batches_of_any_size(name: str) -> None:
    encoder = NETWORKS[name]().build((1, 8, 8), torch.Generator().manual_seed(0))
    watch = Watch(encoder, enabled=True)
    for count in (16, 9):
        with watch.looking(0):
            encoder(torch.rand(count, 1, 8, 8)).sum().backward()
        watch.gradients(0)
    row = watch.row()
    for stage in stage_names(encoder):
        assert row[f"watch/{stage}/deviation"] > 0
        assert 0 <= row[f"watch/{stage}/dead"] <= 1


def test_units_of_sequences_are_those_of_their_last_axes() -> None:
    """Of maps (B, T, D, H, W) unit 1 is never above zero."""
    encoder = NETWORKS["conv_lstm"](widths=(4,)).build((1, 8, 8), torch.Generator().manual_seed(0))
    encoder.layers[0].register_forward_hook(
        lambda _, __, states: states * torch.tensor([1.0, 0.0, 1.0, 1.0]).view(-1, 1, 1)
    )
    watch = Watch(encoder, enabled=True)
    with watch.looking(0):
        encoder(torch.rand(6, 1, 8, 8))
    assert watch.row()["watch/layers.0/dead"] == 0.25


def test_dead_units_and_vanishing_gradients_are_seen() -> None:
    """Biases far below zero kill a layer; sigmoids let little of the gradient through."""
    network = MLPConfig(widths=(30, 20))
    encoder = network.build((1, 8, 8), torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoder.layers[0][0].bias[:12] = -1000.0
    objective = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    batches = some_batches(128)
    config = TrainingConfig(epochs=1, batch_size=32, watch=True)
    row = Trainer("dead", config, CPU, seed=0).run(objective, batches).history[-1]
    assert row["watch/layers.0/dead"] == pytest.approx(12 / 30, abs=0.1)
    deep = MLPConfig(widths=(30,) * 6, activation="sigmoid", initialisation=0.1)
    row = watched(deep)[1].history[0]
    assert row["watch/layers.0/gradient"] < 1e-3 * row["watch/layers.5/gradient"]


def test_gradient_lengths_by_hand() -> None:
    """One step of one batch: the gradient that autograd gives for the same weights."""
    network = MLPConfig(widths=(30, 20))
    batches = some_batches(32)
    encoder = network.build((1, 8, 8), torch.Generator().manual_seed(0))
    objective = Supervised(
        Classifier(encoder, 10, torch.Generator().manual_seed(1)), ClassificationConfig(), Full()
    )
    batch = next(iter(batches.epoch(0)))
    objective.loss(batch, 0).loss.backward()
    expected = {
        f"layers.{i}": math.sqrt(sum(float(p.grad.square().sum()) for p in layer.parameters()))
        for i, layer in enumerate(encoder.layers)
    }
    objective.zero_grad()
    config = TrainingConfig(epochs=1, batch_size=32, watch=True)
    row = Trainer("one", config, CPU, seed=0).run(objective, batches).history[-1]
    for stage, value in expected.items():
        assert row[f"watch/{stage}/gradient"] == pytest.approx(value, rel=1e-4)


def test_watched_stages_keep_their_order_in_the_history_file(tmp_path: Path) -> None:
    rows = watched(LeNetConfig())[1].history
    folder = RunFolder(tmp_path)
    folder.write_history(rows)
    columns = folder.history.read_text().splitlines()[0].split(",")
    stages = dict.fromkeys(name.split("/")[1] for name in columns if name.startswith("watch/"))
    assert list(stages) == ["first", "second", "third", "fourth"]
