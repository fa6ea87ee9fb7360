"""Pretext objectives by name: what an encoder learns from images without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabels.pretext.autoencoder import AutoencoderConfig
from fewlabels.pretext.contrastive import ContrastiveConfig

PRETEXTS: Mapping[str, type[Any]] = {
    "autoencoder": AutoencoderConfig,
    "contrastive": ContrastiveConfig,
}
"""From objective name to its settings class; ``settings.build(encoder, network, generator)`` builds
it, `network` being the settings of the encoder, which know how to mirror it. ``settings.draws``
says whether it makes images, ``settings.num_views`` how many views of each image it looks at."""
