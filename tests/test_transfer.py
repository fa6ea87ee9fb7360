"""What each transfer strategy does to the encoder."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.data.batches import Batches
from fewlabels.data.builtin import digits
from fewlabels.networks.classifier import Classifier
from fewlabels.networks.mlp import MLPConfig
from fewlabels.training.device import Compute
from fewlabels.training.settings import TrainingConfig
from fewlabels.training.trainer import Trainer
from fewlabels.transfer import STRATEGIES
from fewlabels.transfer.discriminative import Discriminative
from fewlabels.transfer.gradual import Gradual
from fewlabels.transfer.supervised import Supervised


def trained(name: str, epochs: int) -> tuple[dict, dict, list[set[str]]]:
    """Encoder state before and after, and which stages changed in each epoch."""
    generator = torch.Generator().manual_seed(0)
    encoder = MLPConfig(widths=(16, 16, 16), norm="batch").build((1, 8, 8), generator)
    classifier = Classifier(encoder, 10, generator)
    objective = Supervised(classifier, ClassificationConfig(), STRATEGIES[name]())
    data = digits()
    batches = Batches(
        data.images[:64],
        data.labels[:64],
        batch_size=32,
        device=torch.device("cpu"),
        augmentation=None,
        seed=0,
    )
    states = [{k: v.clone() for k, v in encoder.state_dict().items()}]

    def validate() -> dict[str, float]:
        states.append({k: v.clone() for k, v in encoder.state_dict().items()})
        return {"val_loss": 0.0}

    compute = Compute(torch.device("cpu"), "32")
    Trainer("phase", TrainingConfig(epochs=epochs), compute, seed=0).run(
        objective, batches, validate=validate
    )
    changed = [
        {k.split(".")[1] for k in old if not torch.equal(old[k], new[k])}
        for old, new in pairwise(states)
    ]
    return states[0], states[-1], changed


def test_frozen_changes_neither_weights_nor_statistics() -> None:
    before, after, _ = trained("frozen", 3)
    for key, value in before.items():
        assert torch.equal(value, after[key]), key


def test_full_changes_every_stage() -> None:
    _, _, changed = trained("full", 2)
    assert changed[-1] == {"0", "1", "2"}


def test_gradual_thaws_from_the_head_down() -> None:
    _, _, changed = trained("gradual", 8)
    assert changed[0] == set()
    assert changed[2] == {"2"}
    assert changed[3] == {"1", "2"}
    assert changed[4] == changed[7] == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("num_stages", "scales"),
    [
        (1, [1.0]),
        (2, [0.1, 1.0]),
        (3, [0.01, 0.1, 1.0]),
        (4, [0.01, 0.1, 1.0, 1.0]),
        (6, [0.01, 0.01, 0.1, 0.1, 1.0, 1.0]),
    ],
)
def test_discriminative_rates(num_stages: int, scales: list[float]) -> None:
    assert Discriminative().learning_rate_scales(num_stages) == scales


def test_gradual_schedule_by_hand() -> None:
    frozen = [Gradual().num_frozen(3, epoch, 12) for epoch in range(12)]
    assert frozen == [3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("name", STRATEGIES)
def test_groups_cover_head_and_learning_stages(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = MLPConfig(widths=(4, 4)).build((1, 2, 2), generator)
    objective = Supervised(
        Classifier(encoder, 2, generator), ClassificationConfig(), STRATEGIES[name]()
    )
    grouped = [p for g in objective.parameter_groups()["main"] for p in g.parameters]
    expected = 2 if name == "frozen" else len(list(objective.parameters()))
    assert len(grouped) == len(set(grouped)) == expected
