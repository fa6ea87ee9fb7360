"""Networks of timm and torchvision, with the weights that others have trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.blocks.standardise import Standardise
from fewlabels.config import RULES
from fewlabels.contracts import Encoder, ImageShape
from fewlabels.errors import ConfigError, DownloadError, UnknownNameError
from fewlabels.lookup import unknown_name_sentence
from fewlabels.networks.classifier import num_parameters
from fewlabels.networks.decoders import DecodedConfig

LIBRARIES = ("timm", "torchvision")
_INSTALL = "Install it with: pip install 'fewlabels[pretrained]'"


@dataclass(frozen=True, kw_only=True, config=RULES)
class PretrainedConfig(DecodedConfig):
    """Settings of a network of another library; ``network.name = timm:resnet18`` is short for it.

    Without its head, and with the weights that it comes with.
    """

    convolutional: ClassVar[bool] = True

    name: Literal["pretrained"] = "pretrained"
    # LIBRARY:NAME, as the library calls it.
    model: str = "torchvision:resnet18"
    # "hub" fetches the library's own, or takes them from its cache; "none" starts at random; else
    # a file, safetensors or a state dict of torch.
    weights: str = "hub"
    # "weights" enlarges images to the size that the weights were trained on; "images" leaves them
    # as they are, which is faster and fits networks that take any size.
    image_size: Literal["weights", "images"] = "weights"

    @field_validator("model")
    @classmethod
    def _of_a_library(cls, model: str) -> str:
        library, colon, name = model.partition(":")
        if library not in LIBRARIES or not colon or not name:
            raise ValueError(f"must be LIBRARY:NAME with one of {', '.join(LIBRARIES)}")
        return model

    def build(self, image_shape: ImageShape, generator: torch.Generator) -> Pretrained:
        """The network with random weights from `generator`; see `fewlabels.networks.weights`."""
        return Pretrained(self, image_shape, generator)


@plain_dataclass(frozen=True)
class Source:
    """A network of a library.

    Attributes:
        module: without its head: images (B, 3, H, W) to features (B, D).
        head_keys: what the layers are called that only the library's own classes need.
        mean: of the pixels in [0, 1] that the weights were trained on, by channel.
        deviation: the same.
        side: of the images that the weights were trained on, in pixels.
        interpolation: "bilinear" or "bicubic", what they were resized by.
    """

    module: nn.Module
    head_keys: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    side: int
    interpolation: str


class Pretrained(Encoder):
    """A network of another library without its head, behind resizing and standardising."""

    def __init__(
        self, config: PretrainedConfig, image_shape: ImageShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        source = _source(config.model, generator)
        self.head_keys = source.head_keys
        self.interpolation = source.interpolation
        self.size = (source.side,) * 2 if config.image_size == "weights" else image_shape[1:]
        channels = len(source.mean)
        if image_shape[0] not in (1, channels):
            raise ConfigError(
                f"{config.model} takes images of {channels} channels, or grey ones. "
                f"Got {image_shape[0]} channels. Use another network."
            )
        self.channels = channels
        self.standardise = _AsTrained((channels, 1, 1))
        self.standardise.mean.copy_(torch.tensor(source.mean).view(-1, 1, 1))
        self.standardise.deviation.copy_(torch.tensor(source.deviation).view(-1, 1, 1))
        self.module = source.module
        self.num_features = self._count_features(config)

    def _count_features(self, config: PretrainedConfig) -> int:
        """Taken from what comes out, as the libraries' own figures are not all of it."""
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, *self.image_shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigError(
                f"{config.model} cannot take images of {self.size[0]} × {self.size[1]} pixels: "
                f"{reason}. Use network.image_size = weights."
            ) from None
        finally:
            self.train()
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ConfigError(
                f"{config.model} does not give one vector an image, so it cannot be an encoder. "
                "Choose a network for classification."
            )
        return features.shape[1]

    def _prepared(self, images: Tensor) -> Tensor:
        """As the weights were trained: size, channels, mean and deviation."""
        if images.shape[2:] != self.size:
            images = F.interpolate(
                images, size=self.size, mode=self.interpolation, align_corners=False, antialias=True
            ).clamp(0, 1)  # cubic curves overshoot
        pixels: Tensor = self.standardise(images.expand(-1, self.channels, -1, -1))
        return pixels.contiguous(memory_format=torch.channels_last)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to maps or tokens, as the library's network has them."""
        named = (getattr(self.module, name, None) for name in ("forward_features", "features"))
        part: Any = next((found for found in named if found is not None), self.module)
        found: Tensor = part(self._prepared(images))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features (B, D)."""
        features: Tensor = self.module(self._prepared(images))
        return features

    def stages(self) -> list[list[nn.Module]]:
        """The network's children in their order; containers of blocks count block by block.

        What a part holds beside its children (a class token, positions) comes before them.
        """
        return [[part] for part in _unfolded(self.module, num_parameters(self.module))]


class _AsTrained(Standardise):
    """Keeps the statistics of the weights, whatever the images are."""

    def set_statistics(self, mean_image: Tensor, deviation: Tensor) -> None:
        """Nothing: the weights expect theirs."""


class _Parameters(nn.Module):
    """Parameters that belong to no child."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.held = nn.ParameterList(parameters)


