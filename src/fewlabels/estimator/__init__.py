"""The scikit-learn door."""

from fewlabels.estimator.classifier import FewLabelsClassifier

__all__ = ["FewLabelsClassifier"]
