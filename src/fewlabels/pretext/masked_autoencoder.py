"""Masked autoencoder: draw the patches that were not shown."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.attention import SinusoidalPositions
from fewlabels.blocks.initialisation import empty_linear, initialise
from fewlabels.config import RULES
from fewlabels.contracts import Batch, Encoder, ImageShape, StepResult
from fewlabels.errors import ConfigError
from fewlabels.networks.vision_transformer import TransformerBlock, VisionTransformer
from fewlabels.pretext.objective import Pretext, Reconstructs

_FEWEST_ACROSS = 4


@dataclass(frozen=True, kw_only=True, config=RULES)
class MaskedAutoencoderConfig:
    """Settings of the masked autoencoder."""

    num_views: ClassVar[int] = 1

    name: Literal["masked_autoencoder"] = "masked_autoencoder"
    # Share of the patches that are hidden.
    mask: float = Field(default=0.75, gt=0.0, lt=1.0)
    # Side of a patch in pixels; "auto" is the transformer's own, or the smallest divisor of the
    # sides from 4 on.
    patch: PositiveInt | Literal["auto"] = "auto"
    # Width and blocks of the transformer that draws, where the encoder is one.
    decoder_width: PositiveInt = 64
    decoder_depth: PositiveInt = 2
    augmented: bool = True

    def build(
        self, encoder: Encoder, network: Any, generator: torch.Generator
    ) -> MaskedAutoencoder:
        """The objective over an encoder: transformers do not even see what is hidden."""
        if isinstance(encoder, VisionTransformer):
            return MaskedTransformer(self, encoder, generator)
        size = patch_size(self.patch, encoder.image_shape)
        decoder = network.build_decoder(
            encoder.image_shape, encoder.num_features, "linear", generator
        )
        return MaskedPixels(self, encoder, decoder, size)


def patch_size(asked: int | Literal["auto"], image_shape: ImageShape) -> int:
    """Side of the patches.

    Raises:
        ConfigError: a side that does not divide the image's, or of the whole image.
    """
    _, height, width = image_shape
    sizes = [
        size
        for size in range(1, min(height, width) // 2 + 1)
        if not height % size and not width % size
    ]
    if asked == "auto":
        return next((size for size in sizes if size >= _FEWEST_ACROSS), sizes[-1])
    if asked not in sizes:
        raise ConfigError(
            f"Patches of {asked} × {asked} pixels do not divide an image of {height} × {width}. "
            f"`pretext.patch` can be {', '.join(map(str, sizes))} or auto."
        )
    return asked


class MaskedAutoencoder(Pretext, Reconstructs):
    """``loss = mean (x - g(f(visible patches)))²`` over the pixels of hidden patches.

    Source: Masked Autoencoders Are Scalable Vision Learners (He et al., 2022); where the encoder is
    no transformer, hidden patches are painted in a learnt colour, as in SimMIM (Xie et al., 2022).

    Args:
        config: of the objective.
        encoder: f.
        size: side of the patches in pixels.
    """

    def __init__(self, config: MaskedAutoencoderConfig, encoder: Encoder, size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.size = size
        _, height, width = encoder.image_shape
        self.grid = (-(-height // size), -(-width // size))
        self.num_patches = self.grid[0] * self.grid[1]

    @abstractmethod
    def draw(self, images: Tensor, order: Tensor) -> Tensor:
        """Images (B, C, H, W) drawn anew, from the first patches of `order`, int64 (B, T)."""

    @property
    def num_visible(self) -> int:
        """Patches that are shown: at least one, and not all."""
        shown: int = round(self.num_patches * (1 - self.config.mask))
        return min(max(1, shown), self.num_patches - 1)

    def hidden(self, order: Tensor) -> Tensor:
        """Which pixels are hidden, bool (B, 1, H, W)."""
        mask = torch.ones_like(order, dtype=torch.bool)
        mask.scatter_(1, order[:, : self.num_visible], False)
        maps = torch.unflatten(mask, 1, self.grid).unsqueeze(1)  # (B, 1, rows, columns)
        pixels: Tensor = maps.repeat_interleave(self.size, 2).repeat_interleave(self.size, 3)
        _, height, width = self.encoder.image_shape
        return pixels[:, :, :height, :width]

    def order(self, num_images: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Patches in random order, int64 (B, T)."""
        draw = torch.rand(num_images, self.num_patches, generator=generator, device=device)
        return draw.argsort(dim=1)

    def loss(self, batch: Batch, step: int) -> StepResult:
        """Mean squared error of the hidden pixels."""
        images = batch.images
        order = self.order(len(images), batch.generator, images.device)
        drawn = self.draw(images, order).float()
        hidden = self.hidden(order).expand_as(images)
        return StepResult(F.mse_loss(drawn[hidden], images[hidden]))

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) with their hidden patches drawn and the visible ones as they are."""
        order = self.order(len(images), generator, images.device)
        drawn = self.draw(images, order).float().clamp(0, 1)
        return torch.where(self.hidden(order), drawn, images)


class MaskedPixels(MaskedAutoencoder):
    """For any encoder: what is hidden is painted in a learnt colour."""

    def __init__(
        self, config: MaskedAutoencoderConfig, encoder: Encoder, decoder: nn.Module, size: int
    ) -> None:
        super().__init__(config, encoder, size)
        self.decoder = decoder
        self.colour = nn.Parameter(torch.full((encoder.image_shape[0], 1, 1), 0.5))

    def draw(self, images: Tensor, order: Tensor) -> Tensor:
        """The decoder's drawing of the painted images."""
        painted = torch.where(self.hidden(order), self.colour, images)
        drawn: Tensor = self.decoder(self.encoder(painted))
        return drawn


