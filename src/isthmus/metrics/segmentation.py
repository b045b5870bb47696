"""Metrics of predicted masks: per class and mean over classes, per image and over a whole set.

Computed with numpy and scipy from class indices. All metrics except the boundary F score are computed
from one confusion matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.recipe.rules import IGNORE_INDEX

Masks = UInt8[np.ndarray, "image height width"]

TOLERANCE_PX = 2.0
"""Largest distance between matching boundary pixels, in pixels."""

EMPTY_MASK_RULE = (
    "A class absent from both the true and the predicted mask has no value and is left out of "
    "means; a class absent from only one of them has the value 0."
)
"""The report's explanation of the metrics of absent classes."""


METRICS: tuple[Metric, ...] = (
    Metric("mean_iou", True, "Intersection over union of each class, mean over classes."),
    Metric("mean_dice", True, "Dice coefficient of each class, mean over classes."),
    Metric("pixel_accuracy", True, "Proportion of the counted pixels that have the true class."),
    Metric(
        "boundary_f",
        True,
        "Harmonic mean of the proportion of predicted boundary pixels that lie within "
        f"{TOLERANCE_PX:g} px of the true boundary and the proportion of true boundary pixels that lie "
        "as close to the predicted boundary; per image and class, mean over images, then over classes.",
    ),
)
"""The metrics of a run, in the order of its tables."""


@dataclass(frozen=True)
class SegmentationMetrics:
    """All metrics of the predictions for one test set.

    ``over_set`` has the ``METRICS`` and ``iou_CLASS``, ``dice_CLASS``, ``boundary_f_CLASS``. Pixels
    of all images are counted together, except for ``boundary_f``, which is the mean over the images
    with the class, then over classes. ``per_image`` has the ``METRICS`` and ``iou_CLASS``, one value
    per image. NaN: the metric is not defined because a class is absent.
    """

    over_set: dict[str, float]
    per_image: dict[str, Float[np.ndarray, " image"]]
    confusion: Int64[np.ndarray, "class class"]
    """Pixels of all images by true class (rows) and predicted class (columns)."""


def segmentation_metrics(
    truth: UInt8[np.ndarray, "image height width"],
    prediction: UInt8[np.ndarray, "image height width"],
    class_names: Sequence[str],
) -> SegmentationMetrics:
    """All metrics of one set of predictions.

    Args:
        truth: Class indices, or ``IGNORE_INDEX`` for pixels that do not count.
        prediction: Class indices.
        class_names: Names of the classes in the order of their indices.

    Raises:
        UserError: If a name is not unique, the masks differ in shape or a pixel has an unknown class.

    >>> truth = np.array([[[0, 1, 1, 255]]], np.uint8)
    >>> prediction = np.array([[[0, 0, 1, 1]]], np.uint8)
    >>> segmentation_metrics(truth, prediction, ["wall", "door"]).over_set["iou_door"]
    0.5
    """
    return metrics_of_batches([(truth, prediction)], class_names)


def metrics_of_batches(
    batches: Iterable[tuple[Masks, Masks]], class_names: Sequence[str]
) -> SegmentationMetrics:
    """As ``segmentation_metrics``, for (truth, prediction) in batches, of which one is held at a time."""
    _check_unique(class_names)
    num_classes = len(class_names)
    counts, edges = [], []
    for truth, prediction in batches:
        counts.append(confusion(truth, prediction, num_classes))
        edges.append(boundary_f(truth, prediction, num_classes))
    matrices, boundary = np.concatenate(counts), np.concatenate(edges)
    of_set = matrices.sum(axis=0)
    in_set = _by_name(of_set, _mean_of_evaluated(boundary, axis=0), class_names)
    by_image = _by_name(matrices, boundary, class_names)
    kept = [metric.name for metric in METRICS] + [f"iou_{name}" for name in class_names]
    return SegmentationMetrics(
        over_set={name: float(value) for name, value in in_set.items()},
        per_image={name: by_image[name] for name in kept},
        confusion=of_set,
    )


