"""Evaluate a trained U-Net on the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from isthmus.data.store import MaskedStore
from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import array_stream, write_arrays
from isthmus.engine.run_result import Baseline, Evaluation
from isthmus.engine.task_module import PARTS
from isthmus.losses import loss_range
from isthmus.metrics.collapse import collapse_reason
from isthmus.metrics.segmentation import metrics_of_batches
from isthmus.recipe.rules import IGNORE_INDEX
from isthmus.tasks.segment.module import as_u8

_MASKS_AT_ONCE = 256


def evaluate_segmenter(trained: Trained) -> Evaluation:
    """Metrics of the predicted masks; writes the masks and the metrics of each image to the run folder."""
    store, folder, test = trained.store, trained.folder, trained.split.test
    names = [store.names[row] for row in test]
    masks = array_stream(
        folder.predictions, "masks", (len(test), *store.masks.shape[1:]), names=names
    )
    with masks as write:
        metrics = metrics_of_batches(_predictions(trained, write), store.class_names)
    reason = collapse_reason(
        metrics.confusion,
        [float(line[f"{part}_loss"]) for line in folder.epochs() for part in PARTS],
        loss_range(trained.recipe.loss.name),
    )
    write_arrays(folder.image_metrics, {"names": names, **metrics.per_image})
    return Evaluation(reason=reason or "", metrics=metrics.over_set)


def _predictions(
    trained: Trained, write: Callable[[UInt8[np.ndarray, ...]], object]
) -> Iterator[tuple[UInt8[np.ndarray, ...], UInt8[np.ndarray, ...]]]:
    """True and predicted class ids of the test images in batches; ``write`` gets the predicted ones."""
    with trained.evaluating() as network:
        for batch in trained.batches(trained.split.test):
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            predicted = as_u8(network(image).argmax(dim=1))
            write(predicted)
            yield as_u8(batch["mask"]), predicted


def constant_prediction(store: MaskedStore) -> Baseline:
    """The metrics of predicting the most frequent class of the training images for every pixel."""
    parts = np.asarray(store.parts)
    counts = np.zeros(256, np.int64)
    for masks in _in_batches(store, parts == "train"):
        counts += np.bincount(masks.ravel(), minlength=256)
    most_frequent = int(counts[:IGNORE_INDEX].argmax())
    tests = _in_batches(store, parts == "test")
    pairs = ((truth, np.full_like(truth, most_frequent)) for truth in tests)
    return Baseline(
        name=f"all {store.class_names[most_frequent]} (constant prediction)",
        definition="the same class for every pixel of every image",
        is_floor=True,
        metrics=metrics_of_batches(pairs, store.class_names).over_set,
    )


def _in_batches(
    store: MaskedStore, chosen: Bool[np.ndarray, " n"]
) -> Iterator[UInt8[np.ndarray, ...]]:
    """The chosen masks, some at a time."""
    rows = np.flatnonzero(chosen)
    for first in range(0, len(rows), _MASKS_AT_ONCE):
        yield np.asarray(store.masks[rows[first : first + _MASKS_AT_ONCE]])