class MaskedTransformer(MaskedAutoencoder):
    """For transformers: only visible patches go in, and a small transformer draws the others."""

    encoder: VisionTransformer

    def __init__(
        self,
        config: MaskedAutoencoderConfig,
        encoder: VisionTransformer,
        generator: torch.Generator,
    ) -> None:
        size = encoder.patches.size
        if config.patch not in ("auto", size):
            raise ConfigError(
                f"The transformer's patches have {size} pixels a side, those of the masks "
                f"{config.patch}. Leave pretext.patch at auto, and set network.patch."
            )
        super().__init__(config, encoder, size)
        width = config.decoder_width
        channels = encoder.image_shape[0]
        self.narrow = empty_linear(encoder.num_features, width)
        self.hidden_token = nn.Parameter(torch.zeros(width))
        self.positions = SinusoidalPositions(self.num_patches, width)
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads=4, hidden=2) for _ in range(config.decoder_depth))
        )
        self.to_pixels = nn.Sequential(
            nn.LayerNorm(width), empty_linear(width, channels * size * size)
        )
        for part in (self.narrow, self.blocks, self.to_pixels):
            initialise(part, "xavier", generator)

    def draw(self, images: Tensor, order: Tensor) -> Tensor:
        """All patches, drawn from what the encoder makes of the visible ones."""
        visible = order[:, : self.num_visible]
        tokens = self.encoder.to_tokens(images)
        known = self.narrow(self.encoder.from_tokens(tokens, visible))  # (B, visible, width)
        everything = self.hidden_token.to(known.dtype).expand(len(images), self.num_patches, -1)
        places = visible.unsqueeze(2).expand_as(known)
        everything = everything.scatter(1, places, known)
        patches = self.to_pixels(self.blocks(self.positions(everything)))  # (B, T, C · size²)
        _, height, width = self.encoder.image_shape
        rows, columns = self.grid
        pixels = F.fold(
            patches.transpose(1, 2).float(),
            (rows * self.size, columns * self.size),
            self.size,
            stride=self.size,
        )
        return pixels[:, :, :height, :width]
