"""The seam between what all runs share and what one kind of network needs: ``Task``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from isthmus.engine.run_result import Baseline, Evaluation, TaskNotes
from isthmus.metrics.metric import Metric
from isthmus.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Int

    from isthmus.data.batches import Rows
    from isthmus.data.store import OnProgress, Store
    from isthmus.engine.task_module import ProgressCallback, TaskModule
    from isthmus.engine.trained import Trained


class Task(ABC):
    """What one kind of recipe trains on, how it trains, how it is evaluated and what is reported.

    A task is registered once, in ``isthmus.tasks``. Methods that need torch import it when they are
    called, so that recipes and reports are read without it.
    """

    name: ClassVar[str]
    """Value of ``task`` in a recipe."""
    recipe: ClassVar[type[Recipe]]
    curve: ClassVar[str]
    """The metric whose value on training and validation images is drawn by epoch."""
    loss_title: ClassVar[str] = "Loss"
    """What the minimised quantity is called in figures."""
    loss_table: ClassVar[str] = "loss"
    """The table of the recipe that says what is minimised."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Sections of the report that only this task has, by name."""
    forecast_note: ClassVar[str] = ""
    """What a forecast leaves out beside the evaluation, as the end of a sentence."""

    @property
    def metric_note(self) -> str:
        """A rule that every table of metrics should state."""
        return ""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Every test metric of a run, in the order of its tables."""

    @abstractmethod
    def open_store(
        self, data: Any, data_root: Path | None = None, on_progress: OnProgress | None = None
    ) -> Store:
        """The images of a recipe's data table, decoded once and memory-mapped.

        Raises:
            UserError: If the data are missing or break a rule.
        """

    @abstractmethod
    def training_rows(
        self, recipe: Any, store: Any, rows: Int[np.ndarray, " n"], seed: int
    ) -> Rows:
        """These rows with the recipe's augmentation, drawn from ``seed`` and the epoch."""

    @abstractmethod
    def plain_rows(self, store: Any, rows: Int[np.ndarray, " n"]) -> Rows:
        """These rows without augmentation."""

    @abstractmethod
    def new_module(self, recipe: Any, store: Any, steps: int) -> TaskModule:
        """A fresh network with its loss, weights drawn from torch's global generator.

        Args:
            recipe: Of this task.
            store: What ``open_store`` returned.
            steps: Training steps of the whole run, for schedules.
        """

    @abstractmethod
    def evaluate(self, trained: Trained) -> Evaluation:
        """The test metrics of a trained network; arrays of single images go into its folder."""

    def prepare(
        self,
        recipe: Any,
        store: Any,
        shared: Path,
        on_progress: ProgressCallback,
    ) -> Mapping[str, str]:
        """Make what the evaluation needs beside the network, before it is trained.

        Args:
            recipe: Of this task.
            store: What ``open_store`` returned.
            shared: Where what several runs share is kept.
            on_progress: Called after each training step.

        Returns:
            What the run records of it; nothing by default.
        """
        del recipe, store, shared, on_progress
        return {}

    @abstractmethod
    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """The metrics of verdicts where a study names none; the first decides which is best."""

    def check_metrics(self, names: Sequence[str], recipes: Sequence[Any]) -> None:
        """Reject metrics that these recipes do not measure.

        Raises:
            UserError: Naming the metric and the setting that would measure it.
        """
        del names, recipes

    def comparable(self, metrics: Sequence[Metric], recipes: Sequence[Any]) -> tuple[Metric, ...]:
        """Those metrics that mean the same for all of these recipes."""
        del recipes
        return tuple(metrics)

    def baselines(self, recipe: Any, seed: int, store: Any, shared: Path) -> tuple[Baseline, ...]:
        """Rows to compare with that need no training."""
        del recipe, seed, store, shared
        return ()

    def phases(self, recipe: Any) -> tuple[tuple[float, Any], ...]:
        """Shares of the training steps, each with a recipe whose steps cost as much throughout."""
        return ((1.0, recipe),)

    def drawn_by_seed(self, recipe: Any) -> tuple[str, ...]:
        """What two runs of one recipe with different seeds draw differently, in words."""
        validation = ("validation images",) if recipe.data.has_validation else ()
        return ("initial weights", *validation, "the order of training images")

    def notes(
        self, finished: pd.DataFrame, recipes: Mapping[str, Any], baselines: Sequence[Baseline]
    ) -> TaskNotes:
        """What the report says of this task's finished runs beside their tables.

        Args:
            finished: A row a finished run, as ``results.csv`` has them.
            recipes: Variant -> recipe, in the order of the study.
            baselines: What ``baselines`` returned.
        """
        del finished, recipes, baselines
        return TaskNotes()

    def shown_images(self, folder: Path, runs: Any, store: Any, per_image: Any) -> None:
        """Write the test images that a study's report shows into ``folder``; none by default."""
        del folder, runs, store, per_image


TASKS: dict[str, Task] = {}
"""Every task by its name; ``isthmus.tasks`` fills it."""


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return TASKS[recipe.task]
