"""Networks, decoders and the classifier on top."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from fewlabels.errors import ConfigError
from fewlabels.networks import NETWORKS, network_settings
from fewlabels.networks.alexnet import AlexNetConfig
from fewlabels.networks.classifier import Classifier, is_fully_connected, num_parameters
from fewlabels.networks.inception import InceptionConfig
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mixer import MixerConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.networks.residual_mlp import ResidualMLPConfig
from fewlabels.networks.resnet import ResNetConfig
from fewlabels.networks.row_rnn import RowRNNConfig
from fewlabels.networks.segnet import SegNetConfig
from fewlabels.networks.summary import stage_names, summarise, summarise_decoder
from fewlabels.networks.unet import UNetConfig
from fewlabels.networks.vgg import VGGConfig
from fewlabels.networks.vision_transformer import VisionTransformerConfig
from fewlabels.networks.wide_resnet import WideResNetConfig
from fewlabels.networks.xception import XceptionConfig


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


VIT_B = VisionTransformerConfig(patch=16, width=768, depth=12, heads=12, hidden=4, pool="token")
MIXER_S = MixerConfig(patch=16, width=512, depth=8, units=(256, 2048))
PUBLISHED = {
    "alexnet": (AlexNetConfig(), (3, 224, 224), 1000, 61_100_840),
    "vgg16": (VGGConfig(depth=16), (3, 224, 224), 1000, 138_357_544),
    "resnet18": (ResNetConfig(depth=18), (3, 224, 224), 1000, 11_689_512),
    "resnet50": (ResNetConfig(depth=50), (3, 224, 224), 1000, 25_557_032),
    "resnet20, 0.27 M": (ResNetConfig(depth=20), (3, 32, 32), 10, 272_474),
    # By the paper's table 1: a convolution of 16 maps, three stages of four blocks, a head.
    "WRN-28-2, 1.5 M": (WideResNetConfig(blocks=4, stem=16), (3, 32, 32), 10, 1_467_610),
    # Page (2019), by hand: 64, 128, 256, 512 maps and two residual pairs.
    "fast resnet": (ResNetConfig(depth=9), (3, 32, 32), 10, 6_573_130),
    "googlenet": (InceptionConfig(), (3, 224, 224), 1000, 6_624_904),
    "xception": (XceptionConfig(), (3, 299, 299), 1000, 22_855_952),
    "ViT-B/16": (VIT_B, (3, 224, 224), 1000, 86_567_656),
    "Mixer-S/16": (MIXER_S, (3, 224, 224), 1000, 18_528_264),
}
"""torchvision's and timm's own counts, and for the small ones those of the papers."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    config, shape, num_classes, expected = PUBLISHED[name]
    encoder = config.build(shape, gen())
    assert num_parameters(Classifier(encoder, num_classes, gen())) == expected


@pytest.mark.parametrize(
    ("config", "outputs", "expected"),
    [
        # 31,030,658: the count of the paper's network with one channel and two classes.
        (UNetConfig(width=64, depth=4, norm="none"), 2, 31_030_658),
        (SegNetConfig(widths=(64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3)), 2, None),
    ],
    ids=["unet", "segnet"],
)
def test_ways_down_and_up_have_the_published_counts(config, outputs, expected) -> None:
    shape = (1, 64, 64) if expected else (3, 64, 64)
    encoder = config.build(shape, gen())
    total = num_parameters(encoder) + num_parameters(config.build_dense(encoder, outputs, gen()))
    if expected is None:
        assert total == pytest.approx(29.5e6, rel=0.005)  # the paper's table
    else:
        assert total == expected


