"""Augmentation against torch.rot90, torch.roll, scipy.ndimage and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fewlabels.augment import colour, geometry
from fewlabels.augment.geometry import Movement, elastic_field, move
from fewlabels.augment.policies import (
    POLICIES,
    AugmentConfig,
    Policy,
    augment,
    is_identity,
    resolve,
    resolve_name,
)
from fewlabels.errors import UnknownNameError


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotation_is_counter_clockwise_like_rot90(size: int, quarter_turns: int) -> None:
    images = random_images(2, 3, size, size)
    angle = torch.full((2,), quarter_turns * math.pi / 2)
    moved = move(images, Movement(angle=angle))
    torch.testing.assert_close(moved, torch.rot90(images, quarter_turns, (2, 3)), atol=1e-4, rtol=0)


def test_shift_is_right_and_down_like_roll() -> None:
    images = random_images(2, 1, 10, 8)
    moved = move(images, Movement(shift_x=torch.full((2,), 2 / 8), shift_y=torch.full((2,), 0.3)))
    expected = torch.roll(images, (3, 2), (2, 3))
    torch.testing.assert_close(moved[:, :, 3:, 2:], expected[:, :, 3:, 2:], atol=1e-5, rtol=0)
    assert moved[:, :, :3].abs().max() < 1e-5
    assert moved[:, :, :, :2].abs().max() < 1e-5


def test_mirror_is_flip() -> None:
    images = random_images(3, 3, 7, 5)
    moved = move(images, Movement(mirror=torch.tensor([True, False, True])))
    expected = images.clone()
    expected[[0, 2]] = images[[0, 2]].flip(3)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(11, 11), (9, 14)])
def test_composition_equals_scipy_affine_transform(shape: tuple[int, int]) -> None:
    """Independent source: scipy.ndimage.affine_transform of order 1, matrices written out."""
    height, width = shape
    images = random_images(1, 1, height, width)
    angle, zoom, shear, dx, dy = 0.3, 1.2, 0.2, 0.1, -0.05
    moved = move(
        images,
        Movement(
            angle=torch.tensor([angle]),
            zoom=torch.tensor([zoom]),
            shear=torch.tensor([shear]),
            shift_x=torch.tensor([dx]),
            shift_y=torch.tensor([dy]),
        ),
        "zeros",
    )
    # In (x right, y up): turn counter-clockwise after shearing to the right after zooming.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
    up = np.diag([1.0, -1.0])
    forward = up @ turn @ slant @ (zoom * np.eye(2)) @ up  # in (x, y down)
    inverse = np.linalg.inv(forward)[::-1, ::-1]  # in (row, column)
    centre = (np.array(shape) - 1) / 2
    shift = np.array([dy * height, dx * width])
    offset = centre - inverse @ (centre + shift)
    expected = ndimage.affine_transform(
        images[0, 0].double().numpy(), inverse, offset, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(moved[0, 0].numpy(), expected, atol=1e-4)


def test_zoom_two_doubles_a_square() -> None:
    images = torch.zeros(1, 1, 16, 16)
    images[:, :, 6:10, 6:10] = 1
    moved = move(images, Movement(zoom=torch.tensor([2.0])))
    assert moved.sum().item() == pytest.approx(64, rel=0.02)


def test_displacement_takes_colour_from_there() -> None:
    images = random_images(1, 1, 6, 6)
    field = torch.zeros(1, 2, 6, 6)
    field[:, 0] = 1  # one pixel to the right
    moved = move(images, Movement(displacement=field))
    torch.testing.assert_close(moved[..., :-1], images[..., 1:], atol=1e-5, rtol=0)


def test_elastic_field_has_the_deviation_asked_for() -> None:
    field = elastic_field(torch.zeros(400, 1, 28, 28), 1.5, 5, gen())
    coarse = field[:, :, ::27, ::27]  # the corners are coarse points themselves
    assert coarse.std().item() == pytest.approx(1.5, rel=0.1)
    assert abs(field.mean().item()) < 0.05
    assert not torch.equal(field[0], field[1])


def test_blur_equals_scipy_gaussian_filter() -> None:
    images = random_images(2, 3, 12, 15)
    blurred = colour.blur(images, gen(4), max_deviation=1.2)
    deviation = geometry.uniform(images, 0.0, 1.2, gen(4)).clamp_min(1e-3)
    for image, result, sigma in zip(images, blurred, deviation, strict=True):
        for channel, got in zip(image, result, strict=True):
            expected = ndimage.gaussian_filter(
                channel.double().numpy(), float(sigma), mode="nearest", radius=4
            )
            np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


def test_brightness_and_contrast_by_hand() -> None:
    images = random_images(3, 1, 4, 4) * 0.5 + 0.25
    brighter = colour.brightness(images, gen(1), 0.2)
    change = geometry.uniform(images, -0.2, 0.2, gen(1))
    torch.testing.assert_close(brighter - images, change.view(3, 1, 1, 1).expand_as(images))
    sharper = colour.contrast(images, gen(1), 0.2)
    factor = geometry.uniform(images, 0.8, 1.2, gen(1))
    torch.testing.assert_close(
        sharper.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3)), factor, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(sharper.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)))


def test_noise_has_the_deviation_drawn() -> None:
    images = torch.full((2, 1, 100, 100), 0.5)
    noisy = colour.noise(images, gen(2), 0.1)
    drawn = geometry.uniform(images, 0.0, 0.1, gen(2))
    torch.testing.assert_close((noisy - images).std(dim=(1, 2, 3)), drawn, atol=3e-3, rtol=0)


SINGLE = {
    "flip": geometry.flip,
    "shift": geometry.shift,
    "rotate": geometry.rotate,
    "zoom": geometry.zoom,
    "shear": geometry.shear,
    "elastic": geometry.elastic,
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "blur": colour.blur,
    "noise": colour.noise,
}


@pytest.mark.parametrize("name", SINGLE)
def test_each_function_is_per_image_and_reproducible(name: str) -> None:
    images = random_images(1, 3, 12, 10).expand(16, -1, -1, -1)
    first, again = (SINGLE[name](images, gen(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, SINGLE[name](images, gen(4)))
    assert len({tuple(image.flatten()[:40].tolist()) for image in first}) > 1
    assert first.shape == images.shape


def test_flip_is_torch_flip() -> None:
    images = random_images(4, 1, 5, 5)
    assert torch.equal(geometry.flip(images, gen(), 1.0), images.flip(3))
    assert torch.equal(geometry.flip(images, gen(), 0.0), images)


@given(
    st.sampled_from(sorted(POLICIES)),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.integers(4, 20),
    st.integers(4, 20),
)
@settings(max_examples=40, deadline=None)
def test_every_policy_keeps_shape_type_and_range(
    name: str, count: int, channels: int, height: int, width: int
) -> None:
    images = random_images(count, channels, height, width)
    result = augment(images, gen(), POLICIES[name])
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.min() >= -1e-6
    assert result.max() <= 1 + 1e-6
    assert is_identity(POLICIES[name]) == torch.equal(result, images)


@pytest.mark.parametrize("channels", [1, 3])
def test_digits_policy_never_flips(channels: int) -> None:
    policy = resolve("digits", AugmentConfig(), (channels, 28, 28))
    assert policy.flip == 0


def test_auto_is_resolved_by_shape() -> None:
    assert resolve_name("auto", (1, 28, 28)) == "digits"
    assert resolve_name("auto", (3, 32, 32)) == "weak"
    assert resolve("weak", AugmentConfig(), (1, 64, 64)).flip == 0
    assert resolve("weak", AugmentConfig(), (3, 64, 64)).flip == 0.5
    assert resolve("weak", AugmentConfig(flip=True), (1, 64, 64)).flip == 0.5
    with pytest.raises(UnknownNameError, match="strong"):
        resolve_name("stronk", (1, 28, 28))


def test_config_changes_single_ranges() -> None:
    policy = resolve("digits", AugmentConfig(rotate=3.0, elastic=0.0), (1, 28, 28))
    assert policy == Policy(
        shift=POLICIES["digits"].shift,
        rotate=3.0,
        zoom=POLICIES["digits"].zoom,
        shear=POLICIES["digits"].shear,
    )