def confusion(
    truth: UInt8[np.ndarray, "image height width"],
    prediction: UInt8[np.ndarray, "image height width"],
    num_classes: int,
) -> Int64[np.ndarray, "image class class"]:
    """Confusion matrix of each image: pixels by true class (rows) and predicted class (columns).

    Pixels whose truth is ``IGNORE_INDEX`` are not counted.

    Raises:
        UserError: If the masks differ in shape or a counted pixel has an unknown class.

    >>> confusion(np.array([[[0, 1, 255]]], np.uint8), np.array([[[1, 1, 0]]], np.uint8), 2)
    array([[[0, 1],
            [0, 1]]])
    """
    _check_shapes(truth, prediction, num_classes)
    counted = truth != IGNORE_INDEX
    cells = truth.astype(np.int32) * num_classes + prediction
    counts = np.zeros((len(truth), num_classes, num_classes), np.int64)
    for image, count in enumerate(counts):
        seen = cells[image][counted[image]]
        count[:] = np.bincount(seen, minlength=num_classes**2).reshape(count.shape)
    return counts


def iou(confusion: Int64[np.ndarray, "*stack class class"]) -> Float[np.ndarray, "*stack class"]:
    """Intersection over union (Jaccard index) of each class; lies in [0, 1].

    NaN for a class absent from both truth and prediction.

    >>> iou(np.array([[6, 2, 0], [0, 2, 0], [0, 0, 0]]))
    array([0.75, 0.5 ,  nan])
    """
    both, true, predicted = _areas_px(confusion)
    return _ratio(both, true + predicted - both)


def dice(confusion: Int64[np.ndarray, "*stack class class"]) -> Float[np.ndarray, "*stack class"]:
    """Dice coefficient (F1 of pixels) of each class; lies in [0, 1].

    NaN for a class absent from both truth and prediction.

    >>> dice(np.array([[6, 2, 0], [0, 1, 0], [0, 0, 0]])).round(3)
    array([0.857, 0.5  ,   nan])
    """
    both, true, predicted = _areas_px(confusion)
    return _ratio(2 * both, true + predicted)


def pixel_accuracy(
    confusion: Int64[np.ndarray, "*stack class class"],
) -> Float[np.ndarray, "*stack"]:
    """Proportion of the counted pixels that have the true class; NaN if no pixel is counted.

    >>> float(pixel_accuracy(np.array([[3, 1], [0, 4]])))
    0.875
    """
    both, true, _ = _areas_px(confusion)
    return _ratio(both.sum(axis=-1), true.sum(axis=-1))


def boundary_f(
    truth: UInt8[np.ndarray, "image height width"],
    prediction: UInt8[np.ndarray, "image height width"],
    num_classes: int,
    tolerance_px: float = TOLERANCE_PX,
) -> Float[np.ndarray, "image class"]:
    """Boundary F score (harmonic mean of precision and recall) of each class in each image, in [0, 1].

    The boundary of a class consists of its pixels with a 4-neighbour of another class. Precision is
    the proportion of predicted boundary pixels within ``tolerance_px`` (Euclidean, inclusive) of a
    true boundary pixel; recall is the converse. NaN if neither mask has a boundary of the class, 0 if
    only one mask has. The edge of the image and the edges of ignored areas are not boundaries.

    Raises:
        UserError: If the masks differ in shape or a counted pixel has an unknown class.

    Source: Martin et al. 2004, Learning to detect natural image boundaries, section 3.1, for
    precision, recall and F; Csurka et al. 2013, What is a good evaluation measure for semantic
    segmentation?, section 2.2, for one class at a time and for matching by distance alone.

    >>> truth = np.zeros((1, 8, 8), np.uint8)
    >>> truth[:, :, 4:] = 1
    >>> prediction = np.zeros((1, 8, 8), np.uint8)
    >>> prediction[:, :, 6:] = 1
    >>> boundary_f(truth, prediction, 2), boundary_f(truth, prediction, 2, tolerance_px=1.0)
    (array([[1., 1.]]), array([[0., 0.]]))
    """
    _check_shapes(truth, prediction, num_classes)
    counted = truth != IGNORE_INDEX
    metrics = np.full((len(truth), num_classes), np.nan)
    true_edges = _changes(truth, counted)
    predicted_edges = _changes(prediction, counted)
    for image in range(len(truth)):
        for index in range(num_classes):
            metrics[image, index] = _boundary_f_of_class(
                true_edges[image] & (truth[image] == index),
                predicted_edges[image] & (prediction[image] == index),
                tolerance_px,
            )
    return metrics


