"""Residual networks of He et al., their plain twins, and a fast one of nine layers."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.initialisation import empty_convolution, initialise
from fewlabels.blocks.norms import BatchNorm2d
from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.networks.decoders import ConvolutionalConfig
from fewlabels.networks.settings import refuse_unused
from fewlabels.networks.sides import is_small

Depth = Literal[9, 18, 20, 32, 34, 44, 50, 56, 101, 110, 152]

LARGE: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks of each stage (table 1 of the paper); from 50 layers on they are bottlenecks."""

_FEWEST_LAYERS_OF_BOTTLENECKS = 50
_SMALL_BLOCKS = {depth: (depth - 2) // 6 for depth in (20, 32, 44, 56, 110)}


@dataclass(frozen=True, kw_only=True, config=RULES)
class ResNetConfig(ConvolutionalConfig):
    """Settings of the residual network."""

    name: Literal["resnet"] = "resnet"
    # 18 to 152 are the paper's for large images, 20 to 110 those for 32 × 32 pixels (but where the
    # sides are halved, the shortcut is a convolution and not the paper's parameter-free one), 9 is
    # the fast one; "auto" takes 20 for images up to 64 pixels and 18 for others.
    depth: Depth | Literal["auto"] = "auto"
    # Maps of the first stage, doubled from stage to stage; "auto" is 16 for the depths 20, 32, 44,
    # 56 and 110, and 64 for the others.
    width: PositiveInt | Literal["auto"] = "auto"
    # Without, it is the plain twin that shows what shortcuts are for.
    shortcuts: bool = True
    # The first layers of the depths 18 to 152: "large" quarters the sides at once, "small" keeps
    # them; "auto" goes by the images.
    stem: Literal["auto", "large", "small"] = "auto"

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> Encoder:
        """A new encoder for images of `image_shape`, its weights drawn from `generator`."""
        depth = self.depth
        if depth == "auto":
            depth = 20 if is_small(image_shape) else 18
        if depth == 9:
            return FastResNet(self, image_shape, generator)
        return ResNet(self, depth, image_shape, generator)


def convolution(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, as a batch norm follows."""
    return empty_convolution(
        inputs, outputs, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
    )


class Basic(nn.Module):
    """``relu(x + norm(conv(relu(norm(conv(x))))))`` with kernels of 3 × 3."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = convolution(width, width, 3)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride) if shortcut else None

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        left: Tensor = self.relu(_joined(self, changed, maps))
        return left


class Bottleneck(nn.Module):
    """As `Basic`, with kernels of 1, 3 and 1: narrow in the middle; the stride is in the middle."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        outputs = width * self.expansion
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = _downsample(inputs, outputs, stride) if shortcut else None

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, 4 · width, H / stride, W / stride)."""
        changed = self.relu(self.bn1(self.conv1(maps)))
        changed = self.relu(self.bn2(self.conv2(changed)))
        left: Tensor = self.relu(_joined(self, self.bn3(self.conv3(changed)), maps))
        return left


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(convolution(inputs, outputs, 1, stride), BatchNorm2d(outputs))


def _joined(block: Basic | Bottleneck, changed: Tensor, maps: Tensor) -> Tensor:
    if not block.shortcut:
        return changed
    return changed + (maps if block.downsample is None else block.downsample(maps))


class ResNet(Encoder):
    """A first convolution, stages of residual blocks, and the mean over all places.

    Weights of the depths 18 to 152 with the large stem are interchangeable with torchvision's.

    Source: Deep Residual Learning for Image Recognition (He et al., 2016).
    """

    head_keys = ("fc",)

    def __init__(
        self,
        config: ResNetConfig,
        depth: int,
        image_shape: ImageShape,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.standardise = Standardise(image_shape)
        in_three_stages = depth in _SMALL_BLOCKS
        if in_three_stages:
            refuse_unused(config, ("stem",), f"at depth {depth}")
        counts = (_SMALL_BLOCKS[depth],) * 3 if in_three_stages else LARGE[depth]
        block: type[Basic | Bottleneck] = Basic
        if not in_three_stages and depth >= _FEWEST_LAYERS_OF_BOTTLENECKS:
            block = Bottleneck
        width = config.width if config.width != "auto" else 16 if in_three_stages else 64
        large = config.stem == "large" or (config.stem == "auto" and not is_small(image_shape))
        if large and not in_three_stages:
            self.conv1 = convolution(image_shape[0], width, 7, 2)
            self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        else:
            self.conv1 = convolution(image_shape[0], width, 3)
            self.maxpool = nn.Identity()
        self.bn1 = BatchNorm2d(width)
        self.relu = nn.ReLU()
        inputs = width
        self.num_stages = len(counts)
        for level, count in enumerate(counts):
            blocks = nn.Sequential()
            for number in range(count):
                stride = 2 if level and not number else 1
                blocks.append(block(inputs, width << level, stride, shortcut=config.shortcuts))
                inputs = (width << level) * block.expansion
            self.add_module(f"layer{level + 1}", blocks)
        self.num_features = inputs
        initialise(self, config.initialisation, generator)

    def _layers(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{level + 1}") for level in range(self.num_stages)]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H', W')."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        for layer in self._layers():
            maps = layer(maps)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).mean(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """The first convolution, then the stages."""
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [stem, *[[layer] for layer in self._layers()]]


class FastResNet(Encoder):
    """Nine layers for training in minutes: few blocks, wide, and the maximum over all places.

    Source: How to Train Your ResNet (Page, 2019), the network of the DAWNBench record.
    """

    def __init__(
        self, config: ResNetConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        refuse_unused(config, ("stem",), "at depth 9")
        width = 64 if config.width == "auto" else config.width
        self.num_features = 8 * width
        self.standardise = Standardise(image_shape)
        self.prepare = ConvolutionUnit(image_shape[0], width)
        self.first = _stage(width, 2 * width, _Twice(2 * width, config.shortcuts))
        self.second = _stage(2 * width, 4 * width)
        self.third = _stage(4 * width, 8 * width, _Twice(8 * width, config.shortcuts))
        initialise(self, config.initialisation, generator)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps (B, D, H / 8, W / 8)."""
        pixels = self.standardise(images).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.third(self.second(self.first(self.prepare(pixels))))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        return self.forward_features(images).amax(dim=(2, 3))

    def stages(self) -> list[list[nn.Module]]:
        """The first convolution, and the three stages."""
        return [[self.prepare], [self.first], [self.second], [self.third]]


def _stage(inputs: int, outputs: int, *further: nn.Module) -> nn.Sequential:
    # Halved by rounding up, so that a single pixel stays one.
    return nn.Sequential(
        ConvolutionUnit(inputs, outputs), nn.MaxPool2d(2, ceil_mode=True), *further
    )


class _Twice(nn.Module):
    """``x + unit(unit(x))``."""

    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.units = nn.Sequential(ConvolutionUnit(width, width), ConvolutionUnit(width, width))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        changed: Tensor = self.units(maps)
        return maps + changed if self.shortcut else changed