def test_plain_twins_have_no_shortcuts() -> None:
    """Without shortcuts, a network whose last norm is 0 forgets its input."""
    images = torch.rand(8, 3, 16, 16, generator=gen())
    for shortcuts in (True, False):
        encoder = ResNetConfig(depth=20, shortcuts=shortcuts).build((3, 16, 16), gen())
        for name, module in encoder.named_modules():
            if name.endswith("bn2"):
                nn.init.zeros_(module.weight)
        spread = encoder.eval()(images).std(dim=0).max().item()
        assert (spread > 1e-3) == shortcuts
    plain = ResNetConfig(depth=20, shortcuts=False).build((3, 16, 16), gen())
    assert not [name for name, _ in plain.named_parameters() if "downsample" in name]


def test_recurrent_layers_are_torchs_and_forget_little_at_first() -> None:
    for cell, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        encoder = RowRNNConfig(cell=cell, width=16, layers=1).build((1, 5, 7), gen())
        layer = encoder.layers[0]
        for weight in layer.weight_hh_l0.chunk(gates):
            torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=1e-5, rtol=0)
        if cell == "lstm":
            assert layer.bias_ih_l0[16:32].tolist() == [1.0] * 16
            assert layer.bias_ih_l0[:16].tolist() == [0.0] * 16


def test_row_lstm_by_hand() -> None:
    """Hochreiter and Schmidhuber's equations, row by row."""
    encoder = RowRNNConfig(width=3, layers=1).build((1, 4, 2), gen()).eval()
    image = torch.rand(1, 1, 4, 2, generator=gen(1))
    layer = encoder.layers[0]
    state, memory = torch.zeros(3), torch.zeros(3)
    for row in image[0, 0]:
        gates = layer.weight_ih_l0 @ row + layer.weight_hh_l0 @ state + layer.bias_ih_l0
        enter, forget, new, leave = gates.chunk(4)
        memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
        state = leave.sigmoid() * memory.tanh()
    torch.testing.assert_close(encoder(image)[0], state)


def test_what_counts_as_fully_connected() -> None:
    assert is_fully_connected(ResidualMLPConfig(width=8, hidden=8).build((1, 4, 4), gen()))
    for name in ("parametric_relu", "maxout", "step"):
        assert is_fully_connected(MLPConfig(widths=(8,), activation=name).build((1, 4, 4), gen()))
    for name in ("batch", "layer", "group"):
        assert is_fully_connected(MLPConfig(widths=(8,), norm=name).build((1, 4, 4), gen()))
    # All patches of a mixer share their layers, as places share a convolution's.
    assert not is_fully_connected(MixerConfig().build((1, 8, 8), gen()))
    assert not is_fully_connected(RowRNNConfig().build((1, 8, 8), gen()))


TOO_SMALL = [
    ("alexnet", (3, 7, 7), 8),
    ("inception", (3, 3, 3), 4),
    ("xception", (3, 3, 3), 4),
    ("segnet", (1, 7, 7), 8),
    ("fcn", (1, 3, 3), 4),
]


@pytest.mark.parametrize(("name", "shape", "least"), TOO_SMALL)
def test_images_too_small_are_refused_in_one_sentence(name: str, shape, least: int) -> None:
    with pytest.raises(ConfigError, match=f"at least {least} × {least} pixels"):
        NETWORKS[name]().build(shape, gen())
    larger = (shape[0], least, least)
    assert NETWORKS[name]().build(larger, gen()).eval()(torch.rand(2, *larger)).ndim == 2


def test_patches_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 × 5 pixels do not divide an image of 28 × 28"):
        VisionTransformerConfig(patch=5).build((1, 28, 28), gen())
    for side, patch in ((28, 4), (32, 4), (8, 2), (29, 4), (224, 16)):
        encoder = VisionTransformerConfig(depth=1).build((1, side, side), gen())
        assert encoder.patches.size == patch


def test_long_images_get_the_small_variants() -> None:
    for name in ("alexnet", "inception", "vgg", "xception", "resnet"):
        encoder = NETWORKS[name]().build((3, 32, 100), gen()).eval()
        assert encoder(torch.rand(2, 3, 32, 100)).shape == (2, encoder.num_features)


