"""Wide residual network: few blocks of many maps."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.activations import KeepingActivationName, activation
from fewlabels.blocks.dropout import StochasticDepth
from fewlabels.blocks.initialisation import empty_convolution, initialise
from fewlabels.blocks.norms import NormName, map_norm
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig


@dataclass(frozen=True, kw_only=True, config=RULES)
class WideResNetConfig(ConvolutionalConfig):
    """Settings of the wide residual network; stem 16 with 4 blocks is WRN-28-2."""

    name: Literal["wide_resnet"] = "wide_resnet"
    # Maps of the stages; each stage but the first halves the sides.
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128), min_length=1)
    # Maps of the first convolution; "auto" is the first of the widths.
    stem: PositiveInt | Literal["auto"] = "auto"
    # Of the first convolution; 2 halves the sides at once, which costs a quarter of the time.
    stem_stride: PositiveInt = 1
    # Residual blocks of two convolutions in each stage.
    blocks: PositiveInt = 1
    activation: KeepingActivationName = "relu"
    norm: NormName = "batch"
    # Probability that a residual branch of the last stage is left out; it grows linearly to there.
    stochastic_depth: float = Field(default=0.0, ge=0.0, lt=1.0)

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> WideResNet:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        return WideResNet(self, image_shape, generator)


class Residual(nn.Module):
    """``x + conv(act(norm(conv(act(norm(x))))))``; where the shape changes, x is convolved too.

    Source: Identity Mappings in Deep Residual Networks (He et al., 2016).
    """

    def __init__(
        self,
        config: WideResNetConfig,
        num_inputs: int,
        num_outputs: int,
        stride: int = 1,
        left_out: float = 0.0,
    ) -> None:
        super().__init__()
        self.enter = nn.Sequential(map_norm(config.norm, num_inputs), activation(config.activation))
        self.change = nn.Sequential(
            empty_convolution(num_inputs, num_outputs, 3, stride=stride, padding=1, bias=False),
            map_norm(config.norm, num_outputs),
            activation(config.activation),
            empty_convolution(num_outputs, num_outputs, 3, padding=1, bias=False),
        )
        if left_out:
            self.change.append(StochasticDepth(left_out))
        self.shortcut: nn.Module | None = None
        if stride != 1 or num_inputs != num_outputs:
            self.shortcut = empty_convolution(num_inputs, num_outputs, 1, stride=stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        entered = self.enter(maps)
        changed: Tensor = self.change(entered)
        return changed + (maps if self.shortcut is None else self.shortcut(entered))


class WideResNet(Encoder):
    """A convolution, stages of residual blocks, and the mean over all places.

    Source: Wide Residual Networks (Zagoruyko and Komodakis, 2016).
    """

    def __init__(
        self, config: WideResNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_features = config.widths[-1]
        self.standardise = Standardise(image_shape)
        width = config.widths[0] if config.stem == "auto" else config.stem
        self.stem = empty_convolution(
            image_shape[0], width, 3, stride=config.stem_stride, padding=1, bias=False
        )
        stages = []
        for number, wider in enumerate(config.widths):
            blocks = nn.Sequential()
            for _ in range(config.blocks):
                left_out = config.stochastic_depth * (number + 1) / len(config.widths)
                stride = 2 if number and not len(blocks) else 1
                blocks.append(Residual(config, width, wider, stride, left_out))
                width = wider
            stages.append(blocks)
        self.residual_stages = nn.ModuleList(stages)
        self.leave = nn.Sequential(map_norm(config.norm, width), activation(config.activation))
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H', W')."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps = self.stem(pixels)
        for stage in self.residual_stages:
            maps = stage(maps)
        left: Tensor = self.leave(maps)
        return left

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """The first convolution, then the stages; the last norm belongs to the last one."""
        groups: list[list[nn.Module]] = [[self.stem], *[[stage] for stage in self.residual_stages]]
        groups[-1].append(self.leave)
        return groups
