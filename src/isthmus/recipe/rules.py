"""Types and validation rules of recipe fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from isthmus.recipe.registry import Registry

IGNORE_INDEX = 255
"""Mask value of a pixel that losses and metrics ignore."""

Setting = bool | int | float | str
"""A single value of a recipe field in TOML."""

STRICT = ConfigDict(
    extra="forbid", strict=True, validate_default=True, use_attribute_docstrings=True
)
"""Unknown keys and wrong types are rejected; a field's docstring is its description."""

Positive = Annotated[int, Field(ge=1)]
Even = Annotated[int, Field(ge=2, multiple_of=2)]
Side = Annotated[int, Field(ge=8, le=4096)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
AtLeastZero = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def check_unused_fields(data: Any, readers: Mapping[str, str], datasets: Registry) -> None:
    """Reject a user's own images without ``data.folder``, and fields that this data set does not use.

    Args:
        data: The data table of a recipe.
        readers: Field -> name of the only data set of isthmus's own that uses it.
        datasets: The data sets; one from outside isthmus may use any field.
    """
    if datasets.is_outside(data.name):
        return
    if data.name == readers["folder"] and data.folder is None:
        raise ValueError(
            f'data.folder is missing: data.name = "{data.name}" needs the path of your folder; set '
            "data.folder"
        )
    for field in dataclasses.fields(data):
        only_name = readers.get(field.name, data.name)
        if only_name != data.name and getattr(data, field.name) != field.default:
            raise ValueError(
                f'data.{field.name} has no effect with data.name = "{data.name}": only "{only_name}" uses '
                f'it; set data.name = "{only_name}" or remove the key'
            )
