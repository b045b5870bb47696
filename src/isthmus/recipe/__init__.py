"""Recipes: everything that determines a run except its seed, as plain data.

The docstring of a field is its only description; the help of the command line is generated from it.
Each task defines its own recipe class in ``isthmus.tasks``.
"""

from isthmus.recipe.parsing import flattened, nested, parse, settings_of
from isthmus.recipe.rules import IGNORE_INDEX, STRICT, Positive, Setting
from isthmus.recipe.tables import (
    AnyRecipe,
    LabelledData,
    Recipe,
    Train,
    differing_fields,
    recipe_as_toml,
    recipe_tables,
    settings_hash,
    with_data_from,
    with_settings,
)

__all__ = [
    "IGNORE_INDEX",
    "STRICT",
    "AnyRecipe",
    "LabelledData",
    "Positive",
    "Recipe",
    "Setting",
    "Train",
    "differing_fields",
    "flattened",
    "nested",
    "parse",
    "recipe_as_toml",
    "recipe_tables",
    "settings_hash",
    "settings_of",
    "with_data_from",
    "with_settings",
]
