"""FewLabelsClassifier against scikit-learn's own checks, and on real digits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fewlabels import FewLabelsClassifier

QUICK = {"pretraining_epochs": 5, "widths": (64, 32), "random_state": 0}


@parametrize_with_checks([FewLabelsClassifier(pretraining_epochs=5, widths=(64,), epochs=60)])
def test_scikit_learn_checks(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def few() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits (N, 8, 8), labels of which 60 are known, and all labels."""
    digits = load_digits()
    y = np.full(len(digits.target), -1)
    known = np.random.default_rng(0).permutation(1000)[:60]
    y[known] = digits.target[known]
    return digits.images, y, digits.target


def test_real_digits_beat_logistic_regression_roughly(few) -> None:
    images, _, truth = few
    flat = images.reshape(len(images), -1)
    ours, theirs = [], []
    for draw in range(3):
        known = np.random.default_rng(draw).permutation(1000)[:60]
        y = np.full(len(truth), -1)
        y[known] = truth[known]
        model = FewLabelsClassifier(random_state=draw).fit(images, y)
        baseline = LogisticRegression(max_iter=500).fit(flat[known], truth[known])
        ours.append(model.score(images[1000:], truth[1000:]))
        theirs.append(baseline.score(flat[1000:], truth[1000:]))
    assert np.mean(ours) > np.mean(theirs) - 0.03
    assert list(model.classes_) == list(range(10))


def test_text_classes_and_their_missing_mark(few) -> None:
    images, y, _ = few
    names = np.array(["-1" if label < 0 else f"digit {label}" for label in y])
    by_name = FewLabelsClassifier(**QUICK).fit(images, names)
    by_number = FewLabelsClassifier(**QUICK).fit(images, y)
    assert by_name.classes_[0] == "digit 0"
    np.testing.assert_array_equal(
        by_name.predict(images[:50]), [f"digit {d}" for d in by_number.predict(images[:50])]
    )


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (64,)])
def test_shapes(few, shape: tuple[int, ...]) -> None:
    images, y, _ = few
    X = np.repeat(images[:300, :, :, None], 3, axis=3) if shape[-1] == 3 else images[:300]
    X = X.reshape(300, *shape)
    model = FewLabelsClassifier(**QUICK).fit(X, y[:300])
    assert model.predict_proba(X).shape == (300, len(model.classes_))
    assert model.transform(X).shape == (300, 32)
    with pytest.raises(ValueError, match=r"shape|features"):
        model.predict(X[:, :4] if len(shape) > 1 else X[:, :9])


def test_pipeline_grid_search_and_clone(few) -> None:
    images, _, truth = few
    flat = images.reshape(len(images), -1)[:300]
    pipeline = make_pipeline(StandardScaler(), FewLabelsClassifier(**QUICK))
    assert pipeline.fit(flat, truth[:300]).score(flat, truth[:300]) > 0.8
    search = GridSearchCV(FewLabelsClassifier(**QUICK), {"strategy": ["full", "scratch"]}, cv=2)
    search.fit(flat, truth[:300])
    assert search.best_params_["strategy"] in ("full", "scratch")
    copy = clone(search.best_estimator_)
    assert copy.get_params() == search.best_estimator_.get_params()


def test_pickle_keeps_the_probabilities(few) -> None:
    images, y, _ = few
    model = FewLabelsClassifier(**QUICK).fit(images[:300], y[:300])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict_proba(images[:20]), model.predict_proba(images[:20])
    )


def test_fit_is_repeatable_and_leaves_the_global_generator_alone(few) -> None:
    import torch

    images, y, _ = few
    state = torch.random.get_rng_state()
    first, second = (FewLabelsClassifier(**QUICK).fit(images[:300], y[:300]) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(
        first.predict_proba(images[:50]), second.predict_proba(images[:50])
    )


def test_unlabelled_rows_change_the_model(few) -> None:
    images, y, _ = few
    with_all = FewLabelsClassifier(**QUICK).fit(images, y)
    alone = FewLabelsClassifier(**QUICK).fit(images[y != -1], y[y != -1])
    assert not np.allclose(with_all.predict_proba(images[:20]), alone.predict_proba(images[:20]))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"strategy": "frozne"}, "frozen"),
        ({"mask": 1.5}, "pretext.amount"),
        ({"augment": "wek"}, "weak"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_parameters(few, parameters: dict, words: str) -> None:
    images, y, _ = few
    with pytest.raises(ValueError, match=words):
        FewLabelsClassifier(**parameters).fit(images[:100], y[:100])
