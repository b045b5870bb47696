"""Command-line flags, generated from the dataclasses that they fill.

tyro finds the flags and writes the help. Values stay text until they pass through the
door of ``recipe.parse``, so that a bad flag gets the same sentence as a bad TOML key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from pydantic import TypeAdapter, ValidationError

from isthmus.errors import UserError, nearest_name
from isthmus.recipe.parsing import nested, parse, settings_of

Settings = TypeVar("Settings")
Request = TypeVar("Request")


def parse_with_recipe(
    recipe: Settings, request: Request, arguments: Sequence[str], prog: str
) -> tuple[Settings, Request]:
    """Recipe and request as the arguments change them; see ``parse_flags``."""
    changed: tuple[Settings, Request] = _parsed((recipe, request), arguments, prog)
    return changed


def parse_flags(request: Request, arguments: Sequence[str], prog: str) -> Request:
    """The request as the arguments change it.

    Args:
        request: A pydantic dataclass; dataclasses inside it become groups of dotted flags.
        arguments: Words of the command line.
        prog: Name of the command, for the help.

    Raises:
        UserError: If a flag is unknown or a value breaks its rule.
        SystemExit: With status 0, after printing the help.
    """
    changed: tuple[Request] = _parsed((request,), arguments, prog)
    return changed[0]


def _parsed(parts: tuple[Any, ...], arguments: Sequence[str], prog: str) -> Any:
    """The parts, changed, in a tuple."""
    before: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for part in parts:
        before |= settings_of(part)
        types |= _types(type(part))
    mirror, unknown = _filled(_mirror(*parts), list(arguments), prog)
    given = settings_of(mirror)
    if unknown:
        flag = unknown[0]
        if not flag.startswith("-"):
            raise UserError(f"{flag}: this word belongs to no flag; see {prog} --help")
        known = ["--" + key.replace("_", "-") for key in given]
        raise UserError(f"{flag}: unknown flag; {nearest_name(flag.partition('=')[0], known)}")
    changed = {
        key: _value(types[key], given[key]) for key in given if given[key] != _text(before[key])
    }
    return tuple(
        parse(
            type(part),
            nested({key: changed.get(key, old) for key, old in settings_of(part).items()}),
        )
        for part in parts
    )


def _filled(mirror: type, arguments: list[str], prog: str) -> tuple[Any, list[str]]:
    """The mirror with the texts of its flags, and the words that are no flag of it."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(mirror, prog=prog, args=arguments, return_unknown_args=True)
    except SystemExit as end:
        flag = re.search(r"argument '(--\S+)'", complaint.getvalue())
        if not end.code or not flag:
            raise
        raise UserError(f"{flag[1]}: this flag needs a value; see {prog} --help") from None


def _mirror(*parts: Any) -> type:
    """One dataclass with the fields of all parts, texts for values, which tyro cannot reject."""
    fields = [field for part in parts for field in _mirrored_fields(part)]
    return dataclasses.make_dataclass(
        type(parts[-1]).__name__,
        fields,
        kw_only=True,
        frozen=True,
        namespace={"__doc__": type(parts[-1]).__doc__},
    )


def _mirrored_fields(part: Any) -> Iterator[tuple[str, Any, Any]]:
    hints = get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value, hint = getattr(part, field.name), hints[field.name]
        description = _description(type(part), field.name)
        if dataclasses.is_dataclass(value):
            yield field.name, _mirror(value), dataclasses.field()
        elif get_origin(hint) is Literal and len(get_args(hint)) == 1:
            continue  # nothing to choose
        elif hint is bool:
            flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=description)]
            yield field.name, flag, dataclasses.field(default=value)
        else:
            text: Any = tuple[str, ...] if isinstance(value, tuple) else str
            kept = Annotated[text, tyro.conf.arg(help=description, metavar=_metavar(hint))]
            yield field.name, kept, dataclasses.field(default=_text(value))


def _description(kind: type, name: str) -> str | None:
    """The docstring of a field, from the class that defines it."""
    fields = (vars(owner).get("__pydantic_fields__", {}).get(name) for owner in kind.__mro__)
    return next((field.description for field in fields if field and field.description), None)


def _text(value: Any) -> Any:
    """A value as the words that would set it."""
    if isinstance(value, list | tuple):
        return tuple(str(item) for item in value)
    return value if isinstance(value, bool) else "none" if value is None else str(value)


def _value(hint: Any, text: Any) -> Any:
    """Words as the value they stand for; as they are where they stand for none."""
    if isinstance(text, tuple):
        return [_value(get_args(hint)[0], word) for word in text]
    if text == "none" and NoneType in get_args(hint):
        return None
    try:
        value = TypeAdapter(hint).validate_strings(text)
    except ValidationError:
        return text
    return str(value) if isinstance(value, Path) else value


def _metavar(hint: Any) -> str:
    """What the help shows in place of a value."""
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    inner = [arg for arg in get_args(hint) if arg not in (NoneType, ...)]
    if inner:
        several = " ..." if get_origin(hint) is tuple else ""
        return _metavar(inner[0]) + several
    return getattr(hint, "__name__", str(hint)).upper()


def _types(kind: type, prefix: str = "") -> dict[str, Any]:
    """Type of every dotted key; constraints are left out, for the door has them."""
    types: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            types |= _types(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            types[prefix + name] = hint
    return types
