"""Baselines on real digits: a contract over the table, sane accuracies, bounded cost."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from fewlabels.errors import DataError, UnknownNameError
from fewlabels.evaluation import baseline_task
from fewlabels.evaluation.baseline_task import BaselineTask, flatten
from fewlabels.evaluation.baselines import BASELINES, fit_baseline, run_baselines


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 real 8x8 digits as uint8 images."""
    bunch = load_digits()
    return (bunch.images * 15).astype(np.uint8)[:, None], bunch.target.astype(np.int64)


def per_class(labels: np.ndarray, count: int, num_classes: int = 10) -> np.ndarray:
    return np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(num_classes)])


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("num_classes", "count"), [(2, 2), (2, 20), (10, 3), (10, 20)])
def test_every_baseline_learns_from_few_labels(
    name: str, num_classes: int, count: int, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    train = per_class(labels, count, num_classes)
    judged = np.setdiff1d(np.flatnonzero(labels < num_classes), train)
    guesses = fit_baseline(name, images[train], labels[train], images, seed=0).predict(
        images[judged]
    )
    assert guesses.dtype == np.int64
    assert guesses.shape == judged.shape
    accuracy = np.mean(guesses == labels[judged])
    if name == "majority_class":
        assert np.all(guesses == 0)  # all classes are equally common: the first
    else:
        assert accuracy > (0.9 if num_classes == 2 else 0.6 if count == 3 else 0.8)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_reproducible(name: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    first, again = (
        fit_baseline(name, images[:100], labels[:100], images, seed=3).predict(images[100:400])
        for _ in range(2)
    )
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("value", [0, 1])
def test_constant_images_do_no_harm(name: str, dtype: type, value: int) -> None:
    images = np.full((6, 3, 4, 5), value, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        baseline = fit_baseline(name, images, np.array([0, 1, 0, 1, 0, 1]), images[:1], seed=0)
        guesses = baseline.predict(images)
    assert set(guesses) <= {0, 1}


@pytest.mark.parametrize("name", BASELINES)
def test_slow_convergence_is_kept_to_ourselves(name: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (60, 1, 6, 6)).astype(np.float32) ** 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_baseline(name, images, rng.integers(0, 5, 60), images, seed=0).predict(images)


@pytest.mark.parametrize("name", BASELINES)
def test_a_single_class_is_always_predicted(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 3, 3), dtype=np.uint8)
    baseline = fit_baseline(name, images, np.full(5, 2), images, seed=0)
    assert baseline.predict(images).tolist() == [2] * 5
    assert baseline.predict(images[:0]).shape == (0,)


def test_results_agree_with_scikit_learn_used_plainly(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = digits
    pixels = (images.reshape(len(images), -1) / 255).astype(np.float32)
    known, known_labels, judged = pixels[:300], labels[:300], pixels[300:]
    nearest = KNeighborsClassifier(1).fit(known, known_labels).predict(judged)
    machine = SVC(C=3).fit(known, known_labels).predict(judged)
    mean = known.mean(axis=0)
    length = np.sqrt(64 * (known - mean).var())
    logistic = LogisticRegression(C=10, max_iter=500).fit((known - mean) / length, known_labels)
    expected = {
        "nearest_neighbour": nearest,
        "svm_pixels": machine,
        "logistic_regression_pixels": logistic.predict((judged - mean) / length),
    }
    for name, guesses in expected.items():
        found = fit_baseline(name, images[:300], known_labels, images, seed=0)
        assert np.mean(found.predict(images[300:]) != guesses) < 0.002, name


def test_all_baselines_run_and_report(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    results = run_baselines(
        images[:200], labels[:200], images[:1500], images[1500:], labels[1500:], seed=0
    )
    assert [result.name for result in results] == list(BASELINES)
    for result in results:
        assert result.n == 297
        assert result.accuracy == result.num_correct / result.n
        assert result.interval[0] <= result.accuracy <= result.interval[1]
        assert (result.num_labels, result.note) == (200, "")
        assert result.seconds < 10
        values = result.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert results[0].accuracy < 0.2 < 0.8 < results[-1].accuracy


def test_many_labels_are_cut_down_stratified_and_said() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [8000, 3999, 1])
    images = rng.integers(0, 256, (12_000, 1, 2, 2), dtype=np.uint8)
    task = BaselineTask(images, labels, images, seed=0)
    assert np.bincount(task.labels).tolist() == [3333, 1666, 1]
    baseline = fit_baseline("majority_class", images, labels, images, seed=0)
    assert baseline.note == "fitted on 5,000 of 12,000 labels"
    assert baseline.num_labels == 5000


def test_large_images_are_averaged_down() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 20), dtype=np.uint8)
    small = images.reshape(3, 3, 32, 2, 20).mean(axis=3) / 255
    np.testing.assert_allclose(flatten(images), small.reshape(3, -1), atol=1e-6)


def test_principal_components_come_from_the_pool(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    task = BaselineTask(images[:30], labels[:30], images, seed=0)
    scores = task.components(flatten(images))
    assert scores.shape == (len(images), baseline_task.NUM_COMPONENTS)
    # Scores of all images are uncorrelated and centred only if they were fitted on all images.
    covariance = np.cov(scores, rowvar=False)
    off_diagonal = covariance - np.diag(np.diag(covariance))
    assert np.abs(off_diagonal).max() < 0.01 * covariance.max()
    assert np.abs(scores.mean(axis=0)).max() < 1e-3


def test_unknown_names_and_missing_labels_are_refused(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = digits
    with pytest.raises(UnknownNameError, match="'svm_pixels'"):
        fit_baseline("svm_pixel", images[:9], labels[:9], images, seed=0)
    with pytest.raises(DataError, match="Label some"):
        fit_baseline("svm_pixels", images[:0], labels[:0], images, seed=0)
    with pytest.raises(DataError, match="to be judged on"):
        run_baselines(images[:9], labels[:9], images, images[:0], labels[:0], seed=0)


@pytest.mark.real_data
def test_300_labels_of_mnist(real_data: Path) -> None:
    def read(name: str, header: int) -> np.ndarray:
        raw = gzip.decompress((real_data / "mnist" / f"{name}.gz").read_bytes())
        return np.frombuffer(raw, dtype=np.uint8, offset=header)

    images = read("train-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28)
    labels = read("train-labels-idx1-ubyte", 8).astype(np.int64)
    results = run_baselines(
        images[:300], labels[:300], images[:10_000], images[-2000:], labels[-2000:], seed=0
    )
    accuracy = {result.name: result.accuracy for result in results}
    assert 0.05 < accuracy["majority_class"] < 0.2
    assert 0.75 < accuracy["nearest_neighbour"] < 0.92
    assert 0.75 < accuracy["logistic_regression_pixels"] < 0.92
    assert 0.75 < accuracy["logistic_regression_pca"] < 0.92
    assert 0.80 < accuracy["svm_pixels"] < 0.94
    assert 0.80 < accuracy["svm_pca"] < 0.94
    assert sum(result.seconds for result in results) < 30
