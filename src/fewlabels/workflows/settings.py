"""All settings of a run: recipe, file, command line, in that order, later ones on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator
from pydantic.dataclasses import dataclass

from fewlabels.augment.policies import POLICIES, AugmentConfig
from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.config import (
    RULES,
    Values,
    build,
    build_named,
    load_toml,
    merge,
    parse_assignments,
    to_values,
)
from fewlabels.data.splits import SplitConfig
from fewlabels.errors import ConfigError
from fewlabels.lookup import find, unknown_name_sentence
from fewlabels.networks import NETWORKS
from fewlabels.pretext import PRETEXTS
from fewlabels.training.device import choose
from fewlabels.training.settings import TrainingConfig, build_training
from fewlabels.transfer import STRATEGIES


@dataclass(frozen=True, kw_only=True, config=RULES)
class DataConfig:
    """Which images and labels."""

    source: str = ""
    labels: str | None = None
    image_size: PositiveInt | str | None = None
    # Pretend that only so many labels are known, to measure what few labels can do.
    num_labels: PositiveInt | None = None
    label_seed: NonNegativeInt = 0
    # Where decoded images are kept during the run; "auto" goes by their size and the free memory.
    keep: Literal["auto", "memory", "disk"] = "auto"


@dataclass(frozen=True, kw_only=True, config=RULES)
class TransferConfig:
    """Which ways from the pretrained encoder to a classifier are tried."""

    strategies: tuple[str, ...] = ("frozen", "full")

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find(STRATEGIES, name, "transfer strategy")
        if len(set(names)) != len(names):
            raise ValueError("names a strategy twice")
        return names


@dataclass(frozen=True, kw_only=True, config=RULES)
class RunConfig:
    """What is neither data nor method."""

    recipe: str = "default"
    seed: NonNegativeInt = 0
    device: str = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"

    @field_validator("precision", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return "32" if value == 32 and not isinstance(value, bool) else value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a run depends on besides the images, one attribute a section."""

    run: RunConfig
    data: DataConfig
    split: SplitConfig
    network: Any
    pretext: Any
    pretraining: TrainingConfig
    transfer: TransferConfig
    classification: ClassificationConfig
    training: TrainingConfig
    augment_policy: str
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    def to_values(self) -> Values:
        """Plain values, section by section, as they stand in ``config.toml``."""
        sections = ("run", "data", "split", "network", "pretext", "pretraining", "transfer")
        values = {name: to_values(getattr(self, name)) for name in sections}
        values["classification"] = to_values(self.classification)
        values["training"] = to_values(self.training)
        values["augment"] = {"name": self.augment_policy, **to_values(self.augment)}
        return values


SECTIONS = (
    "run",
    "data",
    "split",
    "network",
    "pretext",
    "pretraining",
    "transfer",
    "classification",
    "training",
    "augment",
)


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, from name to TOML file."""
    folder = resources.files("fewlabels") / "recipes"
    found = [Path(str(file)) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {path.stem: path for path in sorted(found)}


def load_settings(
    recipe: str = "default",
    *,
    config: Path | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a recipe, laid over by a file, ``a.b=c`` assignments and flags.

    Raises:
        ConfigError: anything unknown, of a wrong type or out of range.
    """
    layers: list[Mapping[str, Any]] = [load_toml(find(recipes(), recipe, "recipe"))]
    if config is not None:
        layers.append(load_toml(config))
    layers += [parse_assignments(assignments), flags or {}, {"run": {"recipe": recipe}}]
    return build_settings(merge(*layers))


def build_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from plain values, as read from ``config.toml``.

    Raises:
        ConfigError: anything unknown, of a wrong type or out of range.
    """
    for section, content in values.items():
        if section not in SECTIONS:
            raise ConfigError(unknown_name_sentence(section, SECTIONS, "section of the settings"))
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"`{section}` is a section of settings, not a value. "
                f"Write for example --set {section}.name=value."
            )
    given = {section: dict(values.get(section, {})) for section in SECTIONS}
    policy = str(given["augment"].pop("name", "auto"))
    if policy != "auto":
        find(POLICIES, policy, "augmentation policy")
    settings = Settings(
        run=build(RunConfig, given["run"], "run"),
        data=build(DataConfig, given["data"], "data"),
        split=build(SplitConfig, given["split"], "split"),
        network=build_named(NETWORKS, {"name": "mlp"} | given["network"], "network", "network"),
        pretext=build_named(
            PRETEXTS, {"name": "autoencoder"} | given["pretext"], "pretext", "pretext objective"
        ),
        pretraining=build_training(given["pretraining"], "pretraining"),
        transfer=build(TransferConfig, given["transfer"], "transfer"),
        classification=build(ClassificationConfig, given["classification"], "classification"),
        training=build_training(given["training"], "training"),
        augment_policy=policy,
        augment=build(AugmentConfig, given["augment"], "augment"),
    )
    choose(settings.run.device, settings.run.precision)
    return settings
