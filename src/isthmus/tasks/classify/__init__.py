"""Classification: networks that assign a label to an image; they also serve as judges of generated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.engine.run_result import Evaluation
from isthmus.engine.task import Task
from isthmus.metrics.metric import Metric
from isthmus.recipe import LabelledData
from isthmus.recipe.registry import LABELLED_DATASET
from isthmus.tasks.classify.recipe import ClassifyRecipe

if TYPE_CHECKING:
    from isthmus.data.batches import Change
    from isthmus.data.store import LabelledStore, OnProgress
    from isthmus.engine.fit import Trained
    from isthmus.tasks.classify.module import ClassifierModule


class LabelledTask(Task):
    """A task on images with one label per image."""

    def open_store(
        self,
        data: LabelledData,
        data_root: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> LabelledStore:
        """Images at ``data.size_px`` with their labels."""
        from isthmus.data.places import cache_folder
        from isthmus.data.store import open_labelled_store

        source = LABELLED_DATASET.load(data.name)(data, data_root)
        return open_labelled_store(source, data.size_px, data.channels, cache_folder(), on_progress)

    def augmentation(self, recipe: Any) -> Change | None:
        """Flips and shifts, as the data table says."""
        from isthmus.data.batches import labelled_augmentation

        return labelled_augmentation(recipe.data.flip, recipe.data.shift_px)


class ClassifyTask(LabelledTask):
    """A classifier trained with cross-entropy."""

    name = "classify"
    recipe = ClassifyRecipe
    curve = "accuracy"
    metrics = (
        Metric("accuracy", True, "Proportion of test images that are classified correctly."),
    )

    def new_module(
        self, recipe: ClassifyRecipe, store: LabelledStore, steps: int
    ) -> ClassifierModule:
        """A classifier for the labels of the store."""
        from isthmus.tasks.classify.module import ClassifierModule, judge_for

        return ClassifierModule(judge_for(recipe, len(store.class_names)), recipe, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Accuracy on the test set, with its confidence interval."""
        from isthmus.tasks.classify.evaluate import evaluate_classifier

        return evaluate_classifier(trained)

    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """Accuracy."""
        del recipes
        return ("accuracy",)
