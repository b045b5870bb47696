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
"""Called after each step: steps done, steps in all, and the last epoch's metric in words."""


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
    """What a forecast of training time leaves out, as the end of a sentence."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Every test metric of a run, in the order of its tables."""

    @property
    def metric_note(self) -> str:
        """A rule that every table of metrics states; none by default."""
        return ""

    @abstractmethod
    def open_store(
        self, data: Any, data_root: Path | None = None, on_progress: OnProgress | None = None
    ) -> Store:
        """The images of a recipe's data table, decoded once and memory-mapped.

        Raises:
            UserError: If the data are missing or break a rule.
        """

    @abstractmethod
    def augmentation(self, recipe: Any) -> Change | None:
        """Random changes of a batch of training images; None if the recipe has none."""

    @abstractmethod
    def new_module(self, recipe: Any, store: Any, steps: int) -> TaskModule:
        """A new network with its loss; its weights are drawn from torch's global generator.

        ``steps`` is the number of training steps of the whole run, for schedules.
        """

    @abstractmethod
    def evaluate(self, trained: Trained) -> Evaluation:
        """The test metrics of a trained network; arrays per image are written to its folder."""

    def prepare(
        self,
        recipe: Any,
        store: Any,
        shared: Path,
        on_progress: ProgressCallback,
        device: DeviceName,
    ) -> Mapping[str, str]:
        """Make what the evaluation needs besides the network, before the network is trained.

        It goes into the folder ``shared``, for all runs of a study. Returns its names, which the
        run records: {"judge": name}; nothing by default.
        """
        del recipe, store, shared, on_progress, device
        return {}

    @abstractmethod
    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """The metrics compared by default in a study; the first decides which variant is best."""

    def check_metrics(self, names: Sequence[str], recipes: Sequence[Any]) -> None:
        """Reject metrics that some of these recipes do not measure.

        Raises:
            UserError: Naming the metric and the setting with which it is measured.
        """
        del names, recipes

    def comparable(self, metrics: Sequence[Metric], recipes: Sequence[Any]) -> tuple[Metric, ...]:
        """The metrics that have the same meaning for all of these recipes; by default all."""
        del recipes
        return tuple(metrics)

    def baselines(self, recipe: Any, seed: int, store: Any, shared: Path) -> tuple[Baseline, ...]:
        """Metrics of trivial predictors, to compare variants with; none by default."""
        del recipe, seed, store, shared
        return ()

    def phases(self, recipe: Any) -> tuple[tuple[float, Any], ...]:
        """Phases of training: the share of its steps, and a recipe whose steps all cost as much."""
        return ((1.0, recipe),)

    def drawn_by_seed(self, recipe: Any) -> tuple[str, ...]:
        """What differs between two runs of one recipe with different seeds, in words."""
        validation = ("validation images",) if recipe.data.has_validation else ()
        return ("initial weights", *validation, "the order of training images")

    def notes(
        self, finished: pd.DataFrame, recipes: Mapping[str, Any], baselines: Sequence[Baseline]
    ) -> TaskNotes:
        """What the report says about finished runs, besides tables; nothing by default.

        Args:
            finished: One row per finished run, with the columns of ``results.csv``.
            recipes: Variant -> recipe, in the order of the study.
            baselines: Returned by ``baselines``.
        """
        del finished, recipes, baselines
        return TaskNotes()

    def shown_images(self, folder: Path, runs: Any, store: Any, per_image: Any) -> None:
        """Write the test images that a study's report shows into ``folder``; none by default."""
        del folder, runs, store, per_image


TASKS: dict[str, Task] = {}
"""Every task by its name; filled by ``isthmus.tasks``."""


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return TASKS[recipe.task]