def _changes(
    masks: UInt8[np.ndarray, "image height width"],
    counted: Bool[np.ndarray, "image height width"],
) -> Bool[np.ndarray, "image height width"]:
    """Counted pixels with a counted 4-neighbour of another class."""
    edges = np.zeros_like(counted)
    for axis in (1, 2):
        here = (slice(None),) * axis + (slice(None, -1),)
        there = (slice(None),) * axis + (slice(1, None),)
        differs = (masks[here] != masks[there]) & counted[here] & counted[there]
        edges[here] |= differs
        edges[there] |= differs
    return edges


def _boundary_f_of_class(
    true: Bool[np.ndarray, "height width"],
    predicted: Bool[np.ndarray, "height width"],
    tolerance_px: float,
) -> float:
    if not true.any() or not predicted.any():
        return 0.0 if true.any() or predicted.any() else float("nan")
    precision = float(np.mean(distance_transform_edt(~true)[predicted] <= tolerance_px))
    recall = float(np.mean(distance_transform_edt(~predicted)[true] <= tolerance_px))
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _by_name(
    confusion: Int64[np.ndarray, "*stack class class"],
    boundary: Float[np.ndarray, "*stack class"],
    class_names: Sequence[str],
) -> dict[str, Float[np.ndarray, "*stack"]]:
    """All metrics by name, ``METRICS`` first."""
    per_class = {"iou": iou(confusion), "dice": dice(confusion), "boundary_f": boundary}
    metrics = {
        "mean_iou": _mean_of_evaluated(per_class["iou"]),
        "mean_dice": _mean_of_evaluated(per_class["dice"]),
        "pixel_accuracy": pixel_accuracy(confusion),
        "boundary_f": _mean_of_evaluated(boundary),
    }
    for kind, values in per_class.items():
        metrics |= {f"{kind}_{name}": values[..., i] for i, name in enumerate(class_names)}
    return metrics


def _areas_px(
    confusion: Int64[np.ndarray, "*stack class class"],
) -> tuple[Int64[np.ndarray, "*stack class"], ...]:
    """Number of pixels of each class in both masks, in the true mask, and in the predicted mask."""
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return both, confusion.sum(axis=-1), confusion.sum(axis=-2)


def _ratio(above: ArrayLike, below: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Quotient; NaN where the denominator is 0."""
    quotient = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=quotient, where=np.asarray(below) != 0)
    return quotient


def _mean_of_evaluated(
    metrics: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "*rest"]:
    """Mean that ignores NaN; NaN if all values are NaN."""
    return _ratio(np.nansum(metrics, axis=axis), np.isfinite(metrics).sum(axis=axis))


def _check_shapes(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> None:
    if truth.shape != prediction.shape:
        raise UserError(
            f"prediction has shape {prediction.shape} but truth {truth.shape}: masks are compared pixel "
            "by pixel; resize the prediction to the size of the truth"
        )
    counted = truth != IGNORE_INDEX
    for what, masks in (("truth", truth), ("prediction", prediction)):
        largest = int(masks.max(where=counted, initial=0))
        if largest >= num_classes:
            raise UserError(
                f"{what} has class {largest} but there are {num_classes} classes: a counted pixel is "
                f"0 .. {num_classes - 1}; correct the masks or the number of classes"
            )


def _check_unique(class_names: Sequence[str]) -> None:
    for name in class_names:
        if class_names.count(name) > 1:
            raise UserError(f"class {name} is there twice: class names must be unique; rename one")
