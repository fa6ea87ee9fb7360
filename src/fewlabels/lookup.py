"""Names in tables: find an entry, or say which names are close."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fewlabels.errors import UnknownNameError

Entry = TypeVar("Entry")


def close_matches(name: str, allowed: Iterable[str]) -> list[str]:
    """The allowed names most like `name`, best first, at most three."""
    return difflib.get_close_matches(name.lower(), list(allowed), n=3, cutoff=0.5)


def unknown_name_sentence(name: str, allowed: Iterable[str], what: str) -> str:
    """One sentence: the unknown name, close matches if there are any, and all that is allowed."""
    names = sorted(allowed)
    matches = close_matches(name, names)
    hint = f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
    return f"Unknown {what} {name!r}.{hint} Allowed: {', '.join(names)}."


def find(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """Return ``table[name]``.

    Args:
        table: one folder's table, from name to entry.
        name: what the user wrote.
        what: what the table holds, in the singular ("network"), for the error.

    Raises:
        UnknownNameError: `name` is not in the table; the message lists close matches.
    """
    if name not in table:
        raise UnknownNameError(unknown_name_sentence(name, table, what))
    return table[name]


def known_in(table: Mapping[str, Any], what: str) -> Callable[[str], str]:
    """A check for settings: gives a name back, or raises as `find` does."""

    def check(name: str) -> str:
        find(table, name, what)
        return name

    return check
