"""The recipe of a classifier, such as the judge of generated images."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.rules import STRICT, AboveZero, Even, Positive
from isthmus.recipe.tables import LabelledData, Recipe, Train


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classifier:
    """The network."""

    name: Literal["judge"] = "judge"
    """Network."""
    width: Even = 32
    """Channels of the first level."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassifyTrain(Train):
    """How long and how the classifier is trained."""

    epochs: Positive = 10
    """Passes over the training images."""
    batch: Positive = 256
    """Images per step."""
    lr: AboveZero = 5e-3
    """Learning rate; the peak learning rate if the schedule is one-cycle."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassifyRecipe(Recipe):
    """All settings of a run of a classifier except its seed."""

    task: Literal["classify"] = "classify"
    """What the network learns."""
    data: LabelledData = LabelledData()
    model: Classifier = Classifier()
    train: ClassifyTrain = ClassifyTrain()
