"""Segmentation: a U-Net gives every pixel a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.engine.run_result import Baseline, Evaluation
from isthmus.engine.task import Task
from isthmus.metrics.metric import Metric
from isthmus.tasks.segment.recipe import Data, SegmentRecipe

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

    from isthmus.data.batches import MaskedImages
    from isthmus.data.store import MaskedStore, OnProgress
    from isthmus.engine.trained import Trained
    from isthmus.tasks.segment.module import Segmenter


class SegmentTask(Task):
    """U-Nets on images with masks."""

    name = "segment"
    recipe = SegmentRecipe
    curve = "pixel_accuracy"
    sections = ("classes", "images")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Over the whole test part; masks are at the recipe's size."""
        from isthmus.metrics.segmentation import METRICS

        return METRICS

    @property
    def metric_note(self) -> str:
        """What a class that is absent from a mask counts as."""
        from isthmus.metrics.segmentation import EMPTY_MASK_RULE

        return EMPTY_MASK_RULE

    def open_store(
        self, data: Data, data_root: Path | None = None, on_progress: OnProgress | None = None
    ) -> MaskedStore:
        """Images and masks at ``data.size_px``."""
        from isthmus.data.places import cache_folder
        from isthmus.data.store import open_store
        from isthmus.tasks.segment.sources import source_for

        source = source_for(data, data_root)
        return open_store(source, data.size_px, data.mask_resize, cache_folder(), on_progress)

    def training_rows(
        self, recipe: SegmentRecipe, store: MaskedStore, rows: Int[np.ndarray, " n"], seed: int
    ) -> MaskedImages:
        """Images and masks, augmented alike."""
        from isthmus.data.batches import MaskedImages
        from isthmus.tasks.segment.sources import augmentation_for

        return MaskedImages(store, rows, augmentation_for(recipe.augment), seed)

    def plain_rows(self, store: MaskedStore, rows: Int[np.ndarray, " n"]) -> MaskedImages:
        """Images and masks as they are stored."""
        from isthmus.data.batches import MaskedImages

        return MaskedImages(store, rows, None, 0)

    def new_module(self, recipe: SegmentRecipe, store: MaskedStore, steps: int) -> Segmenter:
        """A U-Net with the recipe's loss."""
        from isthmus.tasks.segment.module import segmenter_for

        return segmenter_for(recipe, len(store.class_names), steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        """Predicted masks and their metrics."""
        from isthmus.tasks.segment.evaluate import evaluate_segmenter

        return evaluate_segmenter(trained)

    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        """Mean IoU."""
        del recipes
        return ("mean_iou",)

    def baselines(
        self, recipe: SegmentRecipe, seed: int, store: MaskedStore, shared: Path
    ) -> tuple[Baseline, ...]:
        """The commonest class for every pixel."""
        from isthmus.tasks.segment.evaluate import constant_prediction

        del recipe, seed, shared
        return (constant_prediction(store),)

    def shown_images(self, folder: Path, runs: Any, store: MaskedStore, per_image: Any) -> None:
        """The same test images for every variant: typical, differing, hardest and easiest ones."""
        from isthmus.tasks.segment.shown_images import write_shown_images

        write_shown_images(folder, runs, store, per_image)
