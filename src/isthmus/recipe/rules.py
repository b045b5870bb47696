"""The rules that fields of recipes share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

IGNORE_INDEX = 255
"""Mask value of a pixel that no loss and no metric may look at."""

Setting = bool | int | float | str
"""What a recipe field can hold once written down as TOML."""

STRICT = ConfigDict(
    extra="forbid", strict=True, validate_default=True, use_attribute_docstrings=True
)
"""Unknown keys and wrong types are refused; a field's docstring is its description."""

Positive = Annotated[int, Field(ge=1)]
Even = Annotated[int, Field(ge=2, multiple_of=2)]
Side = Annotated[int, Field(ge=8, le=4096)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
AtLeastZero = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def refuse_folder(folder: Path | None, name: str, reader: str) -> None:
    """Refuse one's own pictures without their folder, and a folder that this data set does not read."""
    if name == reader and folder is None:
        raise ValueError(
            f'data.folder is missing: data.name = "{reader}" needs the path of your folder'
        )
    if name != reader and folder is not None:
        raise ValueError(
            f'data.folder does nothing for data.name = "{name}": only "{reader}" reads it; set '
            f'data.name = "{reader}" or take the key out'
        )
