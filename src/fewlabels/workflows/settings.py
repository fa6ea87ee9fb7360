"""All settings of a run: recipe, file, command line, in that order, later ones on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator
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
from fewlabels.networks import network_settings
from fewlabels.pretext import PRETEXTS
from fewlabels.semisupervised import SEMISUPERVISED
from fewlabels.training.device import choose
from fewlabels.training.settings import TrainingConfig, build_training
from fewlabels.transfer import STRATEGIES
from fewlabels.workflows.recipes import recipe_values


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
    # "none" pretrains an encoder; else the folder of a pretraining run, whose encoder is taken.
    encoder: str = "none"

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find(STRATEGIES, name, "transfer strategy")
        if len(set(names)) != len(names):
            raise ValueError("names a strategy twice")
        return names


@dataclass(frozen=True, kw_only=True, config=RULES)
class UnlabelledConfig:
    """How unlabelled images come in beside the labelled ones."""

    # Labelled images in a step; those without labels are `joint_training.batch_size`.
    labelled_batch_size: PositiveInt = 64
    # Policies of the lightly and of the heavily changed view.
    weak: str = "auto"
    strong: str = "auto"
    # Steps after which an epoch ends though not every unlabelled image has come.
    epoch_steps: PositiveInt = 250
    # Whether the network starts from the pretrained encoder.
    pretrained: bool = True

    @field_validator("weak", "strong")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "auto":
            find(POLICIES, name, "augmentation policy")
        return name


@dataclass(frozen=True, kw_only=True, config=RULES)
class AutoConfig:
    """Whether the program chooses the method, and how long it may take."""

    enabled: bool = False
    # Seconds for everything; "auto" is 300.
    time_budget: NonNegativeFloat | Literal["auto"] = "auto"
    # What it may decide once it has seen the images; what a file or the command line names is left
    # as it was set there.
    decides: tuple[
        Literal["network", "alignment", "graph_start", "pretext", "pretrained"], ...
    ] = ()


@dataclass(frozen=True, kw_only=True, config=RULES)
class PredictionConfig:
    """How the finished model looks at an image."""

    # "single" as it is; "crops" or "augmented" average over several views, which takes longer;
    # "auto" is "single" for convolutional networks without mirroring, else "augmented".
    views: Literal["single", "crops", "augmented", "auto"] = "single"


@dataclass(frozen=True, kw_only=True, config=RULES)
class RunConfig:
    """What is neither data nor method."""

    # What the run is for: a classifier, or an encoder alone.
    task: Literal["fit", "pretrain"] = "fit"
    recipe: str = "default"
    seed: NonNegativeInt = 0
    # Whether what validation chose is trained once more, with the validation labels added; not
    # worth the time where those are a small part of many. Recipe auto decides that itself.
    refit: bool = True
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
    semisupervised: Any
    unlabelled: UnlabelledConfig
    joint_training: TrainingConfig
    auto: AutoConfig
    prediction: PredictionConfig
    augment_policy: str
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    def to_values(self) -> Values:
        """Plain values, section by section, as they stand in ``config.toml``."""
        sections = ("run", "data", "split", "network", "pretext", "pretraining", "transfer")
        values = {name: to_values(getattr(self, name)) for name in sections}
        values["classification"] = to_values(self.classification)
        values["training"] = to_values(self.training)
        if self.semisupervised is not None:
            values["semisupervised"] = to_values(self.semisupervised)
        values["unlabelled"] = to_values(self.unlabelled)
        values["joint_training"] = to_values(self.joint_training)
        values["auto"] = to_values(self.auto)
        values["prediction"] = to_values(self.prediction)
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
    "semisupervised",
    "unlabelled",
    "joint_training",
    "auto",
    "prediction",
    "augment",
)


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
    layers: list[Mapping[str, Any]] = [load_toml(config)] if config is not None else []
    layers += [parse_assignments(assignments), flags or {}]
    values = recipe_values(recipe)
    undecided = {"auto": {"decides": _undecided(values, layers)}}
    settings = merge(values, undecided, *layers, {"run": {"recipe": recipe}})
    return build_settings(settings)


_DECIDED_BY = {
    "network": ("network",),
    "alignment": ("semisupervised", "alignment"),
    "graph_start": ("semisupervised", "graph_start"),
    "pretext": ("pretext",),
    "pretrained": ("unlabelled", "pretrained"),
}
"""From a decision of the recipe auto to the setting that takes it out of its hands."""


def _undecided(values: Values, layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the recipe may still decide: nothing that somebody asked for is decided again."""
    decides: list[str] = values.get("auto", {}).get("decides", [])
    return [one for one in decides if not any(_names(layer, _DECIDED_BY[one]) for layer in layers)]


def _names(values: Any, path: tuple[str, ...]) -> bool:
    """Whether nested values hold anything at a path."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


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
        network=network_settings({"name": "mlp"} | given["network"]),
        pretext=build_named(
            PRETEXTS, {"name": "autoencoder"} | given["pretext"], "pretext", "pretext objective"
        ),
        pretraining=build_training(given["pretraining"], "pretraining"),
        transfer=build(TransferConfig, given["transfer"], "transfer"),
        classification=build(ClassificationConfig, given["classification"], "classification"),
        training=build_training(given["training"], "training"),
        semisupervised=_semisupervised(given["semisupervised"]),
        unlabelled=build(UnlabelledConfig, given["unlabelled"], "unlabelled"),
        joint_training=build_training(given["joint_training"], "joint_training"),
        auto=build(AutoConfig, given["auto"], "auto"),
        prediction=build(PredictionConfig, given["prediction"], "prediction"),
        augment_policy=policy,
        augment=build(AugmentConfig, given["augment"], "augment"),
    )
    choose(settings.run.device, settings.run.precision)
    return settings


def _semisupervised(values: Values) -> Any:
    """The objective's settings; None where the unlabelled images only serve pretraining."""
    if not values or values == {"name": "none"}:
        return None
    return build_named(SEMISUPERVISED, values, "semisupervised", "semi-supervised objective")
