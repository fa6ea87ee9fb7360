"""Networks, decoders and the classifier on top."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from fewlabels.errors import ConfigError
from fewlabels.networks.classifier import Classifier, is_fully_connected, num_parameters
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mlp import MLPConfig


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_sizes(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_course_network_has_its_size() -> None:
    """784-1000-500-250-20 and back, counted by hand."""
    config = MLPConfig(widths=(1000, 500, 250), latent=20)
    encoder = config.build((1, 28, 28), gen())
    decoder = config.build_decoder((1, 28, 28), encoder.num_features, "sigmoid", gen())
    sizes = [784, 1000, 500, 250, 20]
    expected = sum(a * b + b for a, b in pairwise(sizes))
    assert num_parameters(encoder) == expected
    assert linear_sizes(decoder) == [(20, 250), (250, 500), (500, 1000), (1000, 784)]
    assert num_parameters(encoder) + num_parameters(decoder) < 5_000_000


def test_decoder_mirrors_an_encoder_without_bottleneck() -> None:
    config = MLPConfig(widths=(30, 20))
    decoder = config.build_decoder((3, 4, 5), 20, "linear", gen())
    assert linear_sizes(decoder) == [(20, 30), (30, 60)]
    assert decoder(torch.zeros(2, 20)).shape == (2, 3, 4, 5)


def test_no_bias_before_a_batch_norm() -> None:
    encoder = MLPConfig(widths=(8, 8), norm="batch", latent=3).build((1, 4, 4), gen())
    biases = [m.bias is not None for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert biases == [False, False, True]


def test_fully_connected_is_checkable() -> None:
    encoder = MLPConfig(widths=(8,), norm="batch", dropout=0.5).build((1, 4, 4), gen())
    classifier = Classifier(encoder, 3, gen())
    assert is_fully_connected(classifier)
    assert not is_fully_connected(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)))
    assert not is_fully_connected(nn.Sequential(nn.LSTM(8, 2)))


def test_logit_norm_is_a_part_of_the_head() -> None:
    encoder = MLPConfig(widths=(8,)).build((1, 4, 4), gen())
    classifier = Classifier(encoder, 3, gen(), "batch")
    logits = classifier(torch.rand(50, 1, 4, 4, generator=gen()))
    torch.testing.assert_close(logits.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.std(0, correction=0), torch.ones(3), atol=0.05, rtol=0)
    named = {name for name, _ in classifier.named_parameters() if not name.startswith("encoder.")}
    assert len(classifier.head_parameters()) == len(named) == 4
    assert is_fully_connected(classifier)


def test_dropout_is_off_in_evaluation() -> None:
    encoder = MLPConfig(widths=(50,), dropout=0.5).build((1, 4, 4), gen()).eval()
    images = torch.rand(3, 1, 4, 4)
    assert torch.equal(encoder(images), encoder(images))


def test_linear_network_is_linear() -> None:
    encoder = MLPConfig(widths=(), latent=4).build((1, 3, 3), gen())
    a, b = torch.rand(2, 1, 1, 3, 3, generator=gen(1))
    torch.testing.assert_close(encoder(a + b), encoder(a) + encoder(b))


def test_lenet_has_the_papers_sizes() -> None:
    """Independent source: the layer sizes of LeCun et al. (1998), counted by hand."""
    encoder = LeNetConfig().build((1, 28, 28), gen())
    assert num_parameters(Classifier(encoder, 10, gen())) == 61_706
    assert encoder.forward_features(torch.rand(2, 1, 28, 28)).shape == (2, 16, 5, 5)
    assert linear_sizes(encoder) == [(400, 120), (120, 84)]
    assert LeNetConfig().build((3, 32, 32), gen()).third[1].in_features == 400
    assert not is_fully_connected(encoder)


def test_lenet_refuses_images_smaller_than_its_poolings() -> None:
    assert LeNetConfig().build((3, 4, 4), gen())(torch.rand(2, 3, 4, 4)).shape == (2, 84)
    with pytest.raises(ConfigError, match="at least 4 × 4"):
        LeNetConfig().build((3, 3, 4), gen())
