"""Networks by name: one encoder a file, decoders that mirror them, and the classifier on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.networks.resnet import ResNetConfig

NETWORKS: Mapping[str, type[Any]] = {
    "lenet": LeNetConfig,
    "mlp": MLPConfig,
    "resnet": ResNetConfig,
}
"""From network name to its settings class; ``settings.build(image_shape, generator)`` builds it."""