def test_settings_that_would_do_nothing_are_refused() -> None:
    for config, word in (
        (VGGConfig(width=8, variant="classic"), "width"),
        (XceptionConfig(middle=3, variant="classic"), "middle"),
        (ResNetConfig(depth=20, stem="large"), "stem"),
        (ResNetConfig(depth=9, stem="large"), "stem"),
    ):
        with pytest.raises(ConfigError, match=rf"`network\.{word}` has no meaning"):
            config.build((3, 96, 96), gen())
    with pytest.raises(ConfigError, match="initialisation"):
        network_settings({"name": "timm:resnet10t", "initialisation": "xavier"})
    for name in ("row_rnn", "conv_lstm"):
        one, other = (
            NETWORKS[name](initialisation=how).build((1, 8, 8), gen()).eval()
            for how in ("orthogonal", 0.5)
        )
        assert not torch.equal(one(torch.ones(1, 1, 8, 8)), other(torch.ones(1, 1, 8, 8)))


def test_images_of_other_channels_are_refused() -> None:
    for name in OURS:
        encoder = NETWORKS[name]().build((3, 8, 8), gen())
        with pytest.raises(ConfigError, match=r"3 channels\. Got 1"):
            encoder(torch.rand(2, 1, 8, 8))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="one number for each of the 3 widths"):
        network_settings({"name": "segnet", "convolutions": [2, 2]})
    with pytest.raises(ConfigError, match="maxout"):
        network_settings({"name": "wide_resnet", "activation": "maxout"})
    assert network_settings({"name": "mlp", "initialisation": 0.05}).initialisation == 0.05
    with pytest.raises(ConfigError, match="greater than 0"):
        network_settings({"name": "mlp", "initialisation": -0.05})


def test_summary_of_lenet_by_hand() -> None:
    """LeCun et al. (1998): 28 × 28, padded to 32 × 32."""
    encoder = LeNetConfig().build((1, 28, 28), gen())
    stages = summarise(encoder, nn.Linear(84, 10))
    assert [s.output_shape for s in stages] == [(6, 14, 14), (16, 5, 5), (120,), (84,), (10,)]
    assert [s.num_parameters for s in stages] == [156, 2416, 48_120, 10_164, 850]
    assert [s.multiply_adds for s in stages] == [
        28 * 28 * 6 * 25,
        10 * 10 * 16 * 6 * 25,
        400 * 120,
        120 * 84,
        840,
    ]
    # r = 1 + 4 = 5, pooled 6 with step 2; then 6 + 4 · 2 = 14, pooled 16 with step 4.
    first, second = stages[0].field[0], stages[1].field[0]
    assert (first.size, first.stride, first.offset) == (6, 2, 0.5)
    assert (second.size, second.stride, second.offset) == (16, 4, 5.5)
    assert stages[2].field[0].size == float("inf")


def test_multiply_adds_are_the_published_ones() -> None:
    """He et al. (2016), table 1: 1.8 and 3.8 (torchvision's: 1.81, 4.09) billion."""
    for depth, expected in ((18, 1.814e9), (50, 4.089e9)):
        encoder = ResNetConfig(depth=depth).build((3, 224, 224), gen())
        total = sum(stage.multiply_adds for stage in summarise(encoder))
        assert total == pytest.approx(expected, rel=0.005)


OURS = sorted(set(NETWORKS) - {"pretrained"})

MAX_POOLED = ("alexnet", "fast resnet", "inception", "segnet", "unet", "vgg", "xception")
"""A max pooling lets one path through alone, so the gradient's box may be smaller there."""
AT_MOST = (*MAX_POOLED, "conv_lstm")  # the field of a sequence is that of its last step


