"""Command-line flags, generated from the dataclasses that they fill.

tyro finds the flags and writes the help. Values stay text until they pass through the
door of ``recipe.checked``, so that a bad flag gets the same sentence as a bad TOML key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from pydantic import TypeAdapter, ValidationError

from isthmus.recipe import checked, nested, settings_of
from isthmus.refusal import Refusal, nearest_name

Request = TypeVar("Request")


def parse(kind: type[Request], default: Request, arguments: Sequence[str], prog: str) -> Request:
    """The request that the arguments make of ``default``.

    Args:
        kind: A pydantic dataclass; dataclasses inside it become groups of dotted flags.
        default: What holds where no flag says otherwise.
        arguments: Words of the command line.
        prog: Name of the command, for the help.

    Raises:
        Refusal: If a flag is unknown or a value breaks its rule.
        SystemExit: With status 0, after printing the help.
    """
    before = settings_of(default)
    mirror, unknown = _filled(_mirror(kind, default), list(arguments), prog)
    if unknown:
        flag = unknown[0]
        if not flag.startswith("-"):
            raise Refusal(f"{flag}: this word belongs to no flag; see {prog} --help")
        known = ["--" + key.replace("_", "-") for key in before]
        raise Refusal(f"{flag}: unknown flag; {nearest_name(flag.partition('=')[0], known)}")
    given = settings_of(mirror)
    types = _types(kind)
    changed = {
        key: _value(types[key], given[key]) for key in before if given[key] != _text(before[key])
    }
    return checked(kind, nested(before | changed))


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
        raise Refusal(f"{flag[1]}: this flag needs a value; see {prog} --help") from None


def _mirror(kind: type, default: Any) -> type:
    """The same dataclass with texts for values, which tyro cannot refuse."""
    hints = get_type_hints(kind)
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(kind):
        value, hint = getattr(default, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            fields.append((field.name, _mirror(hint, value), dataclasses.field()))
            continue
        description = _description(kind, field.name)
        if hint is bool:
            flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=description)]
            fields.append((field.name, flag, dataclasses.field(default=value)))
            continue
        text: Any = tuple[str, ...] if isinstance(value, tuple) else str
        kept = Annotated[text, tyro.conf.arg(help=description, metavar=_metavar(hint))]
        fields.append((field.name, kept, dataclasses.field(default=_text(value))))
    return dataclasses.make_dataclass(
        kind.__name__, fields, kw_only=True, frozen=True, namespace={"__doc__": kind.__doc__}
    )


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
