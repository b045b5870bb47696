"""The variants of a full factorial, or some of them by name."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from isthmus.errors import UserError, nearest_name
from isthmus.recipe.parsing import flattened

Entry = dict[str, Any]
"""A variant as plain data: its name, and its settings by dotted key."""


def full_factorial(factors: Any, only: Any, key: str) -> tuple[Entry, ...]:
    """Every combination of the factors' levels, the last factor changing fastest.

    Args:
        factors: Whatever stands in the file; should be tables with each field's list of levels.
        only: The same; should be names of the variants that are kept, in any order. None: all.
        key: What to call the factors where they are rejected.

    Raises:
        UserError: If a factor has fewer than two levels or one twice, or ``only`` an unknown name.

    >>> variants = full_factorial({"model": {"down": ["max-pool", "strided"]}}, None, "factors")
    >>> [variant["name"] for variant in variants]
    ['max-pool', 'strided']
    """
    levels = levels_of(factors, key)
    variants = [
        named_variant(None, dict(zip(levels, setting, strict=True)))
        for setting in itertools.product(*levels.values())
    ]
    if only is None:
        return tuple(variants)
    names = [variant["name"] for variant in variants]
    if not isinstance(only, list) or not only:
        raise UserError(
            f"study.only = {only!r}: give the names of variants in a list, or take it out"
        )
    if unknown := [name for name in only if name not in names]:
        raise UserError(
            f"study.only: no variant {unknown[0]}; {nearest_name(str(unknown[0]), names)}"
        )
    return tuple(variant for variant in variants if variant["name"] in only)


def levels_of(tables: Any, key: str) -> dict[str, list[Any]]:
    """Dotted field to its list of values, of whatever stands in the file.

    Raises:
        UserError: If a list has fewer than two values, or one twice.
    """
    if not isinstance(tables, Mapping) or not tables:
        raise UserError(f"{key} = {tables!r}: give a table of fields, each with its list of values")
    levels = dict(flattened(tables))
    for field, values in levels.items():
        if not isinstance(values, list) or len(values) < 2:
            raise UserError(f"{key}.{field} = {values!r}: give two or more values in a list")
        if twice := [value for value in values if values.count(value) > 1]:
            raise UserError(f"{key}.{field} has {twice[0]!r} twice: each value stands once")
        if many := [value for value in values if isinstance(value, list | dict)]:
            raise UserError(
                f"{key}.{field} has {many[0]!r}: a value is a word, a number, true or false"
            )
    return levels


def named_variant(name: str | None, settings: Mapping[str, Any]) -> Entry:
    """A variant's plain data; without a name it is called by its values."""
    derived = "_".join(str(value).replace(" ", "-") for value in settings.values())
    return {"name": name or derived or "base", "settings": dict(settings)}
