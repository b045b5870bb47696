"""What a run writes of itself when it has finished: the typed content of ``result.json``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A number that may be unknown: NaN here, null in JSON."""


class Record(BaseModel):
    """Something written as JSON and read back by the same class."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class JudgeRecord(Record):
    """The evaluation classifier whose word is in a run's metrics."""

    name: str
    """Hashes of its data, recipe and weights."""
    accuracy: Number
    """Share of real test images that it labels correctly."""


class Evaluation(Record):
    """What a task's evaluation says of a trained network."""

    reason: str = ""
    """Why the run does not count, if it does not."""
    metrics: dict[str, Number]
    judge: JudgeRecord | None = None


class RunResult(Evaluation):
    """A run that has come to its end, sound or failed."""

    status: Literal["finished", "failed"]
    seed: int
    recipe_hash: str
    label_scheme: str
    content: str
    """Hash of the images, their truth, names and parts."""
    class_names: tuple[str, ...]
    images: dict[str, int]
    """Number of images in each part."""
    epochs: int
    best_epoch: int
    """The epoch of the evaluated weights, from 1."""
    train_loss_last: Number
    train_seconds: float
    parameters: int
    gflop: float
    """Billions of floating-point operations of one forward pass of one image."""


class TuningResult(Record):
    """A run that chose its epoch on validation and never saw the test part."""

    status: Literal["finished", "failed"]
    reason: str
    metric: str
    value: Number
    """Of the metric on the validation part, at the chosen epoch."""
    higher_is_better: bool
    train_seconds: float
    seed: int
    recipe_hash: str
    content: str


class Baseline(Record):
    """A row to compare variants with that no variant trained."""

    name: str
    definition: str
    is_floor: bool
    """Whether a variant should beat it."""
    metrics: dict[str, Number] = Field(default_factory=dict)


class Environment(Record):
    """Where and with what a run was last begun."""

    versions: dict[str, str]
    """Package -> version; "python" too."""
    commit: str
    """Of the checkout that isthmus runs from; empty outside one."""
    code: str
    """Hash of isthmus's own sources."""
    platform: str
    processor: str
    vector_instructions: str
    gpu: str
    threads: int
    precision: str
    content: str
    """Hash of the images, their truth, names and parts."""
    prepared: dict[str, str]
    """What the run shares with others: the judge's name."""


class Remark(Record):
    """A sentence for the reader, with a line for each run or variant that it concerns."""

    text: str
    details: tuple[str, ...] = ()


class TaskNotes(Record):
    """What a task says of a study's finished runs."""

    headline: str = ""
    """A sentence for the top of the page."""
    warnings: tuple[Remark, ...] = ()
    references: tuple[str, ...] = ()
    """What its metrics are to be read against."""
    groups: tuple[Remark, ...] = ()
    """Variants grouped by what they do, below the task's own table."""
    hidden_metrics: tuple[str, ...] = ()
    """Metrics that equal others in every run of this study, and are left out of tables."""
