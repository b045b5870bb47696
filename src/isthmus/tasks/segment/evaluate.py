"""Metric a trained U-Net on the test set, once, and say whether the run can be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from isthmus.engine.run_folder import write_arrays
from isthmus.engine.task_module import PARTS
from isthmus.engine.trained import Trained
from isthmus.losses import loss_range
from isthmus.metrics.collapse import collapse_reason
from isthmus.metrics.segmentation import segmentation_metrics
from isthmus.recipe import SegmentRecipe
from isthmus.tasks.segment.module import as_u8


def evaluate_segmenter(trained: Trained) -> dict[str, Any]:
    """Evaluate the test set, once; write the arrays; say whether the run can be counted."""
    assert isinstance(trained.recipe, SegmentRecipe)
    store, folder, test = trained.store, trained.folder, trained.split.test
    prediction = _predicted_masks(trained)
    truth = np.asarray(store.masks[test])
    names = [store.names[i] for i in test]
    metrics = segmentation_metrics(truth, prediction, store.class_names)
    reason = collapse_reason(
        prediction,
        truth,
        len(store.class_names),
        [float(line[f"{part}_loss"]) for line in folder.epochs() for part in PARTS],
        loss_range(trained.recipe.loss.name),
    )
    write_arrays(folder.predictions, {"masks": prediction, "names": names})
    write_arrays(folder.metrics, {"names": names, **metrics.per_image})
    return {"reason": reason or "", "metrics": metrics.over_set}


def _predicted_masks(trained: Trained) -> UInt8[np.ndarray, "n height width"]:
    """The network's class ids for every test image."""
    with trained.scoring() as network:
        masks = []
        for batch in trained.batches(trained.split.test):
            image = batch["image"].to(memory_format=torch.channels_last)
            masks.append(as_u8(network(image).argmax(dim=1)))
    return np.concatenate(masks)
