"""Metrics against scikit-learn, scipy and published numbers; prediction in batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference
from torch import nn

from fewlabels.errors import DataError
from fewlabels.evaluation.metrics import evaluate, paired_difference, wilson_interval
from fewlabels.evaluation.predict import evaluating, extract_features, predict_probabilities


def random_problem(
    seed: int, num_images: int = 400, num_classes: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_images)
    scores = rng.normal(size=(num_images, num_classes))
    scores[np.arange(num_images), labels] += 1
    chances = np.exp(scores)
    return chances / chances.sum(axis=1, keepdims=True), labels


def names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def test_metrics_agree_with_scikit_learn() -> None:
    chances, labels = random_problem(0)
    found = evaluate(chances, labels, names(6))
    guesses = chances.argmax(axis=1)
    assert found.num_images == 400
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, guesses))
    assert found.balanced_accuracy == pytest.approx(
        reference.balanced_accuracy_score(labels, guesses)
    )
    assert found.macro_f1 == pytest.approx(reference.f1_score(labels, guesses, average="macro"))
    assert found.log_loss == pytest.approx(reference.log_loss(labels, chances))
    assert np.array_equal(found.confusion, reference.confusion_matrix(labels, guesses))
    precision, recall, _, _ = reference.precision_recall_fscore_support(labels, guesses)
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert list(found.top_k) == [2, 3, 5]
    for k, share in found.top_k.items():
        assert share == pytest.approx(reference.top_k_accuracy_score(labels, chances, k=k))


def test_absent_classes_are_left_out_of_the_means() -> None:
    # Class 2 occurs nowhere, class 3 only among the predictions.
    labels = np.array([0, 0, 1, 1])
    guesses = np.array([0, 3, 1, 1])
    found = evaluate(np.eye(4)[guesses], labels, names(4))
    assert found.recall == (0.5, 1.0, None, None)
    assert found.precision == (1.0, 1.0, None, 0.0)
    assert found.balanced_accuracy == reference.recall_score(
        labels, guesses, labels=[0, 1], average="macro"
    )
    assert found.macro_f1 == pytest.approx(reference.f1_score(labels, guesses, average="macro"))


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    found = evaluate(np.array([[1.0, 0.0]]), np.array([1]), names(2))
    assert found.log_loss == pytest.approx(-np.log(np.finfo(float).eps))
    assert found.top_k == {}


def test_calibration_error_by_hand() -> None:
    # Bin (0.8, 0.867]: 0.85 and 0.81, one right; bin (0.533, 0.6]: 0.6, right.
    # ECE = 2/3 * |1/2 - 0.83| + 1/3 * |1 - 0.6| = 0.22 + 0.4/3
    chances = np.array([[0.85, 0.15], [0.19, 0.81], [0.6, 0.4]])
    found = evaluate(chances, np.array([0, 0, 0]), names(2))
    assert found.calibration_error == pytest.approx(2 / 3 * 0.33 + 0.4 / 3)
    filled = {index: one for index, one in enumerate(found.reliability) if one.num_images}
    assert {index: one.num_images for index, one in filled.items()} == {8: 1, 12: 2}
    assert filled[12].confidence == pytest.approx(0.83)
    assert filled[12].accuracy == 0.5
    assert len(found.reliability) == 15


def test_predictions_as_often_right_as_they_say_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    top = rng.uniform(0.5, 1, 200_000)
    labels = (rng.uniform(size=len(top)) > top).astype(np.int64)
    found = evaluate(np.stack([top, 1 - top], axis=1), labels, names(2))
    assert found.calibration_error < 0.01


@pytest.mark.parametrize(
    ("num_correct", "num_images", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven
        # methods", 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_agrees_with_newcombe(
    num_correct: int, num_images: int, low: float, high: float
) -> None:
    assert wilson_interval(num_correct, num_images) == pytest.approx((low, high), abs=6e-5)


@settings(deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_scipy(case: tuple[int, int]) -> None:
    expected = stats.binomtest(*case).proportion_ci(method="wilson")
    low, high = wilson_interval(*case)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= case[0] / case[1] <= high <= 1


def test_paired_difference_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.9, 0.02, 10), rng.normal(0.85, 0.02, 10)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    mean, low, high, n = paired_difference(a.tolist(), b.tolist())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(a.mean() - b.mean())
    assert n == 10


def test_paired_difference_of_students_sleep_data() -> None:
    # Student 1908, extra hours of sleep under two drugs: mean difference 1.58; the 95 % interval
    # 0.70 to 2.46 is R's t.test(extra ~ group, data = sleep, paired = TRUE).
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_difference(second, first)
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_pairs_without_spread_or_number() -> None:
    assert paired_difference([0.75, 0.5], [0.5, 0.25]) == (0.25, 0.25, 0.25, 2)
    assert paired_difference([0.75], [0.5]) == (0.25, None, None, 1)
    with pytest.raises(DataError, match="two lists of equal length"):
        paired_difference([], [])


def test_an_evaluation_is_fit_for_json() -> None:
    chances, labels = random_problem(3)
    values = evaluate(chances.astype(np.float32), labels, names(6)).to_dict()
    again = json.loads(json.dumps(values, allow_nan=False))
    assert again == values
    assert again["top_k"].keys() == {"2", "3", "5"}
    assert len(again["interval"]) == 2


@pytest.mark.parametrize(
    ("chances", "labels", "message"),
    [
        (np.zeros((0, 2)), [], "nothing to evaluate"),
        (np.full((2, 3), 1 / 3), [0, 1], r"must have shape \(2, 2\)"),
        (np.full((2, 2), 0.5), [0, -1], "1 of 2 images to evaluate have no label"),
        (np.full((2, 2), 0.5), [0, 2], "Labels must lie in 0…1"),
        (np.full((2, 2), np.nan), [0, 1], "Predicted probabilities must lie"),
        (np.full((2, 2), 0.7), [0, 1], "Predicted probabilities must lie"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    chances: np.ndarray, labels: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(chances, np.array(labels, dtype=np.int64), names(2))


def small_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        )


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    model = small_network()
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 2), dtype=np.uint8)
    whole = predict_probabilities(model, images, device="cpu")
    for batch_size in (1, 7, 50, 51):
        pieces = predict_probabilities(model, images, device="cpu", batch_size=batch_size)
        np.testing.assert_allclose(pieces, whole, atol=1e-6)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    with evaluating(model), torch.inference_mode():
        direct = model(torch.from_numpy(images).float() / 255).softmax(dim=1)
    np.testing.assert_allclose(whole, direct.numpy(), atol=1e-6)


def test_bytes_and_floats_give_the_same_features() -> None:
    model = small_network()
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 2), dtype=np.uint8)
    images.flags.writeable = False  # as from a memory-mapped cache
    features = extract_features(model, images, device="cpu", batch_size=4)
    assert features.dtype == np.float32
    assert features.shape == (9, 3)
    floats = images.astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(extract_features(model, floats, device="cpu"), features, atol=1e-6)


def test_each_part_keeps_its_own_training_mode() -> None:
    model = small_network()
    model.train()
    model[2].eval()  # a frozen batch norm inside a network under training
    statistics = model[2].running_mean.clone()
    predict_probabilities(model, np.zeros((4, 3, 2, 2), np.uint8), device="cpu")
    assert [part.training for part in model] == [True, True, False, True, True]
    assert torch.equal(model[2].running_mean, statistics)


def test_autocast_outside_does_not_blur_the_numbers() -> None:
    model = small_network()
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 2), dtype=np.uint8)
    plain = predict_probabilities(model, images, device="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(predict_probabilities(model, images, device="cpu"), plain)


def test_views_are_averaged() -> None:
    model = small_network()
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 2), dtype=np.uint8)
    mirrored = np.ascontiguousarray(images[..., ::-1])
    both = predict_probabilities(
        model, images, device="cpu", views=lambda batch: [batch, batch.flip(3)]
    )
    alone = [predict_probabilities(model, part, device="cpu") for part in (images, mirrored)]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)


def test_bfloat16_predictions_are_close_and_asked_for() -> None:
    model = small_network()
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 2, 2), dtype=np.uint8)
    exact = predict_probabilities(model, images, device="cpu")
    rounded = predict_probabilities(model, images, device="cpu", precision="bf16")
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.02)


def test_no_images_give_no_rows_of_the_right_width() -> None:
    nothing = np.zeros((0, 3, 2, 2), np.uint8)
    assert predict_probabilities(small_network(), nothing, device="cpu").shape == (0, 3)
