"""What every recipe has, whatever the network learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic.dataclasses import dataclass

from isthmus.recipe.parsing import nested, parse, settings_of
from isthmus.recipe.rules import STRICT
from isthmus.recipe.train import Train


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """All that decides a run except its seed; each task has its own kind."""

    task: str
    """What the network learns."""
    data: Any
    train: Train = Train()

    @property
    def hash(self) -> str:
        """Twelve hex digits that differ whenever any field differs."""
        return settings_hash(settings_of(self))


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that differ whenever any setting differs."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def with_settings(recipe: AnyRecipe, settings: Mapping[str, Any]) -> AnyRecipe:
    """The recipe with some fields replaced, checked like one read from a file.

    Args:
        recipe: What is changed.
        settings: Dotted key -> value.

    Raises:
        UserError: If a key is unknown or a value breaks its rule.
    """
    return parse(type(recipe), nested(settings_of(recipe) | dict(settings)))


def differing_fields(a: Recipe, b: Recipe) -> tuple[str, ...]:
    """Dotted keys of the fields in which two recipes differ."""
    ours, theirs = settings_of(a), settings_of(b)
    return tuple(key for key in (ours | theirs) if ours.get(key, ...) != theirs.get(key, ...))


def with_data_from(folder: Path, recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with a relative ``data.folder`` made absolute, starting from ``folder``."""
    path = recipe.data.folder
    if path is None or path.is_absolute():
        return recipe
    return with_settings(recipe, {"data.folder": str((folder / path).resolve())})


def recipe_as_toml(recipe: Recipe) -> str:
    """The complete recipe as TOML; fields that are None are left out."""
    return tomli_w.dumps(recipe_tables(recipe))


def recipe_tables(recipe: Recipe) -> dict[str, Any]:
    """The complete recipe as nested tables; fields that are None are left out."""
    settings = settings_of(recipe)
    return nested({key: value for key, value in settings.items() if value is not None})
