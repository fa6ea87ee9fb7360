"""Augmentation against torch.rot90, torch.roll, scipy.ndimage and hand calculation."""

from __future__ import annotations

import colorsys
import math
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage, stats

from fewlabels.augment import colour, geometry, policies
from fewlabels.augment.geometry import Movement, draw_bend, draw_crop, move, shift_and_mirror
from fewlabels.augment.mixing import mix
from fewlabels.augment.policies import (
    POLICIES,
    AugmentConfig,
    Policy,
    augment,
    is_identity,
    narrowed,
    resolve,
    resolve_name,
    view_name,
)
from fewlabels.augment.views import fixed_crops
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


def test_bend_equals_torchs_bicubic_upsampling_of_the_coarse_field() -> None:
    """Independent source: torch's interpolation, and its own grid for the identity."""
    images = random_images(3, 2, 9, 14)
    bend = torch.randn(3, 2, 4, 4, generator=gen(1))
    field = torch.nn.functional.interpolate(bend, (9, 14), mode="bicubic", align_corners=True)
    identity = torch.eye(2, 3).expand(3, 2, 3)
    grid = torch.nn.functional.affine_grid(identity, [3, 1, 9, 14], align_corners=False)
    grid = grid + field.permute(0, 2, 3, 1) * (2 / torch.tensor([14.0, 9.0]))
    expected = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(move(images, Movement(bend=bend)), expected, atol=1e-4, rtol=0)


def test_bend_has_the_deviation_asked_for() -> None:
    bend = draw_bend(torch.zeros(400, 1, 28, 28), 1.5, 5, gen())
    assert bend.shape == (400, 2, 5, 5)
    assert bend.std().item() == pytest.approx(1.5, rel=0.05)


def test_large_images_are_sampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images, angle = random_images(5, 1, 16, 16), torch.linspace(-1, 1, 5)
    whole = move(images, Movement(angle=angle))
    monkeypatch.setattr(geometry, "_MAX_GRID_PIXELS", 600)
    torch.testing.assert_close(move(images, Movement(angle=angle)), whole)


def test_crop_is_what_is_cut_out_and_resized() -> None:
    """Independent source: slicing, then torch's bilinear interpolation."""
    images = random_images(1, 3, 16, 12)
    crop = torch.tensor([[-0.25, 0.125, 0.5, 0.75]])  # columns 0…5, rows 4…15
    expected = torch.nn.functional.interpolate(
        images[:, :, 4:16, 0:6], (16, 12), mode="bilinear", align_corners=False
    )
    moved = move(images, Movement(crop=crop), "border")
    # At the cut the crop sees its neighbours, the slice repeats its border: compare inside.
    torch.testing.assert_close(moved[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-4, rtol=0)


def test_drawn_crops_lie_inside_and_have_the_area_asked_for() -> None:
    x, y, width, height = draw_crop(torch.rand(4, 5000, generator=gen()), 0.3).T
    assert (x.abs() + width / 2).max() <= 0.5 + 1e-6
    assert (y.abs() + height / 2).max() <= 0.5 + 1e-6
    area = width * height
    assert area.min() >= 0.29 * 0.75
    assert area.max() <= 1
    assert area.mean().item() == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize("fill", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_shift_and_mirror_equal_sampling(fill: str, dtype: torch.dtype) -> None:
    images = random_images(6, 3, 9, 7)
    shift_x, shift_y = torch.tensor([0, 2, -3, 1, 0, 2]), torch.tensor([1, 0, 4, -2, 0, -1])
    mirror = torch.tensor([True, False, True, False, True, True])
    if dtype == torch.uint8:
        images = (images * 255).byte()
    picked = shift_and_mirror(images, shift_x, shift_y, mirror, fill)
    assert picked.dtype == dtype
    movement = Movement(shift_x=shift_x / 7, shift_y=shift_y / 9, mirror=mirror)
    expected = move(images.float(), movement, fill)
    tolerance = 1e-2 if dtype == torch.uint8 else 1e-4
    torch.testing.assert_close(picked.float(), expected, atol=tolerance, rtol=0)


def test_blur_equals_scipy_gaussian_filter() -> None:
    images = random_images(2, 3, 12, 15)
    deviation = torch.tensor([0.4, 1.1])
    blurred = colour.blur(images, deviation, 1.2)
    for image, result, sigma in zip(images, blurred, deviation, strict=True):
        for channel, got in zip(image, result, strict=True):
            expected = ndimage.gaussian_filter(
                channel.double().numpy(), float(sigma), mode="nearest", radius=4
            )
            np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


def test_brightness_and_contrast_by_hand() -> None:
    images = random_images(3, 1, 4, 4) * 0.5 + 0.25
    change, factor = torch.tensor([-0.2, 0.0, 0.1]), torch.tensor([0.5, 1.0, 1.4])
    brighter = colour.adjust(images, brightness=change)
    torch.testing.assert_close(brighter - images, change.view(3, 1, 1, 1).expand_as(images))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    expected = mean + (images - mean) * factor.view(3, 1, 1, 1)
    torch.testing.assert_close(colour.adjust(images, contrast=factor), expected.clamp(0, 1))


def test_contrast_and_saturation_equal_pillows() -> None:
    """Independent source: Pillow's ImageEnhance, in 8 bits."""
    images = (random_images(4, 3, 12, 12) * 255).round() / 255
    for factor in (0.0, 0.4, 1.0, 1.7):
        factors = torch.full((4,), factor)
        for name, enhance in (
            ("contrast", ImageEnhance.Contrast),
            ("saturation", ImageEnhance.Color),
        ):
            ours = colour.adjust(images, **{name: factors})
            for image, got in zip(images, ours, strict=True):
                pixels = (image.permute(1, 2, 0) * 255).byte().numpy()
                theirs = np.asarray(enhance(Image.fromarray(pixels)).enhance(factor)) / 255
                np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), theirs, atol=0.011)


