"""Looking at a network before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fewlabels.config import parse_assignments
from fewlabels.contracts import ImageShape
from fewlabels.errors import ConfigError
from fewlabels.networks import NETWORKS, network_settings
from fewlabels.networks.classifier import Classifier, is_fully_connected
from fewlabels.networks.summary import StageSummary, summarise, summarise_decoder
from fewlabels.networks.weights import load_initial
from fewlabels.plots.comparisons import check_picture, write_picture
from fewlabels.plots.network import draw_network

_MOST_CHANNELS, _LARGEST_SIDE = 256, 4_096


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
    if max(height, width) > _LARGEST_SIDE or channels > _MOST_CHANNELS:
        raise ConfigError(
            f"`--image {text}` is larger than any image that is worked on in one piece: at most "
            f"{_MOST_CHANNELS} channels and {_LARGEST_SIDE:,} pixels a side. Use a smaller one."
        )
    return channels, height, width


def describe_network(
    name: str,
    image: str,
    num_classes: int,
    assignments: Sequence[str] = (),
    drawing: Path | None = None,
    weights: str | None = None,
    *,
    decoder: bool = False,
) -> dict[str, Any]:
    """What a network costs for one image, stage by stage.

    Args:
        name: of the network.
        image: CHANNELSxHEIGHTxWIDTH.
        num_classes: outputs of the head.
        assignments: settings of the network, ``network.depth=50``.
        drawing: where to draw it; None for nowhere.
        weights: a file, or "hub": whether they fit is tried; None for not at all.
        decoder: whether what draws images from the features is looked at, too: the network's own
            way up where it has one, else the mirror image that an autoencoder would have.

    Raises:
        ConfigError: an unknown network or setting, images that it cannot take, or weights of
            another architecture.
        StorageError: the drawing cannot be written.
    """
    check_picture(drawing)
    values = parse_assignments(assignments)
    unknown = sorted(set(values) - {"network"})
    if unknown:
        raise ConfigError(
            f"Only settings of [network] have a meaning here. Got {', '.join(unknown)}. "
            "Write for example --set network.depth=50."
        )
    given = values.get("network", {})
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"`network` is a section of settings, not a value. Got {given!r}. "
            "Write for example --set network.depth=50."
        )
    # Looking is no reason to fetch the weights of other libraries' networks.
    usual = {} if name in NETWORKS and name != "pretrained" else {"weights": "none"}
    asked = {"weights": weights} if weights else {}
    settings = network_settings({**usual, **given, "name": name, **asked})
    shape = parse_image_shape(image)
    generator = torch.Generator().manual_seed(0)
    classifier = Classifier(settings.build(shape, generator), num_classes, generator)
    load_initial(classifier.encoder, settings)
    summaries = summarise(classifier.encoder, classifier.head)
    if decoder:
        summaries += _decoder(settings, classifier.encoder, generator)
    stages = [stage.to_dict() for stage in summaries]
    totals = {
        key: sum(stage[key] for stage in stages)
        for key in ("num_parameters", "multiply_adds", "activation_bytes")
    }
    if drawing is not None:
        title = f"{name}: {totals['num_parameters']:,} parameters"
        write_picture(draw_network(title, shape, stages), drawing)
    return {
        "network": name,
        "image_shape": list(shape),
        "num_classes": num_classes,
        "fully_connected_only": is_fully_connected(classifier),
        "stages": stages,
        "total": totals,
        "drawing": None if drawing is None else str(drawing),
    }


def _decoder(settings: Any, encoder: Any, generator: torch.Generator) -> list[StageSummary]:
    """The network's own way up to an image, or the mirror image of its way down."""
    image = torch.zeros(1, *encoder.image_shape)
    encoder.eval()
    with torch.no_grad():
        if hasattr(settings, "build_dense"):
            up = settings.build_dense(encoder, encoder.image_shape[0], generator)
            return summarise_decoder(up, encoder.levels(image))
        mirror = settings.build_decoder(
            encoder.image_shape, encoder.num_features, "sigmoid", generator
        )
        return summarise_decoder(mirror, encoder(image))
