"""Pretext objectives by name: what an encoder learns from images without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from fewlabels.pretext.autoencoder import AutoencoderConfig
from fewlabels.pretext.contractive_autoencoder import ContractiveAutoencoderConfig
from fewlabels.pretext.contrastive import ContrastiveConfig
from fewlabels.pretext.denoising_autoencoder import DenoisingAutoencoderConfig
from fewlabels.pretext.diffusion import DiffusionConfig
from fewlabels.pretext.generative_adversarial import GenerativeAdversarialConfig
from fewlabels.pretext.masked_autoencoder import MaskedAutoencoderConfig
from fewlabels.pretext.rotation_prediction import RotationPredictionConfig
from fewlabels.pretext.self_distillation import SelfDistillationConfig
from fewlabels.pretext.unet_denoising import UNetDenoisingConfig
from fewlabels.pretext.variance_invariance import VarianceInvarianceConfig
from fewlabels.pretext.variational_autoencoder import VariationalAutoencoderConfig

PRETEXTS: Mapping[str, type[Any]] = {
    "autoencoder": AutoencoderConfig,
    "contractive_autoencoder": ContractiveAutoencoderConfig,
    "contrastive": ContrastiveConfig,
    "denoising_autoencoder": DenoisingAutoencoderConfig,
    "diffusion": DiffusionConfig,
    "generative_adversarial": GenerativeAdversarialConfig,
    "masked_autoencoder": MaskedAutoencoderConfig,
    "rotation_prediction": RotationPredictionConfig,
    "self_distillation": SelfDistillationConfig,
    "unet_denoising": UNetDenoisingConfig,
    "variance_invariance": VarianceInvarianceConfig,
    "variational_autoencoder": VariationalAutoencoderConfig,
}
"""From objective name to its settings class; ``settings.build(encoder, network, generator)`` builds
it, `network` being the settings of the encoder, which know how to mirror it. ``settings.num_views``
says how many views of each image it looks at, and where that is one, ``settings.augmented`` whether
it is augmented."""


def able(ability: type) -> list[str]:
    """Names of the objectives that can do something, `Generates` for example."""
    built = {name: get_type_hints(config.build)["return"] for name, config in PRETEXTS.items()}
    return sorted(name for name, objective in built.items() if issubclass(objective, ability))
