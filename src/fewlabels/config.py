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

from fewlabels.errors import ConfigError, UnknownNameError
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
        config = TypeAdapter(config_class).validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError(_sentences(error.errors(), _defaults(config_class), where)) from None
    for key, value in values.items():
        # pydantic takes true for 1, which is a slip where a number is wanted.
        if _holds_boolean(value) and not _holds_boolean(getattr(config, key)):
            place = f"{where}.{key}" if where else key
            raise ConfigError(f"`{place}` must not be true or false. Got {value!r}.")
    return config


def _defaults(config_class: Any) -> Values:
    return {field.name: field.default for field in dataclasses.fields(config_class)}


def _holds_boolean(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_boolean(item) for item in value)
    return isinstance(value, bool)


def build_named(
    table: Mapping[str, type[Config]], values: Mapping[str, Any], where: str, what: str
) -> Config:
    """Make the settings object of the table entry that ``values["name"]`` chooses.

    Raises:
        ConfigError: no name, or as for `build`.
        UnknownNameError: the name is not in the table.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"`{where}` must be a section of settings or a name. Got {values!r}.")
    if "name" not in values:
        raise ConfigError(f"`{where}.name` is missing. Allowed: {', '.join(sorted(table))}.")
    return build(find(table, str(values["name"]), what), values, where)


def _sentences(details: Sequence[Any], defaults: Mapping[str, Any], where: str) -> str:
    """One sentence for each wrong key; a union complains once for each of its members."""
    by_key: dict[str, list[Any]] = {}
    for detail in details:
        # Members of a union stand in the path by their type's name; places in a list are numbers.
        name, *rest = detail["loc"] or ("",)
        places = "".join(f"[{part}]" for part in rest if isinstance(part, int))
        by_key.setdefault(f"{name}{places}", []).append(detail)
    return " ".join(_sentence(key, found, defaults, where) for key, found in by_key.items())


# What pydantic says, by the kind of error, where plainer words say the same.
_WORDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
}


def _sentence(name: str, details: Sequence[Any], defaults: Mapping[str, Any], where: str) -> str:
    key = f"{where}.{name}" if where and name else where or name
    kind = details[0]["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_name_sentence(name, defaults, f"key of [{where}]" if where else "key")
    if kind in ("missing", "missing_argument"):
        return f"`{key}` is missing."
    if isinstance(details[0].get("ctx", {}).get("error"), UnknownNameError):
        return f"`{key}`: {details[0]['ctx']['error']}"
    text = " or ".join(_words(detail, defaults.get(name)) for detail in details)
    text = text.replace(" or must be ", " or ")
    colon = "" if text.startswith("must") else ":"
    return f"`{key}`{colon} {text}. Got {details[0]['input']!r}."


def _words(detail: Any, default: Any) -> str:
    """What the value must be; lists are explained by the default."""
    if detail["type"] == "tuple_type":
        example = f", such as {list(default)}" if isinstance(default, tuple) and default else ""
        return f"must be a list in square brackets{example}"
    text: str = detail["msg"].removeprefix("Value error, ").rstrip(".")
    text = text.replace("Input should", "must").replace("greater than or equal to", "at least")
    return _WORDS.get(detail["type"], text)


def merge(*layers: Mapping[str, Any]) -> Values:
    """Lay settings over each other, later ones on top.

    Where a later layer changes the ``name`` of a section, the earlier keys of that section belong
    to another class and are dropped.
    """
    merged: Values = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            # A bare name stands for the section that it chooses: optimiser = "sgd".
            if isinstance(value, Mapping) and isinstance(old, str):
                old = {"name": old}
            elif isinstance(value, str) and isinstance(old, Mapping):
                value = {"name": value}
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
    except OSError as error:
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