def test_hue_turns_the_colour_differences() -> None:
    """Independent source: colorsys of the standard library."""
    images = random_images(2, 3, 1, 3) * 0.2 + 0.4  # so that nothing is clipped
    turns = torch.tensor([0.2, -0.35])
    turned = colour.adjust(images, hue=turns)
    for image, got, turn in zip(images, turned, turns.tolist(), strict=True):
        for before, after in zip(image[:, 0].T.tolist(), got[:, 0].T.tolist(), strict=True):
            y, i, q = colorsys.rgb_to_yiq(*before)
            angle = 2 * math.pi * turn
            expected = (
                y,
                i * math.cos(angle) - q * math.sin(angle),
                i * math.sin(angle) + q * math.cos(angle),
            )
            np.testing.assert_allclose(colorsys.rgb_to_yiq(*after), expected, atol=2e-3)
    grey = torch.full((2, 3, 2, 2), 0.3)
    torch.testing.assert_close(colour.adjust(grey, hue=turns), grey, atol=1e-3, rtol=0)


def test_noise_has_the_deviation_given() -> None:
    images = torch.full((2, 1, 100, 100), 0.5)
    deviation = torch.tensor([0.02, 0.1])
    noisy = colour.noise(images, deviation, gen(2))
    torch.testing.assert_close((noisy - images).std(dim=(1, 2, 3)), deviation, atol=3e-3, rtol=0)


SINGLE = {
    "flip": 0.5,
    "shift": 0.2,
    "crop": 0.5,
    "rotate": 15.0,
    "zoom": 0.2,
    "shear": 10.0,
    "elastic": 0.05,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.5,
    "hue": 0.2,
    "blur": 1.0,
    "noise": 0.1,
    "cutout": 0.3,
}


@pytest.mark.parametrize("name", SINGLE)
def test_each_range_is_per_image_and_reproducible(name: str) -> None:
    images = random_images(1, 3, 12, 10).expand(16, -1, -1, -1)
    policy = Policy(**{name: SINGLE[name]})
    assert not is_identity(policy)
    first, again = (augment(images, gen(3), policy) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(images, gen(4), policy))
    assert len({tuple(image.flatten().tolist()) for image in first}) > 1
    assert first.shape == images.shape


def test_the_list_of_single_ranges_is_whole() -> None:
    others = {"elastic_cells", "choose", "mixup", "cutmix", "fill"}
    assert set(SINGLE) == {field.name for field in fields(Policy)} - others


def test_flip_is_torch_flip() -> None:
    images = random_images(4, 1, 5, 5)
    assert torch.equal(augment(images, gen(), Policy(flip=1.0)), images.flip(3))


def test_cutout_covers_a_square_with_the_mean_colour() -> None:
    images = random_images(64, 3, 20, 20)
    changed = augment(images, gen(), Policy(cutout=0.5))
    for image, result in zip(images, changed, strict=True):
        covered = (result != image).any(dim=0)
        rows, columns = covered.any(dim=1).nonzero(), covered.any(dim=0).nonzero()
        assert covered.sum() == len(rows) * len(columns)  # a box, perhaps cut by the border
        assert 5 <= len(rows) <= 10
        expected = image.mean(dim=(1, 2)).view(3, 1).expand(3, int(covered.sum()))
        torch.testing.assert_close(result[:, covered], expected)


