"""Recipes: named settings that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fewlabels.config import Values, load_toml, merge
from fewlabels.lookup import find

_ABOUT = ("summary", "cost", "paper", "extends")


@dataclass(frozen=True)
class Recipe:
    """One of them.

    Attributes:
        name: of its file.
        summary: what it does, one line.
        cost: of training, in words.
        paper: authors and year; empty where it is nobody's.
        extends: name of the recipe that it is laid over; None for none.
        values: its settings, those of `extends` not among them.
    """

    name: str
    summary: str
    cost: str
    paper: str
    extends: str | None
    values: Values

    @property
    def complete(self) -> bool:
        """Whether it can be run, rather than only built on."""
        return bool(self.cost)


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    folder = resources.files("fewlabels") / "recipes"
    found = [Path(str(file)) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {path.stem: _read(path) for path in sorted(found)}


def _read(path: Path) -> Recipe:
    values = load_toml(path)
    about: dict[str, Any] = {key: values.pop(key, None) for key in _ABOUT}
    return Recipe(path.stem, values=values, **about)


def recipe_values(name: str) -> Values:
    """The settings of a recipe with all that it is laid over.

    Raises:
        UnknownNameError: no recipe of that name.
    """
    known = recipes()
    recipe = find({key: one for key, one in known.items() if one.complete}, name, "recipe")
    layers = [recipe.values]
    while recipe.extends is not None:
        recipe = known[recipe.extends]
        layers.insert(0, recipe.values)
    return merge(*layers)
