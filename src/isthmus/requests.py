"""What the commands take, besides the fields of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.recipe import STRICT, Positive
from isthmus.recipe.rules import AboveZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunRequest:
    """Flags that study and train share."""

    out: Path | None = None
    """Folder of the study; none: studies/NAME. What is finished there is kept."""
    data_root: Path | None = None
    """Where data sets lie; none: ISTHMUS_DATA, or the cache folder, with download."""
    logger: Literal["none", "tensorboard", "mlflow"] = "none"
    """A tracker that follows every run too."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DemoRequest:
    """Run the studies of the demo, or go on with them."""

    out: Path = Path("studies")
    """Where their folders go."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyRequest(RunRequest):
    """Run a study, or go on with it: every variant with every seed, then the report."""

    seeds: Positive | None = None
    """How many seeds, counted from 0; none: as the recipe says."""
    dry_run: bool = False
    """Train nothing: print the runs, what they will cost by a few steps timed here, and the smallest
    difference they can see."""
    until_width: AboveZero | None = None
    """Add seeds until no interval of a factor's effect on the first score is wider than this."""
    budget_minutes: AboveZero | None = None
    """Add seeds while the training time of all runs together stays within this."""
    most_seeds: Positive = 20
    """Where adding seeds ends at the latest; the fewer, the narrower every interval of a study
    that looks before its end."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainRequest(RunRequest):
    """Train one variant with one seed, then write its report."""

    variant: str | None = None
    """Which variant; none: the only one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateRequest:
    """Draw pictures by label and write them as one sheet."""

    labels: str = ""
    """Names of labels with commas between, "none" for no label; left out: every label."""
    count: Positive = 5
    """Pictures of each label."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the style."""
    out: Path = Path("generated.png")
    """Where the sheet goes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SwapRequest:
    """Draw pictures again under other labels and write them as one sheet."""

    labels: str = ""
    """Names of labels with commas between, "none" for no label; left out: every label."""
    true: str | None = None
    """The label that the pictures show; only an encoder that is told it needs it."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the binarisation, where the model has one."""
    out: Path = Path("swapped.png")
    """Where the sheet goes."""
