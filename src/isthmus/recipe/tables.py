"""Tables that several recipes use: the recipe itself, its train table, the data table of labelled images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w
from pydantic.dataclasses import dataclass

from isthmus.recipe.parsing import nested, parse, settings_of
from isthmus.recipe.rules import (
    STRICT,
    AboveZero,
    AtLeastZero,
    Fraction,
    Positive,
    Share,
    Side,
    check_unused_fields,
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LabelledData:
    """Which images with labels, at what size, and how they are split."""

    name: Literal["mnist", "fashion-mnist", "kmnist", "cifar10", "classes", "demo-digits"] = (
        "demo-digits"
    )
    """Data set; "classes" is your own folder."""
    folder: Path | None = None
    """For name = "classes": a folder with one folder per class, or with train/ and test/, each with one
    folder per class."""
    size_px: Side = 28
    """Height and width that every image is resized to, in pixels."""
    colour: Literal["grey", "rgb"] = "grey"
    """Channels of the images: one or three."""
    validation: Share = 0.1
    """Fraction of the training images held out to choose the epoch, stratified by label."""
    test: Share = 0.2
    """For name = "classes" without train/ and test/: fraction of the images in the test set."""
    limit: Positive | None = None
    """Largest number of training images, including those held out for validation."""
    flip: Fraction = 0.0
    """Probability of a left-right flip of a training image."""
    shift_px: int = 0
    """Largest random shift of training images, in whole pixels."""

    def __post_init__(self) -> None:
        """Reject classes without a folder, fields that have no effect, and a shift out of range."""
        check_unused_fields(self, {"folder": "classes", "test": "classes"})
        if not 0 <= self.shift_px < self.size_px:
            raise ValueError(
                f"data.shift_px = {self.shift_px}: a shift is at least 0 and smaller than "
                "data.size_px; set it to a few pixels"
            )

    @property
    def has_validation(self) -> bool:
        """Whether there is a separate validation set; always True for labelled images."""
        return True

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 1 if self.colour == "grey" else 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """How long and how the network is trained."""

    epochs: Positive = 40
    """Passes over the training images."""
    batch: Positive = 16
    """Images per step."""
    optimiser: Literal["adamw", "rmsprop"] = "adamw"
    """Optimiser; the reference study uses rmsprop."""
    lr: AboveZero = 2e-3
    """Learning rate; the peak for the one-cycle schedule."""
    weight_decay: AtLeastZero = 1e-2
    """Weight decay."""
    momentum: Fraction | None = None
    """For rmsprop: momentum."""
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """Learning-rate schedule over all steps; one-cycle also moves the first beta of adamw from .95 down to
    .85 and back."""
    warmup: Share = 0.1
    """For one-cycle: fraction of the steps in which the learning rate rises to its peak."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 autocast if the processor supports it, else float32; the run records the choice."""
    compile: Literal["auto", True, False] = False
    """Whether to translate the network with torch.compile, which takes about a minute and makes each step
    faster. auto: if a measurement shows that it saves time in this run; the run records the choice."""
    deterministic: bool = False
    """Whether to use only deterministic operations, also on a GPU, where some of them are slower."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are evaluated: the best by the validation metric, or the last."""

    def __post_init__(self) -> None:
        """Reject momentum with an optimiser that does not use it."""
        if self.momentum is not None and self.optimiser != "rmsprop":
            raise ValueError(
                f"train.momentum has no effect with {self.optimiser}: only rmsprop uses it; "
                "remove the key"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """Everything that determines a run except its seed; each task has its own recipe class."""

    task: str
    """Name of the task that the network is trained for."""
    data: Any
    train: Train = Train()

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with any field."""
        return settings_hash(settings_of(self))


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with any setting."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def with_settings(recipe: AnyRecipe, settings: Mapping[str, Any]) -> AnyRecipe:
    """The recipe with some fields replaced, checked as if read from a file.

    Args:
        recipe: The recipe to change.
        settings: Dotted key -> value.

    Raises:
        UserError: If a key is unknown or a value is invalid.
    """
    return parse(type(recipe), nested(settings_of(recipe) | dict(settings)))


def differing_fields(a: Recipe, b: Recipe) -> tuple[str, ...]:
    """Dotted keys of the fields in which two recipes differ."""
    ours, theirs = settings_of(a), settings_of(b)
    return tuple(key for key in (ours | theirs) if ours.get(key, ...) != theirs.get(key, ...))


def with_data_from(folder: Path, recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with a relative ``data.folder`` made absolute, relative to ``folder``."""
    path = recipe.data.folder
    if path is None or path.is_absolute():
        return recipe
    return with_settings(recipe, {"data.folder": str((folder / path).resolve())})


def recipe_as_toml(recipe: Recipe) -> str:
    """The complete recipe as TOML, without fields that are None."""
    return tomli_w.dumps(recipe_tables(recipe))


def recipe_tables(recipe: Recipe) -> dict[str, Any]:
    """The complete recipe as nested tables, without fields that are None."""
    settings = settings_of(recipe)
    return nested({key: value for key, value in settings.items() if value is not None})