def test_choose_applies_so_many_operations_to_each_image() -> None:
    images = random_images(1, 3, 16, 16).expand(3000, -1, -1, -1)
    policy = Policy(brightness=0.3, blur=1.0, noise=0.2, rotate=30.0, choose=1)
    draw = policies._draw(images, gen(), policy)
    used = torch.stack([draw[name] != 0 for name in ("brightness", "blur", "noise", "rotate")])
    assert (used.sum(dim=0) == 1).all()
    share = used.float().mean(dim=1)
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_grey_images_have_neither_hue_nor_saturation() -> None:
    images = random_images(8, 1, 10, 10)
    assert torch.equal(augment(images, gen(), Policy(hue=0.4, saturation=0.9)), images)


# Mixing


@given(st.floats(0.3, 4.0), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_mixup_is_the_weighted_sum_and_its_shares_are_beta(alpha: float, seed: int) -> None:
    images = random_images(4000, 1, 2, 2, seed=seed)
    mixed, mixing = mix(images, gen(seed), mixup=alpha, cutmix=0.0)
    share = mixing.share.view(-1, 1, 1, 1)
    expected = share * images + (1 - share) * images[mixing.partners]
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=0)
    assert sorted(mixing.partners.tolist()) == list(range(4000))
    test = stats.kstest(mixing.share.double().numpy(), stats.beta(alpha, alpha).cdf)
    assert test.statistic < 0.05


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    images = torch.arange(50.0).view(50, 1, 1, 1).expand(50, 1, 16, 12)
    mixed, mixing = mix(images, gen(1), mixup=0.0, cutmix=1.0)
    for place, (image, partner, share) in enumerate(
        zip(mixed, mixing.partners.tolist(), mixing.share.tolist(), strict=True)
    ):
        if partner == place:
            continue
        assert set(image.unique().tolist()) <= {float(place), float(partner)}
        assert (image == place).float().mean().item() == pytest.approx(share, abs=1e-6)
    assert mixing.share.std() > 0.1


def test_both_kinds_of_mixing_take_turns() -> None:
    images = torch.arange(400.0).view(400, 1, 1, 1).expand(400, 1, 8, 8)
    mixed, _ = mix(images, gen(2), mixup=1.0, cutmix=1.0)
    values = [len(image.unique()) for image in mixed]
    assert 100 < values.count(2) < 300  # boxes; the others are blends, or boxes of nothing


# Views at test time


def test_ten_crops_by_slicing() -> None:
    images = random_images(2, 3, 16, 12)
    views = list(fixed_crops(images, mirror=True, scales=(0.5,)))
    assert len(views) == 10
    resize = partial(torch.nn.functional.interpolate, size=(16, 12), mode="bilinear")
    torch.testing.assert_close(views[0], resize(images[:, :, :8, :6]))
    torch.testing.assert_close(views[1], views[0].flip(3))
    torch.testing.assert_close(views[6], resize(images[:, :, 8:, 6:]))
    torch.testing.assert_close(views[8], resize(images[:, :, 4:12, 3:9]))


def test_the_whole_image_comes_once() -> None:
    images = random_images(2, 1, 8, 8)
    (view,) = fixed_crops(images, mirror=False, scales=(1.0,))
    assert torch.equal(view, images)
    assert len(list(fixed_crops(random_images(1, 3, 32, 32), mirror=True))) == 12


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


@pytest.mark.parametrize("name", list(POLICIES))
def test_narrowed_policies(name: str) -> None:
    """All ranges at once; what is no range stays."""
    policy = POLICIES[name]
    half = narrowed(policy, 0.5)
    assert narrowed(policy, 1.0) == policy
    assert half.rotate == policy.rotate / 2
    assert half.shift == policy.shift / 2
    assert 1 - half.crop == pytest.approx((1 - policy.crop) / 2)
    assert (half.flip, half.choose, half.fill) == (policy.flip, policy.choose, policy.fill)
    still = narrowed(policy, 0.0)
    images = torch.rand(2, 3, 8, 8)
    unflipped = replace(still, flip=0.0)
    assert torch.allclose(augment(images, torch.Generator().manual_seed(0), unflipped), images)


def test_config_changes_single_ranges() -> None:
    policy = resolve("digits", AugmentConfig(rotate=3.0, elastic=0.0), (1, 28, 28))
    assert policy == Policy(
        shift=POLICIES["digits"].shift,
        rotate=3.0,
        zoom=POLICIES["digits"].zoom,
        shear=POLICIES["digits"].shear,
    )


def test_convolutional_networks_see_covered_digits_in_the_strong_view_alone() -> None:
    digit, photo = (1, 28, 28), (3, 32, 32)
    assert view_name("strong", "auto", digit) == "digits_mild"
    assert view_name("strong", "auto", digit, convolutional=True) == "digits_covered"
    assert view_name("strong", "none", digit, convolutional=True) == "none"
    assert view_name("usual", "auto", digit, convolutional=True) == "digits_mild"
    assert view_name("strong", "auto", photo, convolutional=True) == "strong"
