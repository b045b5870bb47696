"""Evaluate a trained U-Net on the test set."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from isthmus.data.store import MaskedStore
from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Baseline, Evaluation
from isthmus.engine.task_module import PARTS
from isthmus.losses import loss_range
from isthmus.metrics.collapse import collapse_reason
from isthmus.metrics.segmentation import segmentation_metrics
from isthmus.recipe.rules import IGNORE_INDEX
from isthmus.tasks.segment.module import as_u8


def evaluate_segmenter(trained: Trained) -> Evaluation:
    """Metrics of the predicted masks; writes the masks and the metrics of each image to the run folder."""
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
    write_arrays(folder.image_metrics, {"names": names, **metrics.per_image})
    return Evaluation(reason=reason or "", metrics=metrics.over_set)


def _predicted_masks(trained: Trained) -> UInt8[np.ndarray, "n height width"]:
    """The predicted class ids of every test image."""
    with trained.evaluating() as network:
        masks = []
        for batch in trained.batches(trained.split.test):
            image = batch["image"].to(memory_format=torch.channels_last)
            masks.append(as_u8(network(image).argmax(dim=1)))
    return np.concatenate(masks)


def constant_prediction(store: MaskedStore) -> Baseline:
    """The metrics of predicting the most frequent class of the training images for every pixel."""
    parts = np.asarray(store.parts)
    counts = np.bincount(np.asarray(store.masks[parts == "train"]).ravel(), minlength=256)
    most_frequent = int(counts[:IGNORE_INDEX].argmax())
    truth = np.asarray(store.masks[parts == "test"])
    constant = np.full_like(truth, most_frequent)
    return Baseline(
        name=f"all {store.class_names[most_frequent]} (constant prediction)",
        definition="the same class for every pixel of every image",
        is_floor=True,
        metrics=segmentation_metrics(truth, constant, store.class_names).over_set,
    )
