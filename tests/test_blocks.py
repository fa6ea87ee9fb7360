"""Blocks against torch, scikit-learn and hand calculation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from fewlabels.blocks.activations import ACTIVATIONS, activation, num_pieces
from fewlabels.blocks.attention import MultiHeadAttention, sinusoidal_positions
from fewlabels.blocks.convolutions import ConvolutionUnit, amount, output_side
from fewlabels.blocks.dropout import DROPOUTS, StochasticDepth, dropout
from fewlabels.blocks.filters import FILTERS, FixedFilter
from fewlabels.blocks.initialisation import INITIALISATIONS, empty_linear, initialise
from fewlabels.blocks.losses import (
    ClassificationConfig,
    balanced_weights,
    classification_loss,
    multiclass_hinge,
)
from fewlabels.blocks.norms import NORMS, map_norm, norm
from fewlabels.blocks.pooling import POOLINGS, AveragePool, pooling
from fewlabels.blocks.standardise import Standardise
from fewlabels.blocks.upsampling import UPSAMPLINGS, Unpooling, upsampling
from fewlabels.errors import ConfigError, UnknownNameError

X = torch.linspace(-3, 3, 13)

BY_HAND = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "step": lambda x: float(x > 0),
    "parametric_relu": lambda x: x if x > 0 else 0.25 * x,
    "swish": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"maxout"}))
def test_activations_by_hand(name: str) -> None:
    expected = torch.tensor([BY_HAND[name](x) for x in X.tolist()])
    torch.testing.assert_close(activation(name)(X), expected, atol=1e-6, rtol=1e-5)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_maxout_takes_the_larger_neighbour() -> None:
    values = torch.tensor([[1.0, 3.0, -2.0, -5.0]])
    assert activation("maxout")(values).tolist() == [[3.0, -2.0]]
    maps = torch.randn(2, 6, 4, 4, generator=gen())
    expected = torch.maximum(maps[:, ::2], maps[:, 1::2])
    assert torch.equal(activation("maxout")(maps), expected)
    assert num_pieces("maxout") == 2
    assert num_pieces("relu") == 1


def test_step_passes_the_gradient_where_it_is_near() -> None:
    values = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    (activation("step")(values) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 2.0, 3.0, 0.0]


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_keeps_the_expectation(name: str) -> None:
    """The mean over many draws in training equals the output at test."""
    torch.manual_seed(0)
    layer = dropout(name, 0.3)
    values = torch.ones(20_000, 3, 1, 1)
    trained, tested = layer.train()(values), layer.eval()(values)
    # The original rule scales at test; the others in training.
    scale = 0.7 if name == "original" else 1.0
    torch.testing.assert_close(tested, values * scale)
    assert trained.mean().item() == pytest.approx(scale, abs=0.02)
    assert (trained == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_dropout_of_whole_maps_and_of_whole_branches() -> None:
    torch.manual_seed(0)
    maps = torch.ones(50, 8, 4, 4)
    spatial = dropout("spatial", 0.5)(maps)
    assert set(spatial.flatten(2).std(dim=2).flatten().tolist()) == {0.0}
    assert len(set(spatial[0].mean(dim=(1, 2)).tolist())) == 2
    deep = StochasticDepth(0.5)(maps)
    assert set(deep.flatten(1).mean(dim=1).tolist()) == {0.0, 2.0}
    assert isinstance(dropout("inverted", 0.0), nn.Identity)
    with pytest.raises(UnknownNameError, match="inverted"):
        dropout("inverse", 0.5)


def test_map_norms_by_hand() -> None:
    maps = torch.randn(9, 4, 5, 3, generator=gen()) * 3 + 1
    array = maps.double().numpy()
    expected = {
        "batch": (array - array.mean((0, 2, 3), keepdims=True))
        / np.sqrt(array.var((0, 2, 3), keepdims=True) + 1e-5),
        "instance": (array - array.mean((2, 3), keepdims=True))
        / np.sqrt(array.var((2, 3), keepdims=True) + 1e-5),
        "layer": (array - array.mean((1, 2, 3), keepdims=True))
        / np.sqrt(array.var((1, 2, 3), keepdims=True) + 1e-5),
        # gcd(4, 32) = 4 groups of one channel each.
        "group": (array - array.mean((2, 3), keepdims=True))
        / np.sqrt(array.var((2, 3), keepdims=True) + 1e-5),
        "none": array,
    }
    assert set(expected) == set(NORMS)
    for name, values in expected.items():
        found = map_norm(name, 4)(maps).detach().numpy()
        np.testing.assert_allclose(found, values, atol=1e-5, err_msg=name)


def test_group_norm_takes_groups_that_divide() -> None:
    assert map_norm("group", 64).num_groups == 32
    assert map_norm("group", 24).num_groups == 8
    assert map_norm("group", 7).num_groups == 1


@pytest.mark.parametrize("make", [lambda: norm("batch", 3), lambda: map_norm("batch", 3)])
def test_batch_norm_says_where_a_batch_is_too_small(make) -> None:
    layer = make()
    shape = (3,) if isinstance(layer, nn.BatchNorm1d) else (3, 2, 2)
    with pytest.warns(UserWarning, match="batch of 7"):
        layer(torch.randn(7, *shape, generator=gen()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(8, *shape, generator=gen()))
        # At test the running statistics are used, and any number of images is right.
        single = torch.randn(1, *shape, generator=gen())
        tested = layer.eval()(single)
    place = (1, -1, *[1] * (len(shape) - 1))
    expected = (single - layer.running_mean.view(place)) / (
        layer.running_var.view(place) + 1e-5
    ).sqrt()
    torch.testing.assert_close(tested, expected)


def test_instance_norm_of_a_vector_is_refused() -> None:
    with pytest.raises(ConfigError, match="group, layer, none"):
        norm("instance", 5)


def test_norms_by_hand() -> None:
    values = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
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


def test_orthogonal_weights_keep_lengths() -> None:
    layer = empty_linear(60, 60)
    initialise(layer, "orthogonal", gen())
    torch.testing.assert_close(layer.weight @ layer.weight.T, 2 * torch.eye(60), atol=1e-4, rtol=0)


def test_a_number_is_the_deviation_of_a_normal() -> None:
    layer = empty_linear(400, 300)
    initialise(layer, 0.03, gen())
    assert layer.weight.std().item() == pytest.approx(0.03, rel=0.01)


@pytest.mark.parametrize("name", sorted(set(INITIALISATIONS) - {"xavier"}))
def test_activations_neither_die_nor_explode_through_twenty_layers(name: str) -> None:
    """He et al. (2015), section 2.2: the second moment stays through rectifiers."""
    values = torch.randn(500, 256, generator=gen())
    start = values.pow(2).mean().item()
    for number in range(20):
        layer = empty_linear(256, 256)
        initialise(layer, name, gen(number + 1))
        values = layer(values).relu()
    assert 0.2 * start < values.pow(2).mean().item() < 2 * start


def test_xavier_keeps_the_deviation_of_linear_layers_and_small_weights_die() -> None:
    ends = {}
    for how in ("xavier", 0.01):
        values = torch.randn(500, 256, generator=gen())
        for number in range(20):
            layer = empty_linear(256, 256)
            initialise(layer, how, gen(number + 1))
            values = layer(values)
        ends[how] = values.std().item()
    assert 0.3 < ends["xavier"] < 3
    assert ends[0.01] < 1e-10


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


@given(
    side=st.integers(1, 40),
    kernel_size=st.integers(1, 7),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_output_side_is_torchs(
    side: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> None:
    shape = {"stride": stride, "padding": padding, "dilation": dilation}
    reach = dilation * (kernel_size - 1) + 1
    if reach > side + 2 * padding:
        with pytest.raises(ConfigError, match="does not fit"):
            output_side(side, kernel_size, floor=True, **shape)
        return
    expected = F.conv1d(torch.zeros(1, 1, side), torch.zeros(1, 1, kernel_size), **shape).shape[2]
    assert output_side(side, kernel_size, floor=True, **shape) == expected
    if (side + 2 * padding - reach) % stride:
        with pytest.raises(ConfigError, match=r"\(N \+ 2P - F\) / S \+ 1"):
            output_side(side, kernel_size, **shape)
    else:
        assert output_side(side, kernel_size, **shape) == expected


def test_the_arithmetic_of_a_stride_that_does_not_divide_is_shown() -> None:
    unit = ConvolutionUnit(1, 2, 3, stride=2, padding="valid", norm="none")
    with pytest.raises(ConfigError, match=r"\(28 \+ 2·0 - 3\) / 2 \+ 1 = 13\.5"):
        unit(torch.zeros(1, 1, 28, 28))
    rounded = ConvolutionUnit(1, 2, 3, stride=2, padding="valid", norm="none", floor=True)
    assert rounded(torch.zeros(1, 1, 28, 28)).shape == (1, 2, 13, 13)
    assert unit(torch.zeros(1, 1, 29, 29)).shape == (1, 2, 14, 14)


def test_padding_by_name() -> None:
    assert amount("valid", 5) == 0
    assert amount("same", 5) == 2
    assert amount("same", 3, dilation=2) == 2
    assert amount(1, 7) == 1
    with pytest.raises(ConfigError, match="odd kernel"):
        amount("same", 4)
    with pytest.raises(ConfigError, match="from 0 on"):
        amount(-1, 3)


def test_a_separable_convolution_is_two_and_costs_less() -> None:
    unit = ConvolutionUnit(8, 16, 3, kind="depthwise_separable", norm="none").eval()
    initialise(unit, "kaiming", gen())
    maps = torch.randn(2, 8, 6, 6, generator=gen())
    depthwise, pointwise = unit.layers[0], unit.layers[1]
    by_map = torch.cat(
        [F.conv2d(maps[:, i : i + 1], depthwise.weight[i : i + 1], padding=1) for i in range(8)],
        dim=1,
    )
    mixed = torch.einsum("oi,bihw->bohw", pointwise.weight[:, :, 0, 0], by_map)
    expected = (mixed + pointwise.bias.view(1, -1, 1, 1)).relu()
    torch.testing.assert_close(unit(maps), expected, atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in unit.parameters()) == 8 * 9 + 8 * 16 + 16


def test_units_enlarge_dilate_and_leave_out_dead_biases() -> None:
    maps = torch.randn(8, 4, 6, 6, generator=gen())
    larger = ConvolutionUnit(4, 2, 2, kind="transposed", stride=2, padding="valid")
    dilated = ConvolutionUnit(4, 2, 3, dilation=2, activation_name="maxout")
    for unit, shape in ((larger, (8, 2, 12, 12)), (dilated, (8, 2, 6, 6))):
        initialise(unit, "kaiming", gen())
        assert unit(maps).shape == shape
        assert unit.layers[0].bias is None
    assert ConvolutionUnit(4, 2, norm="layer").layers[0].bias is not None
    with pytest.raises(ConfigError, match="no dilation"):
        ConvolutionUnit(4, 2, 2, kind="transposed", padding="valid", dilation=2)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_hand(name: str) -> None:
    maps = torch.arange(32.0).reshape(1, 2, 4, 4)
    squares = maps.unflatten(3, (2, 2)).unflatten(2, (2, 2)).permute(0, 1, 2, 4, 3, 5).flatten(4)
    expected = {
        "average": squares.mean(4),
        "max": squares.amax(4),
        "global_average": torch.tensor([[7.5, 23.5]]),
    }[name]
    torch.testing.assert_close(pooling(name)(maps), expected)


@pytest.mark.parametrize("name", UPSAMPLINGS)
def test_upsampling_doubles_the_sides(name: str) -> None:
    layer = upsampling(name, 3)
    initialise(layer, "kaiming", gen())
    maps = torch.rand(2, 3, 5, 4, generator=gen())
    larger = layer(maps)
    assert larger.shape == (2, 3, 10, 8)
    if name in ("nearest", "unpooling"):
        assert torch.equal(larger[:, :, ::2, ::2], maps)
    if name == "bilinear":
        # Between two middles: three quarters of the nearer, one quarter of the other.
        expected = 0.75 * (0.75 * maps[..., 1, 1] + 0.25 * maps[..., 1, 2]) + 0.25 * (
            0.75 * maps[..., 2, 1] + 0.25 * maps[..., 2, 2]
        )
        torch.testing.assert_close(larger[..., 3, 3], expected)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_unpooling_is_torchs(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, generator=gen())
    pooled, places = F.max_pool2d(maps, 2, return_indices=True)
    expected = F.max_unpool2d(pooled, places, 2, output_size=size)
    assert torch.equal(Unpooling()(pooled, places, size), expected)


def test_attention_is_torchs() -> None:
    ours = MultiHeadAttention(12, 3).eval()
    initialise(ours, "xavier", gen())
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    with torch.no_grad():
        ours.query_key_value.bias.normal_(generator=gen(1))
        theirs.in_proj_weight.copy_(ours.query_key_value.weight)
        theirs.in_proj_bias.copy_(ours.query_key_value.bias)
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
        tokens = torch.randn(2, 7, 12, generator=gen())
        torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])
    with pytest.raises(ConfigError, match="5 heads"):
        MultiHeadAttention(12, 5)


def test_positions_by_hand() -> None:
    found = sinusoidal_positions(6, 4)
    for place in range(6):
        for pair in range(2):
            angle = place / 10_000 ** (2 * pair / 4)
            assert found[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_equal_scipys(name: str) -> None:
    from scipy.ndimage import correlate

    maps = torch.rand(2, 3, 6, 5, generator=gen())
    kernel = np.array(FILTERS[name])
    expected = correlate(maps.numpy(), kernel[None, None], mode="nearest")
    np.testing.assert_allclose(FixedFilter(name)(maps).numpy(), expected, atol=1e-5)


def test_filters_do_what_they_are_called() -> None:
    """Edges and slopes of an even image are 0; means and sharpening leave it as it is."""
    for name, kernel in FILTERS.items():
        total = sum(sum(row) for row in kernel)
        assert total == pytest.approx(1.0 if name in ("box", "gaussian", "sharpen") else 0.0)
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)  # grows by 1 from column to column
    assert FixedFilter("sobel_x")(ramp)[0, 0, 2, 2] == 8
    assert FixedFilter("sobel_y")(ramp)[0, 0, 2, 2] == 0
    assert FixedFilter("scharr_x")(ramp)[0, 0, 2, 2] == 32


def test_units_refuse_what_does_not_go_together() -> None:
    with pytest.raises(UnknownNameError, match="depthwise_separable"):
        ConvolutionUnit(2, 4, kind="depthwise")
    with pytest.raises(ConfigError, match="stride"):
        ConvolutionUnit(2, 4, stride=0)
    with pytest.raises(ConfigError, match="'some'"):
        ConvolutionUnit(2, 4, padding="some")
    maps = torch.zeros(2, 3, 5, 5)
    with pytest.raises(ConfigError, match=r"takes 2 maps\. Got 3"):
        ConvolutionUnit(2, 4)(maps)
    for floor in (False, True):
        with pytest.raises(ConfigError, match="does not fit on 5 pixels"):
            ConvolutionUnit(3, 4, 7, padding="valid", norm="none", floor=floor)(maps)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_units_with_same_padding_enlarge_by_their_stride(
    kernel_size: int, stride: int
) -> None:
    shape = {"kind": "transposed", "stride": stride, "norm": "none"}
    if stride == 1 and not kernel_size % 2:
        with pytest.raises(ConfigError, match="odd kernel"):
            ConvolutionUnit(2, 4, kernel_size, **shape)
        return
    unit = ConvolutionUnit(2, 4, kernel_size, **shape)
    assert unit(torch.zeros(2, 2, 5, 7)).shape == (2, 4, 5 * stride, 7 * stride)


@pytest.mark.parametrize("name", DROPOUTS)
def test_probabilities_are_checked(name: str) -> None:
    for probability in (-0.1, 1.0, 1.5):
        with pytest.raises(ConfigError, match=r"\[0, 1\)"):
            dropout(name, probability)
