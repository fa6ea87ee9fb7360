"""Networks by name: one encoder a file, decoders that mirror them, and the classifier on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabels.config import build_named
from fewlabels.networks.alexnet import AlexNetConfig
from fewlabels.networks.conv_lstm import ConvLSTMConfig
from fewlabels.networks.fcn import FCNConfig
from fewlabels.networks.inception import InceptionConfig
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mixer import MixerConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.networks.pretrained import LIBRARIES, PretrainedConfig
from fewlabels.networks.residual_mlp import ResidualMLPConfig
from fewlabels.networks.resnet import ResNetConfig
from fewlabels.networks.row_rnn import RowRNNConfig
from fewlabels.networks.segnet import SegNetConfig
from fewlabels.networks.unet import UNetConfig
from fewlabels.networks.vgg import VGGConfig
from fewlabels.networks.vision_transformer import VisionTransformerConfig
from fewlabels.networks.wide_resnet import WideResNetConfig
from fewlabels.networks.xception import XceptionConfig

NETWORKS: Mapping[str, type[Any]] = {
    "alexnet": AlexNetConfig,
    "conv_lstm": ConvLSTMConfig,
    "fcn": FCNConfig,
    "inception": InceptionConfig,
    "lenet": LeNetConfig,
    "mixer": MixerConfig,
    "mlp": MLPConfig,
    "pretrained": PretrainedConfig,
    "residual_mlp": ResidualMLPConfig,
    "resnet": ResNetConfig,
    "row_rnn": RowRNNConfig,
    "segnet": SegNetConfig,
    "unet": UNetConfig,
    "vgg": VGGConfig,
    "vision_transformer": VisionTransformerConfig,
    "wide_resnet": WideResNetConfig,
    "xception": XceptionConfig,
}
"""From network name to its settings class; ``settings.build(image_shape, generator)`` builds it."""


def network_settings(values: Mapping[str, Any]) -> Any:
    """Settings of the network that ``values["name"]`` chooses; LIBRARY:NAME is short for it.

    Raises:
        ConfigError: unknown keys, wrong types, values out of range.
        UnknownNameError: no network of that name.
    """
    name = str(values.get("name", ""))
    if name.partition(":")[0] in LIBRARIES:
        values = {**values, "name": "pretrained", "model": name}
    return build_named(NETWORKS, values, "network", "network")
