"""fewlabels: an image classifier from many images and few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewlabels.data.image_set import ImageSet
    from fewlabels.estimator import FewLabelsClassifier

__version__ = "0.1.0"

__all__ = ["FewLabelsClassifier", "ImageSet", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the public classes when they are first used: torch alone costs seconds."""
    if name == "FewLabelsClassifier":
        from fewlabels.estimator import FewLabelsClassifier

        return FewLabelsClassifier
    if name == "ImageSet":
        from fewlabels.data.image_set import ImageSet

        return ImageSet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
