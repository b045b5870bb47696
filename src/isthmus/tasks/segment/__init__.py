"""Segmentation: a U-Net assigns a class to every pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.engine.run_result import Baseline, Evaluation
from isthmus.engine.task import Task
from isthmus.metrics.metric import Metric
from isthmus.recipe.registry import MASKED_DATASET
from isthmus.tasks.segment.recipe import Data, SegmentRecipe

if TYPE_CHECKING:
    from isthmus.data.batches import Change
    from isthmus.data.store import MaskedStore, OnProgress
    from isthmus.engine.fit import Trained
    from isthmus.tasks.segment.module import Segmenter


class SegmentTask(Task):
    """U-Nets on images with masks."""

    name = "segment"
    recipe = SegmentRecipe
    curve = "pixel_accuracy"
    sections = ("classes", "images")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the predicted masks of the test set, at the size of the recipe."""
        from isthmus.metrics.segmentation import METRICS

        return METRICS

    @property
    def metric_note(self) -> str:
        """How classes that are absent from a mask are counted."""
        from isthmus.metrics.segmentation import EMPTY_MASK_RULE

        return EMPTY_MASK_RULE

    def open_store(
        self, data: Data, data_root: Path | None = None, on_progress: OnProgress | None = None
    ) -> MaskedStore:
        """Images and masks at ``data.size_px``."""
        from isthmus.data.places import cache_folder
        from isthmus.data.store import open_store

        source = MASKED_DATASET.load(data.name)(data, data_root)
        return open_store(source, data.size_px, data.mask_resize, cache_folder(), on_progress)

    def augmentation(self, recipe: SegmentRecipe) -> Change | None:
        """Changes of colour and geometry; image and mask are moved in the same way."""
        from isthmus.data.batches import masked_augmentation

        return masked_augmentation(**dataclasses.asdict(recipe.augment))

    def new_module(self, recipe: SegmentRecipe, store: MaskedStore, steps: int) -> Segmenter:
        """A U-Net with the recipe's loss."""
        from isthmus.tasks.segment.module import Segmenter, unet_for

        num_classes = len(store.class_names)
        return Segmenter(unet_for(recipe.model, 3, num_classes), recipe, num_classes, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Metrics of the predicted masks."""
        from isthmus.tasks.segment.evaluate import evaluate_segmenter

        return evaluate_segmenter(trained)

    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """Mean IoU."""
        del recipes
        return ("mean_iou",)

    def baselines(
        self, recipe: SegmentRecipe, seed: int, store: MaskedStore, shared: Path
    ) -> tuple[Baseline, ...]:
        """The prediction of the most frequent class for every pixel."""
        from isthmus.tasks.segment.evaluate import constant_prediction

        del recipe, seed, shared
        return (constant_prediction(store),)

    def shown_images(self, folder: Path, runs: Any, store: MaskedStore, per_image: Any) -> None:
        """Write test images of every role, with the masks that each variant predicts for them."""
        from isthmus.tasks.segment.shown_images import write_shown_images

        write_shown_images(folder, runs, store, per_image)
