"""Making a classifier of an encoder that a pretraining run has left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabels.config import load_toml, merge, parse_assignments, to_values
from fewlabels.errors import ConfigError, DataError
from fewlabels.runs.run_folder import open_run, read_json
from fewlabels.workflows.artefact import load_artefact
from fewlabels.workflows.course import images_digest
from fewlabels.workflows.prepare import Prepared
from fewlabels.workflows.settings import Settings, load_settings


def settings_with_encoder(
    encoder: Path,
    recipe: str,
    *,
    config: Path | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings as `load_settings` makes them, with the network that the encoder is.

    Args:
        encoder: folder of a pretraining run.
        recipe: to start from.
        config: a file laid over it.
        assignments: ``a.b=c``.
        flags: sections of the settings, laid over all.

    Raises:
        ConfigError: the network is named as well.
        RunError: the run has left no encoder.
    """
    artefact = load_artefact(encoder)
    layers = [parse_assignments(assignments), *([load_toml(config)] if config else [])]
    if any("network" in layer for layer in layers):
        raise ConfigError(
            f"The network comes with the encoder of {encoder}, so it cannot be set. Leave the "
            "settings of [network] out, or --encoder."
        )
    size = open_run(encoder).read_config()["data"].get("image_size")
    given: dict[str, Any] = {
        "transfer": {"encoder": str(encoder)},
        "network": to_values(artefact.network),
        "data": {} if size is None else {"image_size": size},
    }
    return load_settings(
        recipe, config=config, assignments=assignments, flags=merge(given, flags or {})
    )


def check_encoder(settings: Settings, prepared: Prepared) -> None:
    """Refuse an encoder of other images' size.

    Raises:
        DataError: the images are of another size.
    """
    if settings.transfer.encoder == "none":
        return
    run = Path(settings.transfer.encoder)
    artefact = load_artefact(run)
    shape = prepared.data.image_shape
    if artefact.image_shape != shape:
        theirs, ours = ("×".join(map(str, one)) for one in (artefact.image_shape, shape))
        raise DataError(
            f"The encoder of {run} takes images of {theirs}. Got {ours}. Use "
            f"--image-size {artefact.image_shape[1]}x{artefact.image_shape[2]}, or pretrain on "
            "these images."
        )


def encoder_warnings(settings: Settings, prepared: Prepared) -> list[str]:
    """Sentences where the encoder has seen the sealed test images, though not their labels."""
    if settings.transfer.encoder == "none":
        return []
    run = Path(settings.transfer.encoder)
    folder = open_run(run)
    if read_json(folder.environment)["images"] != images_digest(prepared.data.images):
        return []  # other images
    known = read_json(folder.splits)
    unseen = {*known["test"], *known["excluded"]}
    test = set(prepared.data.ids[prepared.split.test].tolist())
    seen = len(test - unseen)
    if not seen:
        return []
    return [
        f"The encoder of {run} has seen {seen:,} of the {len(test):,} sealed test images, though "
        "without their labels: the test accuracy may flatter a little. With the split and seeds "
        "of that run (they stand in its config.toml) it would not have."
    ]
