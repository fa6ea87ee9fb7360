"""What the automatic recipe changes in its settings once it has looked at the images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chisquare

from fewlabels.contracts import ImageShape
from fewlabels.networks.wide_resnet import WideResNetConfig
from fewlabels.pretext.denoising_autoencoder import DenoisingAutoencoderConfig
from fewlabels.workflows.judging import ENOUGH_PER_CLASS
from fewlabels.workflows.settings import Settings

_LARGEST_GREY_SIDE = 32
_GRAPH_START = 0.1
_ENOUGH_TO_MIRROR, _KNOWS_SOMETHING = 50, 0.5


@dataclass(frozen=True)
class Seen:
    """What can be said of images and labels before anything is trained.

    Attributes:
        image_shape: (C, H, W).
        sizes: labels of each class that has any, int64.
        num_unlabelled: images without a label.
    """

    image_shape: ImageShape
    sizes: npt.NDArray[np.int64]
    num_unlabelled: int

    @property
    def few(self) -> bool:
        """Whether labels a class are so few that a graph of all images says more than they do."""
        return self.num_unlabelled > 0 and float(self.sizes.mean()) < ENOUGH_PER_CLASS


def adapt(settings: Settings, seen: Seen, tell: Callable[[str], None]) -> Settings:
    """The settings for these images; each decision that is left to it is told in one line."""
    for name in settings.auto.decides:
        changed, sentence = _DECISIONS[name](settings, seen)
        settings = replace(settings, **changed)
        if sentence:
            tell(sentence)
    return settings


_Decision = tuple[dict[str, Any], str]


def _network(settings: Settings, seen: Seen) -> _Decision:
    """Convolutions, but for small grey images."""
    channels, height, width = seen.image_shape
    size = f"{width} × {height} pixels, {'grey' if channels == 1 else 'colour'}"
    if channels == 1 and max(height, width) <= _LARGEST_GREY_SIDE:
        return {}, f"The network has fully connected layers, as images are {size}."
    network = WideResNetConfig(stem_stride=2)
    return {"network": network}, f"The network is a residual one, as images are {size}."


def _alignment(settings: Settings, seen: Seen) -> _Decision:
    """Whether guesses are kept as even as the classes seem to be."""
    chosen = settings.semisupervised
    if seen.num_unlabelled <= 0 or not hasattr(chosen, "alignment"):
        return {}, ""
    even = float(chisquare(seen.sizes).pvalue) > 0.05
    changed = {"semisupervised": replace(chosen, alignment="uniform" if even else "labels")}
    shares = f"{seen.sizes.min()} to {seen.sizes.max()} labels a class"
    if even:
        return changed, f"Classes are taken to be equally common ({shares})."
    return changed, f"Classes are taken to be as common as among the labels ({shares})."


def _start(settings: Settings, seen: Seen) -> _Decision:
    """Whether a graph gives the first guesses, as a head of so few labels would not."""
    chosen = settings.semisupervised
    if not seen.few or not hasattr(chosen, "graph_start"):
        return {}, ""
    return {"semisupervised": replace(chosen, graph_start=_GRAPH_START)}, (
        "The first guesses come from a graph of similar images, as there are fewer than "
        f"{ENOUGH_PER_CLASS} labels a class."
    )


def _pretrained(settings: Settings, seen: Seen) -> _Decision:
    """Where convolutions have labels enough, the time of a pretraining is better spent on both."""
    if not settings.unlabelled.pretrained or not settings.network.convolutional or seen.few:
        return {}, ""
    unlabelled = replace(settings.unlabelled, pretrained=False)
    return {"unlabelled": unlabelled}, (
        "Training on labelled and unlabelled images starts from scratch: there are labels enough, "
        "and a convolutional network takes long to pretrain."
    )


def _pretext(settings: Settings, seen: Seen) -> _Decision:
    """Views of an image that are all the same cannot be compared."""
    if settings.pretext.num_views == 1 or settings.augment_policy != "none":
        return {}, ""
    return {"pretext": DenoisingAutoencoderConfig()}, (
        "Pretraining repairs damaged images in place of comparing views of one, as without "
        "augmentation there is only one view."
    )


_DECISIONS: dict[str, Callable[[Settings, Seen], _Decision]] = {
    "network": _network,
    "alignment": _alignment,
    "graph_start": _start,
    "pretext": _pretext,
    "pretrained": _pretrained,
}


def keep_mirrored(
    right: npt.NDArray[np.bool_], right_mirrored: npt.NDArray[np.bool_], *, colour: bool
) -> bool:
    """Whether images are also shown mirrored, by what a network made of both.

    Photographs are, unless the network was clearly worse on mirrored ones. Grey images, which may
    be letters, are only where enough of them show that nothing is lost.

    Args:
        right: of each held-out image, whether the network was right, (N,).
        right_mirrored: the same for its mirror image.
        colour: whether images are coloured.
    """
    count = len(right)
    difference = float(right_mirrored.mean() - right.mean())
    error = float((right_mirrored.astype(float) - right).std() / math.sqrt(count))
    if colour:
        return difference >= -2 * error
    shown = count >= _ENOUGH_TO_MIRROR and float(right.mean()) >= _KNOWS_SOMETHING
    return shown and difference >= -max(error, 1 / count)
