"""Parse settings: convert plain tables to validated dataclasses, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from isthmus.errors import UserError, nearest_name

Part = TypeVar("Part")


def parse(kind: type[Part], tables: Mapping[str, Any], prefix: str = "") -> Part:
    """Plain tables as a pydantic dataclass.

    Raises:
        UserError: One line with the key, the rule and, for a misspelt name, the nearest known name.
    """
    try:
        # Through JSON, because pydantic's strict mode then accepts a list for a tuple and text for
        # a path, which is all that TOML has.
        return TypeAdapter(kind).validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        raise UserError(_sentence(error, kind, prefix)) from None


def build(kind: type[Part], values: Mapping[str, Any], prefix: str = "") -> Part:
    """A pydantic dataclass from values that have already been parsed.

    Raises:
        UserError: As for ``parse``.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise UserError(_sentence(error, kind, prefix)) from None


def settings_of(part: Any, prefix: str = "") -> dict[str, Any]:
    """All fields as one flat table: dotted key -> plain value. Paths become text.

    >>> from isthmus.tasks.segment.recipe import SegmentRecipe
    >>> settings_of(SegmentRecipe())["model.down"]
    'max-pool'
    """
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            flat |= settings_of(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple):
            flat[prefix + field.name] = list(value)
        else:
            flat[prefix + field.name] = str(value) if isinstance(value, Path) else value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat table with dotted keys as nested tables.

    >>> nested({"model.width": 8})
    {'model': {'width': 8}}
    """
    tables: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, key = dotted.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[key] = value
    return tables


def flattened(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as pairs of dotted key and value.

    >>> dict(flattened({"model": {"width": 8}}))
    {'model.width': 8}
    """
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _sentence(error: ValidationError, kind: type, prefix: str) -> str:
    """The first error as one line: key, rule, nearest known name."""
    first = error.errors()[0]
    path = [str(step) for step in first["loc"]]
    key = prefix + ".".join(path)
    rule = first["msg"].removeprefix("Value error, ").rstrip(".")
    match first["type"]:
        case "unexpected_keyword_argument":
            owner = _owner(kind, path[:-1])
            known = [field.name for field in dataclasses.fields(owner)]
            return f"{key}: unknown key; {nearest_name(path[-1], known)}"
        case "literal_error":
            choices = [
                str(of) for of in get_args(get_type_hints(_owner(kind, path[:-1]))[path[-1]])
            ]
            return (
                f"{key} = {first['input']!r}: {rule}; {nearest_name(str(first['input']), choices)}"
            )
        case "value_error":
            return rule
        case _:
            return f"{key} = {first['input']!r}: {rule}"


def _owner(kind: type, path: list[str]) -> type:
    """The dataclass with the last key of a dotted path."""
    for step in path:
        kind = get_type_hints(kind)[step]
    return kind
