"""Pretext objectives by name: what an encoder learns from images without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabels.pretext.autoencoder import AutoencoderConfig

PRETEXTS: Mapping[str, type[Any]] = {
    "autoencoder": AutoencoderConfig,
}
"""From objective name to its settings class; ``settings.build(encoder, decoder)`` builds it."""
