"""Settings: frozen dataclasses, read from TOML and ``a.b=c``, checked with one clear sentence.

A section that chooses from a table carries the chosen name in ``name``; the other keys belong to
that entry's own dataclass::

    [network]
    name = "mlp"
    widths = [1000, 500]
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fewlabels.errors import ConfigError
from fewlabels.lookup import find, unknown_name_sentence

RULES = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Rules of every settings dataclass: ``@dataclass(frozen=True, kw_only=True, config=RULES)``."""

Config = TypeVar("Config")
Values = dict[str, Any]


def build(config_class: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Make a settings object from plain values.

    Args:
        config_class: a frozen pydantic dataclass.
        values: its fields, as read from TOML or JSON.
        where: dotted path of the section ("network"), for errors.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; all of them in one text.
    """
    try:
        return TypeAdapter(config_class).validate_python(dict(values))
    except ValidationError as error:
        allowed = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
        raise ConfigError(
            "\n".join(_sentence(detail, allowed, where) for detail in error.errors())
        ) from None


def build_named(
    table: Mapping[str, type[Config]], values: Mapping[str, Any], where: str, what: str
) -> Config:
    """Make the settings object of the table entry that ``values["name"]`` chooses."""
    if "name" not in values:
        raise ConfigError(f"`{where}.name` is missing. Allowed: {', '.join(sorted(table))}.")
    return build(find(table, str(values["name"]), what), values, where)


def _sentence(detail: Any, allowed: Sequence[str], where: str) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    key = f"{where}.{path}" if where and path else where or path
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_name_sentence(path, allowed, f"key of [{where}]" if where else "key")
    if detail["type"] in ("missing", "missing_argument"):
        return f"`{key}` is missing."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return f"`{key}` {message}. Got {detail['input']!r}."


def merge(*layers: Mapping[str, Any]) -> Values:
    """Lay settings over each other, later ones on top.

    Where a later layer changes the ``name`` of a section, the earlier keys of that section belong to
    another class and are dropped.
    """
    merged: Values = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = "name" in value and value["name"] != old.get("name", value["name"])
                merged[key] = merge({} if renamed else old, value)
            else:
                merged[key] = merge(value) if isinstance(value, Mapping) else value
    return merged


def parse_assignments(assignments: Sequence[str]) -> Values:
    """Turn ``["network.widths=[100, 50]", "seed=3"]`` into nested values.

    The right side is read as TOML; a bare word is text.

    Raises:
        ConfigError: an assignment without ``=`` or with an empty key.
    """
    values: Values = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            raise ConfigError(
                f"`--set {assignment}` is not of the form a.b=value. "
                "Write for example --set training.epochs=50."
            )
        nested: Values = {parts[-1]: _parse_value(text.strip())}
        for part in reversed(parts[:-1]):
            nested = {part: nested}
        values = merge(values, nested)
    return values


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def load_toml(path: Path) -> Values:
    """Read a TOML file.

    Raises:
        ConfigError: it does not exist or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no settings file {path}. Check the path.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {path} is not valid TOML: {error}.") from None


def to_values(config: Any) -> Any:
    """A settings object as plain values for TOML or JSON; keys whose value is None are left out."""
    if dataclasses.is_dataclass(config):
        pairs = ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))
        return {name: to_values(value) for name, value in pairs if value is not None}
    if isinstance(config, Mapping):
        return {str(key): to_values(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_values(value) for value in config]
    return config
