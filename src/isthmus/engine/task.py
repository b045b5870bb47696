"""The interface of a task: everything in which segmentation, generation and classification differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from isthmus.engine.run_result import Baseline, Evaluation, TaskNotes
from isthmus.metrics.metric import Metric
from isthmus.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data.batches import Change
    from isthmus.data.store import OnProgress, Store
    from isthmus.engine.fit import Trained
    from isthmus.engine.task_module import TaskModule

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
"""A device as users name it; "auto": a CUDA GPU if there is one, else the CPU."""
LoggerName = Literal["none", "tensorboard", "mlflow"]
ProgressCallback = Callable[[int, int, str], None]
"""Called after each step with the number of steps done, the total number, and the last metric as text."""


def no_progress(_done: int, _of: int, _words: str) -> None:
    """A progress callback that does nothing."""


class Task(ABC):
    """How one kind of recipe is trained, evaluated and reported.

    Methods import torch when they are called, so that recipes and reports are read without it.
    ``recipe`` and ``store`` below are of the task's own types.
    """

    name: ClassVar[str]
    """Value of ``task`` in a recipe."""
    recipe: ClassVar[type[Recipe]]
    curve: ClassVar[str]
    """The metric that is plotted by epoch, for training and validation images."""
    loss_title: ClassVar[str] = "Loss"
    """Name of the minimised quantity in figures."""
    loss_table: ClassVar[str] = "loss"
    """The table of the recipe that defines the minimised quantity."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Names of the report's sections that only this task has."""
    forecast_note: ClassVar[str] = ""
    """What a forecast of training time does not include, as the end of a sentence."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Every test metric of a run, in the order of its tables."""

    @property
    def metric_note(self) -> str:
        """A note that every table of metrics states; empty by default."""
        return ""

    @abstractmethod
    def open_store(
        self, data: Any, data_root: Path | None = None, on_progress: OnProgress | None = None
    ) -> Store:
        """The images of a recipe's data table, decoded once and memory-mapped.

        Raises:
            UserError: If the data are missing or invalid.
        """

    @abstractmethod
    def augmentation(self, recipe: Any) -> Change | None:
        """Random changes of a batch of training images; None if the recipe has none."""

    @abstractmethod
    def new_module(self, recipe: Any, store: Any, steps: int) -> TaskModule:
        """A new network with its loss; the initial weights are drawn from torch's global generator.

        ``steps`` is the number of training steps of the whole run, for schedules.
        """

    @abstractmethod
    def evaluate(self, trained: Trained) -> Evaluation:
        """The test metrics of a trained network; per-image arrays are written to the folder of the run."""

    def prepare(
        self,
        recipe: Any,
        store: Any,
        shared: Path,
        on_progress: ProgressCallback,
        device: DeviceName,
    ) -> Mapping[str, str]:
        """Create auxiliary models for the evaluation (such as the judge) before training.

        They are stored in the folder ``shared``, for all runs of a study. Returns kind -> name, such as
        {"judge": name}, which the run records; by default, there are none.
        """
        del recipe, store, shared, on_progress, device
        return {}

    @abstractmethod
    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """The metrics that get verdicts by default; the first is the primary metric."""

    def check_metrics(self, names: Sequence[str], recipes: Sequence[Any]) -> None:
        """Reject metrics that some of these recipes do not measure.

        Raises:
            UserError: Naming the metric and the setting with which it is measured.
        """
        del names, recipes

    def comparable(self, metrics: Sequence[Metric], recipes: Sequence[Any]) -> tuple[Metric, ...]:
        """The metrics that have the same meaning for all of these recipes; by default, all metrics."""
        del recipes
        return tuple(metrics)

    def baselines(self, recipe: Any, seed: int, store: Any, shared: Path) -> tuple[Baseline, ...]:
        """Metrics of trivial predictors, to compare variants with; by default, there are none."""
        del recipe, seed, store, shared
        return ()

    def phases(self, recipe: Any) -> tuple[tuple[float, Any], ...]:
        """Phases of training: the fraction of all steps, and a recipe with the cost per step of the phase."""
        return ((1.0, recipe),)

    def drawn_by_seed(self, recipe: Any) -> tuple[str, ...]:
        """What differs between two runs of one recipe with different seeds, in words."""
        validation = ("validation images",) if recipe.data.has_validation else ()
        return ("initial weights", *validation, "the order of training images")

    def notes(
        self, finished: pd.DataFrame, recipes: Mapping[str, Any], baselines: Sequence[Baseline]
    ) -> TaskNotes:
        """Remarks of the report on finished runs, besides tables; by default, there are none.

        Args:
            finished: One row per finished run, with the columns of ``results.csv``.
            recipes: Variant -> recipe, in the order of the study.
            baselines: The result of ``baselines``.
        """
        del finished, recipes, baselines
        return TaskNotes()

    def shown_images(self, folder: Path, runs: Any, store: Any, per_image: Any) -> None:
        """Write the test images that a study's report shows into ``folder``; by default, none."""
        del folder, runs, store, per_image


TASKS: dict[str, Task] = {}
"""Every task by its name; filled by ``isthmus.tasks``."""


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return TASKS[recipe.task]
