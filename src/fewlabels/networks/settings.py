"""What the settings of all networks have."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from fewlabels.config import RULES
from fewlabels.errors import ConfigError


@dataclass(frozen=True, kw_only=True, config=RULES)
class NetworkConfig:
    """What the settings of all networks have."""

    convolutional: ClassVar[bool] = False

    # "none", or a file of weights that the encoder starts from.
    weights: str = "none"


def refuse_unused(config: NetworkConfig, names: tuple[str, ...], where: str) -> None:
    """Refuse settings that would do nothing.

    Args:
        config: of the network.
        names: of settings that must be at their defaults.
        where: they have no meaning, "in the classic variant".

    Raises:
        ConfigError: one of them is not.
    """
    usual = type(config)()
    for name in names:
        if getattr(config, name) != getattr(usual, name):
            raise ConfigError(f"`network.{name}` has no meaning {where}. Leave it out.")
