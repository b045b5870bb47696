"""Classification: networks that name the label of an image, and serve as judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.engine.run_result import Evaluation
from isthmus.engine.task import Task
from isthmus.metrics.metric import Metric
from isthmus.recipe import LabelledData
from isthmus.tasks.classify.recipe import ClassifyRecipe

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

    from isthmus.data.batches import LabelledImages
    from isthmus.data.store import LabelledStore, OnProgress
    from isthmus.engine.trained import Trained
    from isthmus.tasks.classify.module import ClassifierModule

_METRICS = (Metric("accuracy", True, "Share of test images whose label it names."),)


class LabelledTask(Task):
    """A task on images that each have one label."""

    def open_store(
        self,
        data: LabelledData,
        data_root: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> LabelledStore:
        """Images at ``data.size_px`` with their labels."""
        from isthmus.data.places import cache_folder
        from isthmus.data.store import open_labelled_store
        from isthmus.tasks.classify.sources import source_for

        source = source_for(data, data_root)
        return open_labelled_store(source, data.size_px, data.channels, cache_folder(), on_progress)

    def training_rows(
        self, recipe: Any, store: LabelledStore, rows: Int[np.ndarray, " n"], seed: int
    ) -> LabelledImages:
        """Images flipped and shifted as the data table says."""
        from isthmus.data.batches import LabelledImages

        return LabelledImages(store, rows, recipe.data.flip, recipe.data.shift_px, seed)

    def plain_rows(self, store: LabelledStore, rows: Int[np.ndarray, " n"]) -> LabelledImages:
        """Images as they are stored."""
        from isthmus.data.batches import LabelledImages

        return LabelledImages(store, rows, 0.0, 0, 0)


class ClassifyTask(LabelledTask):
    """A classifier with cross-entropy."""

    name = "classify"
    recipe = ClassifyRecipe
    curve = "accuracy"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy."""
        return _METRICS

    def new_module(
        self, recipe: ClassifyRecipe, store: LabelledStore, steps: int
    ) -> ClassifierModule:
        """A classifier of the store's labels."""
        from isthmus.tasks.classify.module import classifier_for

        return classifier_for(recipe, store, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Accuracy on the test part, with its interval."""
        from isthmus.tasks.classify.evaluate import evaluate_classifier

        return evaluate_classifier(trained)

    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """Accuracy."""
        del recipes
        return ("accuracy",)
