"""Parse the flags of a command with tyro, which derives them from dataclasses.

tyro reads the fields, converts the arguments and writes the help. The values are then validated by
``recipe.parsing``, like the values of a TOML file, so that an invalid flag and an invalid key give the
same message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVarTuple, cast, get_type_hints

import tyro
from tyro import constructors

from isthmus.errors import UserError, nearest_name
from isthmus.recipe.parsing import parse, settings_of

Parts = TypeVarTuple("Parts")

_AT_TOP = tyro.conf.arg(name="")
_CONFIG = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)
_KEYWORDS = {"none": None, "true": True, "false": False}
"""Values as TOML and the help write them; converted only if the field cannot hold the text itself."""


def parse_flags(defaults: tuple[*Parts], words: Sequence[str], prog: str) -> tuple[*Parts]:
    """The dataclasses, with the fields that the command line sets.

    Args:
        defaults: Instances of pydantic dataclasses. Their fields are flags; a dataclass inside
            one is a group of dotted flags.
        words: The command line after the name of the command.
        prog: Name of the command, for help and errors. The docstring of the last dataclass is the
            description in the help.

    Raises:
        UserError: If a flag is unknown or lacks its value, or a value is invalid.
        SystemExit: With status 0, after printing the help.
    """
    kinds = cast("list[type]", [type(part) for part in defaults])
    at_top: Any = tuple(Annotated[kind, _AT_TOP] for kind in kinds)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            tables, unknown = tyro.cli(
                tuple[at_top],
                prog=prog,
                description=inspect.getdoc(kinds[-1]),
                args=words,
                default=defaults,
                return_unknown_args=True,
                config=_CONFIG,
                registry=_registry(),
            )
    except SystemExit as end:
        if not end.code:
            raise
        flag = re.search(r"'(--\S+)'", complaint.getvalue())
        named = flag[1] if flag else words[-1]
        raise UserError(f"{named}: this flag needs a value; see {prog} --help") from None
    if unknown and not unknown[0].startswith("-"):
        raise UserError(f"{unknown[0]}: this argument belongs to no flag; see {prog} --help")
    if unknown:
        known = ["--" + key.replace("_", "-") for part in defaults for key in settings_of(part)]
        nearest = nearest_name(unknown[0].partition("=")[0], known)
        raise UserError(f"{unknown[0]}: unknown flag; {nearest}")
    filled: tuple[Any, ...] = tuple(
        parse(kind, table) for kind, table in zip(kinds, tables, strict=True)
    )
    return cast("tuple[*Parts]", filled)


def _registry() -> constructors.ConstructorRegistry:
    """Rules for tyro: a dataclass becomes a plain table, and values of the wrong type are kept as text."""
    registry = constructors.ConstructorRegistry()
    registry.struct_rule(_table)
    is_asking = False

    @registry.primitive_rule
    def value_or_words(info: constructors.PrimitiveTypeInfo) -> Any:
        nonlocal is_asking
        if is_asking:
            return None  # leaves it to tyro
        is_asking = True
        try:
            spec = registry.get_primitive_spec(info)
        finally:
            is_asking = False
        return _lenient(spec) if isinstance(spec, constructors.PrimitiveConstructorSpec) else spec

    return registry


def _lenient(
    spec: constructors.PrimitiveConstructorSpec[Any],
) -> constructors.PrimitiveConstructorSpec[Any]:
    def value(words: list[str]) -> Any:
        try:
            return spec.instance_from_str(words)
        except ValueError:
            if len(words) > 1:  # convert each separately, so that the error names the invalid one
                return [item for word in words for item in value([word])]
            word = _KEYWORDS.get(words[0], words[0])
            return [word] if spec.nargs == "*" else word

    return dataclasses.replace(spec, instance_from_str=value, choices=None)


def _table(info: constructors.StructTypeInfo) -> constructors.StructConstructorSpec | None:
    """A dataclass as a plain table with one entry per field; the help is the docstring of the field."""
    if not dataclasses.is_dataclass(info.type):
        return None
    fields = [
        constructors.StructFieldSpec(
            name, hint, getattr(info.default, name), _help(info.type, name)
        )
        for name, hint in get_type_hints(info.type, include_extras=True).items()
    ]
    return constructors.StructConstructorSpec(instantiate=dict, fields=tuple(fields))


def _help(kind: type, name: str) -> str | None:
    """The docstring of a field, from the class that defines it."""
    fields = (vars(owner).get("__pydantic_fields__", {}).get(name) for owner in kind.__mro__)
    found = next((field.description for field in fields if field and field.description), None)
    return " ".join(found.split()) if found else None


def unread_flag(flag: str, grid: str, readers: str) -> str:
    """The error message for a flag that has no effect with this ``--grid``."""
    return (
        f"--{flag} has no effect with --grid {grid}: only --grid {readers} uses it; "
        "remove one of the two flags"
    )
