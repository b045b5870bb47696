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
    stop_width: AboveZero | None = None
    """Add seeds until no interval of a factor's effect on the first metric is wider than this."""
    budget_minutes: AboveZero | None = None
    """Train seeds, planned and added ones, while the training time of all runs together stays within this."""
    max_seeds: Positive = 20
    """Where adding seeds ends at the latest; every look that this leaves room for widens all intervals,
    so no higher than one would go."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainRequest(RunRequest):
    """Train one variant with one seed, then write its report."""

    variant: str | None = None
    """Which variant; none: the only one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateRequest:
    """Draw images by label and write them as one sample grid."""

    grid: Literal["labels", "random", "unconditional"] = "labels"
    """labels: a column a label, each row of one style; random: 25 draws, each with one of the labels;
    unconditional: 25 draws without a label."""
    labels: str = ""
    """Names of labels with commas between, "none" for no label (unless a class has that name); left out:
    every label."""
    count: Positive = 5
    """Rows of the sample grid of labels."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the style, and the labels of a random sample grid."""
    out: Path = Path("generated.png")
    """Where the sample grid goes."""

    def __post_init__(self) -> None:
        """Reject flags that nothing reads."""
        if self.labels and self.grid == "unconditional":
            raise ValueError(_idle("labels", self.grid, "labels or random"))
        if self.count != GenerateRequest.count and self.grid != "labels":
            raise ValueError(_idle("count", self.grid, "labels"))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SwapRequest:
    """Draw your own images again and write them as one sample grid.

    They are resized, and turned grey if the model is: crop them square, and show them as the model has
    learned them. One of MNIST expects white ink on black, in the middle, with a margin.
    """

    grid: Literal[
        "labels", "swap", "swap_wrong", "reconstruction", "interpolation", "traversal"
    ] = "labels"
    """labels: each image under every label; swap: each under one wrong label; swap_wrong: the same, with
    that told to the encoder too; reconstruction: each under its own; interpolation: from each to the next
    one; traversal: the first, one unit of z moved."""
    labels: str = ""
    """Names of labels with commas between, "none" for no label, for the sample grid of labels; left out:
    every label."""
    true: str = ""
    """What the images show: one label for all, or one for each with commas between; left out: the name
    of an image's folder, where the model has a label of that name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the wrong labels, and the binarisation where the model has one."""
    out: Path = Path("swapped.png")
    """Where the sample grid goes."""

    def __post_init__(self) -> None:
        """Reject a flag that nothing reads."""
        if self.labels and self.grid != "labels":
            raise ValueError(_idle("labels", self.grid, "labels"))


def _idle(flag: str, grid: str, readers: str) -> str:
    return (
        f"--{flag} does nothing for --grid {grid}: only --grid {readers} reads it; "
        "leave one of the two out"
    )