@pytest.mark.parametrize("name", [*OURS, "fast resnet", "wide stem"])
def test_receptive_fields_are_what_the_gradient_says(name: str) -> None:
    """The box of pixels with a gradient, for a value in the middle of each stage's maps.

    Weights are positive, so that no path is cut off by a rectifier.
    """
    shape = (1, 61, 47)
    special = {
        "fast resnet": ResNetConfig(depth=9, width=4),
        "wide stem": WideResNetConfig(stem_stride=2),
        "xception": XceptionConfig(middle=1),
    }
    encoder = (special.get(name) or NETWORKS[name]()).build(shape, gen()).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(0.1 * parameter.abs() + 1e-3 if parameter.ndim > 1 else parameter.abs())
    stages = summarise(encoder)
    encoder.double()
    seen: dict[int, torch.Tensor] = {}
    for number, stage in enumerate(encoder.stages()):
        stage[-1].register_forward_hook(
            lambda _, __, output, number=number: seen.__setitem__(number, output)
        )
    image = torch.rand(1, *shape, generator=gen(), dtype=torch.float64, requires_grad=True)
    encoder(image)
    known = 0
    for number, stage in enumerate(stages):
        if all(math.isinf(axis.size) for axis in stage.field):
            continue
        known += 1
        output = seen[number]
        if output.ndim == 3:  # tokens, row by row
            size = encoder.patches.size
            output = output.transpose(1, 2).unflatten(2, (-(-shape[1] // size), -1))
        if output.ndim == 5:  # the last of a sequence of maps
            output = output[:, -1]
        middles = [side // 2 for side in output.shape[2:]]
        (slope,) = torch.autograd.grad(
            output[0, :, middles[0], middles[1]].sum(), image, retain_graph=True
        )
        for axis, middle, field in zip((0, 1), middles, stage.field, strict=True):
            if math.isinf(field.size):
                continue
            touched = slope[0, 0].abs().sum(dim=1 - axis).nonzero().flatten()
            found = (int(touched.min()), int(touched.max()))
            centre, reach = field.offset + middle * field.stride, (field.size - 1) / 2
            last = shape[1 + axis] - 1
            box = (max(0, round(centre - reach)), min(last, round(centre + reach)))
            if name in AT_MOST:
                assert box[0] <= found[0] <= found[1] <= box[1], stage.name
            else:
                assert found == box, stage.name
    assert known or name in ("mlp", "residual_mlp", "row_rnn")


def test_what_hides_inside_a_recurrent_layer_is_counted() -> None:
    """An LSTM keeps its state, its memory and four gates of each unit for the way back."""
    encoder = RowRNNConfig(width=16, layers=1).build((1, 5, 7), gen())
    (stage,) = summarise(encoder)
    assert stage.activation_bytes >= 6 * 5 * 16 * 4


def test_decoders_are_summed_up() -> None:
    config = UNetConfig(width=64, depth=4, norm="none")
    encoder = config.build((1, 64, 64), gen())
    up = config.build_dense(encoder, 2, gen())
    with torch.no_grad():
        parts = summarise_decoder(up, encoder.levels(torch.zeros(1, 1, 64, 64)))
    total = sum(stage.num_parameters for stage in [*summarise(encoder), *parts])
    assert total == 31_030_658
    assert parts[-1].output_shape == (2, 64, 64)
    assert parts[-1].multiply_adds == 64 * 64 * 64 * 2


@pytest.mark.parametrize("name", OURS)
def test_every_network_is_summed_up(name: str) -> None:
    encoder = NETWORKS[name]().build((3, 32, 32), gen())
    encoder.train()
    stages = summarise(encoder)
    assert encoder.training
    assert sum(stage.num_parameters for stage in stages) == num_parameters(encoder)
    assert all(stage.multiply_adds > 0 and stage.activation_bytes > 0 for stage in stages)
    assert all(stage.output_shape for stage in stages)
    assert [stage.name for stage in stages] == stage_names(encoder)
    assert len(set(stage_names(encoder))) == len(stages)
