"""What AlexNet and VGG share: convolutions, a pooling to a fixed size, large layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabels.blocks.standardise import Standardise
from fewlabels.contracts import Encoder


class ClassicEncoder(Encoder):
    """Maps, pooled and flattened, through layers; parts are named as torchvision names them.

    Attributes:
        head_keys: what torchvision calls the layer that stands in our head.
        standardise: of the pixels.
        features: convolutions.
        avgpool: to maps of a fixed size.
        classifier: layers before the head.
    """

    head_keys = ("classifier.6",)

    standardise: Standardise
    features: nn.Sequential
    avgpool: nn.AdaptiveAvgPool2d
    classifier: nn.Sequential

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, C', H', W')."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.features(pixels)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        features: Tensor = self.classifier(self.avgpool(self.forward_features(images)).flatten(1))
        return features
