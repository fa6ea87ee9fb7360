"""Looking at a network before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fewlabels.config import parse_assignments
from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError
from fewlabels.files import write_atomically
from fewlabels.networks import network_settings
from fewlabels.networks.classifier import Classifier, is_fully_connected
from fewlabels.networks.summary import summarise
from fewlabels.networks.weights import load_initial
from fewlabels.plots.figure import write_figure
from fewlabels.plots.network import draw_network

_ENDINGS = (".svg", ".png", ".pdf")


def parse_image_shape(text: str) -> ImageShape:
    """``1x28x28`` as (C, H, W).

    Raises:
        ConfigError: it is not of that form.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"`--image {text}` is not of the form CHANNELSxHEIGHTxWIDTH. "
            "Write for example --image 3x32x32."
        )
    channels, height, width = map(int, parts)
    return channels, height, width


def describe_network(
    name: str,
    image: str,
    num_classes: int,
    assignments: Sequence[str] = (),
    drawing: Path | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """What a network costs for one image, stage by stage.

    Args:
        name: of the network.
        image: CHANNELSxHEIGHTxWIDTH.
        num_classes: outputs of the head.
        assignments: settings of the network, ``network.depth=50``.
        drawing: where to draw it; None for nowhere.
        weights: a file, or "hub": whether they fit is tried; None for not at all.

    Raises:
        ConfigError: an unknown network or setting, images that it cannot take, or weights of
            another architecture.
        StorageError: the drawing cannot be written.
    """
    if drawing is not None and drawing.suffix.lower() not in _ENDINGS:
        raise ConfigError(
            f"The drawing {drawing} must end in {', '.join(_ENDINGS)}. Got {drawing.suffix!r}."
        )
    values = parse_assignments(assignments)
    unknown = sorted(set(values) - {"network"})
    if unknown:
        raise ConfigError(
            f"Only settings of [network] have a meaning here. Got {', '.join(unknown)}. "
            "Write for example --set network.depth=50."
        )
    asked = {"weights": weights or "none"} if weights or ":" in name else {}
    settings = network_settings({**values.get("network", {}), "name": name, **asked})
    shape = parse_image_shape(image)
    generator = torch.Generator().manual_seed(0)
    classifier = Classifier(settings.build(shape, generator), num_classes, generator)
    load_initial(classifier.encoder, settings)
    stages = [stage.to_dict() for stage in summarise(classifier.encoder, classifier.head)]
    totals = {
        key: sum(stage[key] for stage in stages)
        for key in ("num_parameters", "multiply_adds", "activation_bytes")
    }
    if drawing is not None:
        title = f"{name}: {totals['num_parameters']:,} parameters"
        figure = draw_network(title, shape, stages)
        ending = drawing.suffix.lower().removeprefix(".")
        write_atomically(drawing, lambda file: write_figure(figure, file, ending))
    return {
        "network": name,
        "image_shape": list(shape),
        "num_classes": num_classes,
        "fully_connected_only": is_fully_connected(classifier),
        "stages": stages,
        "total": totals,
        "drawing": None if drawing is None else str(drawing),
    }
