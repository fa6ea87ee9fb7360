"""``FewLabelsClassifier``: the engine behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fewlabels.data.batches import as_tensor, to_float
from fewlabels.estimator.arrays import learn_scaling, to_images
from fewlabels.lookup import find
from fewlabels.transfer import STRATEGIES
from fewlabels.workflows.phases import Context, LabelledImages, train_classifier
from fewlabels.workflows.pretraining import pretrain
from fewlabels.workflows.settings import Settings, build_settings

NO_LABEL_TEXTS = ("-1", "")
"""What marks a missing label in an array of text classes."""

MIN_STEPS = 150
"""Optimiser steps that even the smallest data set gets, so that a few images are learnt."""


class FewLabelsClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier that learns from all images first, from the labelled ones second.

    An autoencoder is trained on every row of `X`; its encoder is then trained on the rows that have
    a label.

    Parameters
    ----------
    widths : tuple of int, default=(256, 128)
        Outputs of the encoder's hidden layers.

    strategy : {"full", "frozen", "discriminative", "gradual", "scratch"}, default="full"
        What happens to the encoder once labels come in; "scratch" leaves the pretraining out.

    mask : float, default=0.3
        Share of the pixels hidden from the autoencoder, in [0, 1).

    augment : {"auto", "none", "weak", "strong", "digits"}, default="auto"
        Changes that leave a class what it is, for images; tables are never augmented. "auto" takes
        "digits" for small grey images, else "weak".

    pretraining_epochs : int, default=30
        Passes over all rows.

    epochs : int, default=200
        Passes over the labelled rows; more are made where that would be under 150 steps.

    batch_size : int, default=64
        Rows in a step.

    learning_rate : float, default=0.002
        Of AdamW, at its highest, in both phases.

    weight_decay : float, default=0.01
        Of AdamW in the second phase.

    device : str, default="cpu"
        "cpu", "cuda", "mps" or "auto".

    precision : str, default="32"
        Of training: "32", "bf16" or "auto". Prediction is always exact to float64.

    random_state : int, RandomState instance or None, default=None
        Two fits with the same int give the same model.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, the mark of a missing label not among them.

    n_features_in_ : int
        Number of values per row of `X`, for images over height, width and channels.

    n_iter_ : int
        Optimiser steps on labelled rows.

    image_shape_ : tuple
        Shape of one row of `X`.

    Notes
    -----
    ``y == -1`` means "no label", scikit-learn's convention for semi-supervised learning; among text
    classes "-1" and the empty text mean it. Where ``-1`` is the only thing beside one other class,
    as in ``{-1, 1}``, there would be nothing to tell apart, so ``-1`` is then taken as a class.

    ``GridSearchCV`` scores on all rows of a fold; leave rows without a label out of the scoring by
    a splitter that puts them into training only.

    References
    ----------
    Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fewlabels import FewLabelsClassifier
    >>> digits = load_digits()
    >>> y = digits.target.copy()
    >>> y[100:] = -1
    >>> model = FewLabelsClassifier(pretraining_epochs=3, random_state=0).fit(digits.images, y)
    >>> model.predict(digits.images[:3]).shape
    (3,)
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (256, 128),
        strategy: str = "full",
        mask: float = 0.3,
        augment: str = "auto",
        pretraining_epochs: int = 30,
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 0.002,
        weight_decay: float = 0.01,
        device: str = "cpu",
        precision: str = "32",
        random_state: Any = None,
    ) -> None:
        self.widths = widths
        self.strategy = strategy
        self.mask = mask
        self.augment = augment
        self.pretraining_epochs = pretraining_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> FewLabelsClassifier:
        """Learn from all rows of `X`, then from those whose `y` is a label.

        Parameters
        ----------
        X : array-like of shape (N, H, W), (N, H, W, C) or (N, D)
            uint8, or numbers of any range.
        y : array-like of shape (N,)
            Class labels; -1 for none.

        Returns
        -------
        self : FewLabelsClassifier
        """
        X, y = validate_data(self, X, y, allow_nd=True, ensure_min_samples=2)
        check_classification_targets(y)
        labelled, self.classes_, codes = _read_labels(y)
        self.image_shape_ = X.shape[1:]
        self.n_features_in_ = int(np.prod(self.image_shape_)) if X.ndim > 2 else X.shape[1]
        self.scaling_ = learn_scaling(X)
        images = to_images(self.scaling_.apply(X))
        settings = self._settings(X.ndim > 2, int(labelled.sum()))
        context = Context.of(settings)
        state = None
        if self.strategy != "scratch":
            state = pretrain(context, images).encoder.state_dict()
        trained = train_classifier(
            context,
            "fit",
            LabelledImages(images[labelled], codes),
            None,
            len(self.classes_),
            encoder_state=state,
            strategy=None if self.strategy == "scratch" else self.strategy,
            statistics_from=images,
        )
        # Sums of many float32 products depend on the batch around a row; those of float64 do not,
        # up to what anybody can see.
        self.model_ = trained.classifier.cpu().double().eval()
        self.n_iter_ = trained.phase.steps
        return self

    def _settings(self, are_images: bool, num_labelled: int) -> Settings:
        if self.strategy != "scratch":
            find(STRATEGIES, self.strategy, "transfer strategy")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        steps = -(-num_labelled // max(1, self.batch_size))
        few_steps = 0 < self.epochs * steps < MIN_STEPS
        epochs = -(-MIN_STEPS // steps) if few_steps else self.epochs
        optimiser = {"name": "adamw", "learning_rate": self.learning_rate}
        return build_settings(
            {
                "run": {"seed": seed, "device": self.device, "precision": self.precision},
                "network": {"name": "mlp", "widths": list(self.widths), "activation": "gelu"},
                "pretext": {
                    "name": "denoising_autoencoder",
                    "amount": self.mask,
                    "output": "linear",
                    "augmented": False,
                },
                "pretraining": {
                    "epochs": self.pretraining_epochs,
                    "batch_size": self.batch_size,
                    "optimiser": {**optimiser, "weight_decay": 0.0},
                },
                "training": {
                    "epochs": epochs,
                    "batch_size": self.batch_size,
                    "optimiser": {**optimiser, "weight_decay": self.weight_decay},
                },
                "augment": {"name": self.augment if are_images else "none"},
            }
        )

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Class probabilities, float64 (N, K), columns as in `classes_`."""
        images = self._read(X)
        with torch.inference_mode():
            return np.asarray(self.model_(images).softmax(1).numpy())

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable class of each row."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def transform(self, X: Any) -> npt.NDArray[np.float64]:
        """Features of the encoder, float64 (N, D)."""
        images = self._read(X)
        with torch.inference_mode():
            return np.asarray(self.model_.encoder(images).numpy())

    def _read(self, X: Any) -> torch.Tensor:
        check_is_fitted(self, "model_")
        # Scikit-learn counts columns; images are checked by their shape instead.
        if len(self.image_shape_) == 1:
            X = validate_data(self, X, allow_nd=True, reset=False)
        else:
            X = check_array(X, allow_nd=True)
        if X.shape[1:] != self.image_shape_:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but FewLabelsClassifier was fitted on rows of "
                f"shape {self.image_shape_}."
            )
        return to_float(as_tensor(to_images(self.scaling_.apply(X)))).double()

    def __sklearn_tags__(self) -> Any:
        """Tables or images; the same seed gives the same model."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        return tags


def _read_labels(
    y: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Which rows have a label, the classes, and int64 codes of the labelled rows."""
    if y.dtype.kind in "biuf":
        missing = y == -1
    else:
        missing = np.array([value is None or str(value) in NO_LABEL_TEXTS for value in y])
    # With one class besides -1 there would be nothing to learn: then -1 is a class itself.
    if len(np.unique(y[~missing])) < 2:
        missing = np.zeros(len(y), dtype=bool)
    classes, codes = np.unique(y[~missing], return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"FewLabelsClassifier needs labels of at least 2 classes, got {len(classes)} class. "
            "Rows with y == -1 count as unlabelled."
        )
    return ~missing, classes, codes.astype(np.int64)
