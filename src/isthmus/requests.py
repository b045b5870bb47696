"""What the commands take besides the fields of a recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.recipe import STRICT, Positive, Recipe


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunRequest(Recipe):
    """Flags that study, train and demo share; every recipe field is a flag too."""

    out: Path | None = None
    """Folder of the study; none: studies/NAME. What is finished there is kept."""
    data_root: Path | None = None
    """Where data sets lie; none: ISTHMUS_DATA, or the cache folder, with download."""
    logger: Literal["none", "tensorboard", "mlflow"] = "none"
    """A tracker that follows every run too."""

    @property
    def recipe(self) -> Recipe:
        """The recipe fields alone."""
        return Recipe(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyRequest(RunRequest):
    """Run a study, or go on with it: every variant with every seed, then the report."""

    seeds: Positive | None = None
    """How many seeds, counted from 0; none: as the recipe says."""
    dry_run: bool = False
    """Only print the runs and what they will cost."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainRequest(RunRequest):
    """Train one variant with one seed, then write its report."""

    variant: str | None = None
    """Which variant; none: the only one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed."""
