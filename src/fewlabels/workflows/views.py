"""Views of an image over which a prediction is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from fewlabels.augment.policies import (
    Policy,
    augment,
    is_identity,
    narrowed,
    resolve,
    view_name,
)
from fewlabels.augment.views import fixed_crops
from fewlabels.contracts import ImageShape
from fewlabels.evaluation.predict import Views
from fewlabels.lookup import find
from fewlabels.randomness import generator
from fewlabels.runs.run_folder import RunFolder
from fewlabels.workflows.model import AnyModel, BaselineModel
from fewlabels.workflows.settings import Settings, build_settings

NUM_AUGMENTED_VIEWS = 8

_WIDTH = 0.5
"""Of training's ranges: views as wide as in training blur what the network knows of the image. On
training images of MNIST whose labels were hidden, views half as wide did better in networks with
and without convolutions."""


def _crops(settings: Settings, image_shape: ImageShape) -> Views:
    # Where training never mirrored, a mirrored image may be another thing.
    return partial(fixed_crops, mirror=_policy(settings, image_shape).flip > 0)


def _augmented(settings: Settings, image_shape: ImageShape) -> Views | None:
    policy = narrowed(_policy(settings, image_shape), _WIDTH)
    if is_identity(policy):
        return None

    def views(images: Tensor) -> Iterator[Tensor]:
        yield images
        for number in range(NUM_AUGMENTED_VIEWS):
            # Anew for each batch, so that an image's answer hangs on its place within one alone.
            draw = generator(settings.run.seed, "views", number, device=images.device)
            yield augment(images, draw, policy)

    return views


def _policy(settings: Settings, image_shape: ImageShape) -> Policy:
    """How labelled images are changed in joint training: what is wider blurs predictions."""
    name = view_name("usual", settings.augment_policy, image_shape)
    return resolve(name, settings.augment, image_shape)


VIEWS: dict[str, Callable[[Settings, ImageShape], Views | None]] = {
    "single": lambda settings, image_shape: None,
    "crops": _crops,
    "augmented": _augmented,
}
"""From the name of a kind of views to what makes them; their probabilities are averaged."""


def run_settings(folder: RunFolder) -> Settings:
    """Settings of a finished run, with what it has decided of mirroring.

    Raises:
        RunError: the run is unfinished.
    """
    settings = build_settings(folder.read_config())
    flip = folder.read_result().get("flip", settings.augment.flip)
    return replace(settings, augment=replace(settings.augment, flip=flip))


def make_views(settings: Settings, model: AnyModel, kind: str = "auto") -> Views | None:
    """What the probabilities of a prediction are averaged over; None for the image alone.

    Args:
        settings: of the run.
        model: that predicts.
        kind: "single", "crops", "augmented", or "auto" for what the run's settings say. Where
            these leave it open, images are seen as they are by baselines, which have learnt from
            such, and by convolutional networks without mirroring: they answer alike wherever a
            thing is, and did no better with views.

    Raises:
        UnknownNameError: no such kind of views.
    """
    if kind == "auto":
        kind = "single" if isinstance(model, BaselineModel) else settings.prediction.views
    if kind == "auto":
        mirrors = _policy(settings, model.image_shape).flip > 0
        kind = "single" if settings.network.convolutional and not mirrors else "augmented"
    return find(VIEWS, kind, "kind of views")(settings, model.image_shape)
