"""Contracts over every table: builds from defaults, learns, saves, repeats, refuses."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewlabels.blocks.activations import ACTIVATIONS
from fewlabels.blocks.initialisation import INITIALISATIONS
from fewlabels.blocks.losses import LOSSES, ClassificationConfig
from fewlabels.blocks.norms import NORMS
from fewlabels.config import build, build_named
from fewlabels.contracts import Batch, Encoder
from fewlabels.data.builtin import digits
from fewlabels.errors import ConfigError, UnknownNameError
from fewlabels.networks import NETWORKS
from fewlabels.networks.classifier import Classifier
from fewlabels.pretext import PRETEXTS
from fewlabels.training.optimisers import OPTIMISERS
from fewlabels.training.schedules import SCHEDULES
from fewlabels.transfer import STRATEGIES
from fewlabels.transfer.supervised import Supervised

NAMED_CONFIGS: dict[str, Any] = {
    f"{what}/{name}": (table, name)
    for what, table in {
        "network": NETWORKS,
        "pretext": PRETEXTS,
        "optimiser": OPTIMISERS,
        "schedule": SCHEDULES,
    }.items()
    for name in table
}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def eight(channels: int = 1) -> Batch:
    images = torch.from_numpy(digits().images[:8]).float() / 255
    images = images.expand(-1, channels, -1, -1)
    labels = torch.from_numpy(digits().labels[:8])
    return Batch(images=images, clean=images, labels=labels, generator=gen())


@pytest.mark.parametrize("entry", NAMED_CONFIGS)
def test_settings_carry_their_key_and_refuse_what_is_unknown(entry: str) -> None:
    table, name = NAMED_CONFIGS[entry]
    assert build_named(table, {"name": name}, "section", "entry") == table[name]()
    assert table[name]().name == name
    with pytest.raises(UnknownNameError, match="Allowed"):
        build_named(table, {"name": f"{name}x"}, "section", "entry")
    with pytest.raises(ConfigError, match="no_such_key"):
        build(table[name], {"no_such_key": 1}, "section")


@pytest.mark.parametrize("entry", NAMED_CONFIGS)
def test_settings_are_frozen_and_explained(entry: str) -> None:
    table, name = NAMED_CONFIGS[entry]
    config = table[name]()
    with pytest.raises(Exception, match="cannot assign"):
        config.name = "other"
    assert inspect.getdoc(table[name])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28)])
def test_network_keeps_the_encoder_contract(name: str, shape: tuple[int, int, int]) -> None:
    encoder = NETWORKS[name]().build(shape, gen())
    assert isinstance(encoder, Encoder)
    images = torch.rand(4, *shape, generator=gen(1))
    features = encoder(images)
    assert features.shape == (4, encoder.num_features)
    features.sum().backward()
    staged = [p for stage in encoder.stages() for m in stage for p in m.parameters()]
    assert len(staged) == len(set(staged))
    assert set(staged) == set(encoder.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_network_saves_and_repeats(name: str, tmp_path: Path) -> None:
    first = NETWORKS[name]().build((1, 8, 8), gen())
    same = NETWORKS[name]().build((1, 8, 8), gen())
    other = NETWORKS[name]().build((1, 8, 8), gen(1)).eval()
    images = eight().images
    assert torch.equal(first.eval()(images), same.eval()(images))
    assert not torch.equal(first(images), other(images))
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(first(images), other(images))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_classifier_overfits_eight_images(network: str, strategy: str) -> None:
    encoder = NETWORKS[network]().build((1, 8, 8), gen())
    objective = Supervised(
        Classifier(encoder, 10, gen()), ClassificationConfig(), STRATEGIES[strategy]()
    )
    batch = eight()
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for step in range(60):
        objective.before_epoch(step, 60)
        optimiser.zero_grad()
        objective.loss(batch, step).loss.backward()
        optimiser.step()
    objective.eval()
    assert (objective.classifier(batch.images).argmax(1) == batch.labels).all()


@pytest.mark.parametrize("pretext", PRETEXTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_pretext_objective_overfits_eight_images(network: str, pretext: str) -> None:
    config, settings = NETWORKS[network](), PRETEXTS[pretext]()
    encoder = config.build((1, 8, 8), gen())
    decoder = config.build_decoder((1, 8, 8), encoder.num_features, settings.output, gen())
    objective = settings.build(encoder, decoder)
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-3)
    batch = eight()
    losses = []
    for step in range(80):
        optimiser.zero_grad()
        result = objective.loss(batch, step)
        result.loss.backward()
        optimiser.step()
        losses.append(result.loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    "table", [ACTIVATIONS, NORMS, INITIALISATIONS, LOSSES, STRATEGIES, NETWORKS, PRETEXTS]
)
def test_names_are_lower_case_words(table: dict) -> None:
    assert all(name == name.lower().strip() and name.replace("_", "").isalnum() for name in table)