def _unfolded(module: nn.Module, total: int) -> list[nn.Module]:
    """What a module is made of; a child with most of all the parameters is unfolded in turn."""
    own = list(module.parameters(recurse=False))
    parts: list[nn.Module] = [_Parameters(own)] if own else []
    for child in module.children():
        size = num_parameters(child)
        is_container = isinstance(child, nn.Sequential | nn.ModuleList)
        if size and list(child.children()) and (is_container or size > total / 2):
            parts += _unfolded(child, total)
        elif size:
            parts.append(child)
    return parts


def _source(model: str, generator: torch.Generator) -> Source:
    """The library's network, its weights drawn from `generator`."""
    library, _, name = model.partition(":")
    seed = int(torch.randint(2**31, (), generator=generator))
    # The libraries draw from the global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (_from_timm if library == "timm" else _from_torchvision)(name)


def _from_timm(name: str) -> Source:
    timm = _library("timm")
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        raise UnknownNameError(_unknown(name, timm.list_models(), "network of timm"))
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UnknownNameError(
            unknown_name_sentence(tag, tags, f"tag of weights of {architecture}")
        )
    whole = timm.create_model(name, pretrained=False)
    facts = whole.pretrained_cfg
    heads = facts["classifier"]
    whole.reset_classifier(0)
    return Source(
        module=whole,
        head_keys=(heads,) if isinstance(heads, str) else tuple(heads),
        mean=tuple(facts["mean"]),
        deviation=tuple(facts["std"]),
        side=int(facts["input_size"][-1]),
        interpolation=_interpolation(str(facts["interpolation"])),
    )


def _from_torchvision(name: str) -> Source:
    models = _library("torchvision").models
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError(_unknown(name, known, "network of torchvision"))
    module = models.get_model(name, weights=None, **_WITH_SIDE_HEADS.get(name, {}))
    facts = models.get_model_weights(name).DEFAULT
    num_classes = len(facts.meta["categories"])
    heads = [
        part
        for part, layer in module.named_modules()
        if num_classes in (getattr(layer, "out_features", 0), getattr(layer, "out_channels", 0))
    ]
    module.set_submodule(heads[-1], nn.Identity())
    shown = facts.transforms()
    return Source(
        module=module,
        head_keys=(heads[-1], *_SIDE_HEADS),
        mean=tuple(shown.mean),
        deviation=tuple(shown.std),
        side=int(shown.crop_size[0]),
        interpolation=_interpolation(shown.interpolation.value),
    )


# They have further heads for training, and were trained on pixels in another range.
_WITH_SIDE_HEADS = {
    name: {"aux_logits": False, "transform_input": True, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}
_SIDE_HEADS = ("aux1", "aux2", "AuxLogits")


def _interpolation(name: str) -> str:
    """What torch has; the libraries know others, such as "random"."""
    return name if name in ("bilinear", "bicubic") else "bilinear"


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    """Their lists are long: only what is close is named."""
    sentence = unknown_name_sentence(name, known, what)
    return f"{sentence.split(' Allowed: ')[0]} Its documentation lists all {len(known):,}."


def hub_weights(model: str) -> dict[str, Tensor]:
    """The library's own weights, from its cache or from the network.

    Raises:
        DownloadError: neither has them.
    """
    library, _, name = model.partition(":")
    try:
        if library == "timm":
            found = _library("timm").create_model(name, pretrained=True).state_dict()
        else:
            models = _library("torchvision").models
            weights = models.get_model_weights(name).DEFAULT
            found = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise DownloadError(
            f"The weights of {model} are not in the cache and cannot be fetched: {reason}. Fetch "
            "them where there is a network and give them with --set network.weights=FILE, or "
            "start without them: --set network.weights=none."
        ) from None
    return dict(found)


def _library(name: str) -> Any:
    """Timm or torchvision, imported when one is needed."""
    try:
        if name == "timm":
            import timm

            return timm
        import torchvision
    except (ImportError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"{name} cannot be imported: {reason}. {_INSTALL}") from None
    return torchvision
