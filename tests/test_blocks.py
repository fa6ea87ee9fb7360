"""Blocks against torch, scikit-learn and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from fewlabels.blocks.activations import ACTIVATIONS, activation
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.blocks.losses import (
    ClassificationConfig,
    balanced_weights,
    classification_loss,
    multiclass_hinge,
)
from fewlabels.blocks.norms import norm
from fewlabels.blocks.pooling import AveragePool
from fewlabels.blocks.standardise import Standardise

X = torch.linspace(-3, 3, 13)

BY_HAND = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_hand(name: str) -> None:
    expected = torch.tensor([BY_HAND[name](x) for x in X.tolist()])
    torch.testing.assert_close(activation(name)(X), expected, atol=1e-6, rtol=1e-5)


def test_norms_by_hand() -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    array = values.double().numpy()
    for name, axis in (("batch", 0), ("layer", 1)):
        mean, variance = array.mean(axis, keepdims=True), array.var(axis, keepdims=True)
        expected = (array - mean) / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(norm(name, 4)(values).detach().numpy(), expected, atol=1e-5)
    assert torch.equal(norm("none", 4)(values), values)


@pytest.mark.parametrize(("name", "variance"), [("xavier", 2 / 700), ("kaiming", 2 / 400)])
def test_initial_variance(name: str, variance: float) -> None:
    layer = empty_linear(400, 300)
    initialise(layer, name, torch.Generator().manual_seed(0))
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert layer.weight.mean().abs().item() < 1e-3
    assert torch.equal(layer.bias, torch.zeros(300))


def test_building_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    initialise(empty_linear(5, 3), "xavier", torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.random.get_rng_state())


def test_standardise_by_hand_and_without_contrast() -> None:
    block = Standardise((2, 1, 1))
    mean_image = torch.tensor([0.5, 0.2]).view(2, 1, 1)
    block.set_statistics(mean_image, torch.tensor([0.1, 0.0]))
    images = torch.full((1, 2, 1, 1), 0.6)
    torch.testing.assert_close(block(images).flatten(), torch.tensor([1.0, 400.0]))


LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([0, 2])


def test_label_smoothing_by_hand() -> None:
    config = ClassificationConfig(label_smoothing=0.3)
    logs = LOGITS.log_softmax(1)
    target = torch.full((2, 3), 0.1)
    target[0, 0] = target[1, 2] = 0.8
    expected = -(target * logs).sum(1).mean()
    torch.testing.assert_close(classification_loss(config, LOGITS, LABELS, None), expected)


def test_hinge_by_hand() -> None:
    first = max(0, 1 + 0.5 - 2) + max(0, 1 - 1 - 2)
    second = (1 + 0.1 - 0.3) + (1 + 0.2 - 0.3)
    expected = (first + second) / 3 / 2
    assert multiclass_hinge(LOGITS, LABELS, None, 0.0).item() == pytest.approx(expected)


def test_class_weights_equal_scikit_learns() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(torch.from_numpy(labels), 3).numpy(), expected)
    assert balanced_weights(torch.tensor([0, 2]), 3)[1] == 0


def test_binary_tasks_work() -> None:
    for loss in ("cross_entropy", "multiclass_hinge"):
        value = classification_loss(
            ClassificationConfig(loss=loss), LOGITS[:, :2], torch.tensor([0, 1]), None
        )
        assert torch.isfinite(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3)])
def test_average_pool_equals_torchs(
    size: tuple[int, int], gradient: bool, dtype: torch.dtype
) -> None:
    maps = torch.randn(3, 5, *size, dtype=dtype, requires_grad=gradient)
    pooled = AveragePool()(maps)
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(maps, 2))
    assert pooled.requires_grad == gradient
