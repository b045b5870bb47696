"""Typed records of a run: the content of its JSON files, and what a task adds to a study's report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from isthmus.recipe.registry import Origin

Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A number; NaN (null in JSON) if it is unknown."""


class Record(BaseModel):
    """A record that is written as JSON and read back by the same class."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class JudgeRecord(Record):
    """The judge (evaluation classifier) that a run's metrics depend on."""

    name: str
    """Hashes of its training data, recipe and weights, joined by hyphens."""
    accuracy: Number
    """Proportion of real test images that the judge classifies correctly."""


class Evaluation(Record):
    """The evaluation of a trained network on the test set."""

    reason: str = ""
    """Why the run counts as failed; empty if it does not."""
    metrics: dict[str, Number]
    judge: JudgeRecord | None = None


class RunResult(Evaluation):
    """A run that has ended, successful or failed: the content of its ``result.json``."""

    status: Literal["finished", "failed"]
    seed: int
    recipe_hash: str
    label_scheme: str
    content: str
    """Hash of the images, their masks or labels, names and splits."""
    class_names: tuple[str, ...]
    images: dict[str, int]
    """Split -> number of images."""
    epochs: int
    best_epoch: int
    """The epoch of the evaluated weights, from 1."""
    train_loss_last: Number
    train_seconds: float
    compiled: bool
    """Whether torch.compile translated the network."""
    parameters: int
    gflop: float
    """Billions of floating-point operations of one forward pass of one image."""


class TuningResult(Record):
    """A tuning run, which is evaluated on the validation set only: the content of its ``result.json``."""

    status: Literal["finished", "failed"]
    reason: str
    metric: str
    value: Number
    """The metric on the validation set, at the selected epoch."""
    higher_is_better: bool
    train_seconds: float
    seed: int
    recipe_hash: str
    content: str


class Baseline(Record):
    """Metrics of a trivial predictor or a control, to compare variants with."""

    name: str
    definition: str
    is_floor: bool
    """Whether every variant that has learned anything should be better."""
    metrics: dict[str, Number] = Field(default_factory=dict)


class Environment(Record):
    """Machine and software with which a run was last started or resumed: ``environment.json``."""

    versions: dict[str, str]
    """Package -> version; includes "python"."""
    commit: str
    """Git commit of the checkout that isthmus runs from; empty if it is installed."""
    code: str
    """Hash of isthmus's source files."""
    earlier_code: tuple[str, ...] = ()
    """Hashes of other source files, with which earlier epochs of the run were trained."""
    platform: str
    processor: str
    vector_instructions: str
    device: str
    """Where the run was trained and evaluated: "cpu", "cuda" or "mps"."""
    gpu: str
    """Its name; "none" on the CPU."""
    threads: int
    precision: str
    content: str
    """Hash of the images, their masks or labels, names and splits."""
    prepared: dict[str, str]
    """Models that the run shares with other runs: kind, such as "judge" -> name."""
    parts: dict[str, Origin] = Field(default_factory=dict)
    """Field of the recipe, such as "model.up" -> where its part comes from, if not from isthmus."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Hashes of all source files: isthmus's, and those of parts from outside."""
        return self.code, *(part.source for part in self.parts.values())


class Remark(Record):
    """A sentence of the report, with one line for each run or variant that it concerns."""

    text: str
    details: tuple[str, ...] = ()


class TaskNotes(Record):
    """What a task adds to the report on a study's finished runs."""

    headline: str = ""
    """A sentence for the top of the report."""
    warnings: tuple[Remark, ...] = ()
    references: tuple[str, ...] = ()
    """Sentences with reference values, with which the metrics of the task should be compared."""
    groups: tuple[Remark, ...] = ()
    """Groups of variants, printed below the task's own table."""
    hidden_metrics: tuple[str, ...] = ()
    """Metrics left out of tables, because they equal another metric in every run of this study."""
