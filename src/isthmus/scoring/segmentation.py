"""Scores of predicted masks: per class and mean, per picture and over a whole set.

Plain numpy and scipy on class indices. Everything but the boundary score is read off the
confusion matrix, so that one count of pixels decides all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

from isthmus.recipe import IGNORE_INDEX
from isthmus.refusal import Refusal
from isthmus.scoring.definitions import Score

TOLERANCE_PX = 2.0
"""How far from a true boundary a predicted one may lie, in pixels."""

EMPTY_MASK_RULE = (
    "A class absent from both the true and the predicted mask has no score and is left out "
    "of means; a class absent from only one of them scores 0."
)
"""Printed where a report explains its scores."""


SCORES: tuple[Score, ...] = (
    Score("mean_iou", True, "Intersection over union of each class, mean over classes."),
    Score("mean_dice", True, "Dice coefficient of each class, mean over classes."),
    Score("pixel_accuracy", True, "Share of the counted pixels that get their true class."),
    Score(
        "boundary_f",
        True,
        "Harmonic mean of the shares of predicted and of true boundary pixels that lie within "
        f"{TOLERANCE_PX:g} px of the other boundary, per picture and class, mean over pictures, "
        "then over classes.",
    ),
)
"""The scores of a run, in the order of its tables."""


@dataclass(frozen=True)
class SegmentationScores:
    """All scores of the predictions for one test set.

    ``over_set`` holds the ``SCORES`` and ``iou_CLASS``, ``dice_CLASS``, ``boundary_f_CLASS``.
    Pixels of all pictures are counted together, except for ``boundary_f``: that is the mean
    over the pictures that show the class, then over classes. ``per_picture`` holds the
    ``SCORES`` and ``iou_CLASS``, one value a picture. NaN means that there is no score.
    """

    over_set: dict[str, float]
    per_picture: dict[str, Float[np.ndarray, " picture"]]


def segmentation_scores(
    truth: UInt8[np.ndarray, "picture height width"],
    prediction: UInt8[np.ndarray, "picture height width"],
    class_names: Sequence[str],
) -> SegmentationScores:
    """All scores of one set of predictions.

    Args:
        truth: Class indices, or ``IGNORE_INDEX`` for pixels that do not count.
        prediction: Class indices.
        class_names: Names of the classes in the order of their indices.

    Raises:
        Refusal: If a name stands twice or the masks hold what they may not.

    >>> truth = np.array([[[0, 1, 1, 255]]], np.uint8)
    >>> prediction = np.array([[[0, 0, 1, 1]]], np.uint8)
    >>> segmentation_scores(truth, prediction, ["wall", "door"]).over_set["iou_door"]
    0.5
    """
    _refuse_repeated(class_names)
    num_classes = len(class_names)
    matrices = confusion(truth, prediction, num_classes)
    boundary = boundary_f(truth, prediction, num_classes)
    boundary_of_set = _mean_of_scored(boundary, axis=0)
    in_set = _by_name(matrices.sum(axis=0), boundary_of_set, class_names)
    by_picture = _by_name(matrices, boundary, class_names)
    kept = [s.name for s in SCORES] + [f"iou_{name}" for name in class_names]
    return SegmentationScores(
        over_set={name: float(value) for name, value in in_set.items()},
        per_picture={name: by_picture[name] for name in kept},
    )


def confusion(
    truth: UInt8[np.ndarray, "picture height width"],
    prediction: UInt8[np.ndarray, "picture height width"],
    num_classes: int,
) -> Int64[np.ndarray, "picture class class"]:
    """Pixels of each true class (rows) that got each class (columns), of every picture.

    Pixels whose truth is ``IGNORE_INDEX`` are in no cell, whatever is predicted there.

    Raises:
        Refusal: If the masks differ in shape or a counted pixel is in no class.

    >>> confusion(np.array([[[0, 1, 255]]], np.uint8), np.array([[[1, 1, 0]]], np.uint8), 2)
    array([[[0, 1],
            [0, 1]]])
    """
    _refuse_misfit(truth, prediction, num_classes)
    counted = truth != IGNORE_INDEX
    cells = truth.astype(np.int32) * num_classes + prediction
    counts = np.zeros((len(truth), num_classes, num_classes), np.int64)
    for picture, count in enumerate(counts):
        seen = cells[picture][counted[picture]]
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
    """Share of the counted pixels that got their true class; NaN where none counts.

    >>> float(pixel_accuracy(np.array([[3, 1], [0, 4]])))
    0.875
    """
    both, true, _ = _areas_px(confusion)
    return _ratio(both.sum(axis=-1), true.sum(axis=-1))


def boundary_f(
    truth: UInt8[np.ndarray, "picture height width"],
    prediction: UInt8[np.ndarray, "picture height width"],
    num_classes: int,
    tolerance_px: float = TOLERANCE_PX,
) -> Float[np.ndarray, "picture class"]:
    """F of boundary precision and recall of each class in each picture; lies in [0, 1].

    The boundary of a class are its pixels with a pixel of another class above, below, left
    or right. Precision is the share of predicted boundary pixels within ``tolerance_px``
    (Euclidean, inclusive) of a true one, recall the converse. NaN where neither mask has a
    boundary of the class, 0 where only one has. The picture's edge makes no boundary, nor
    do ignored pixels: where they hide a class's true boundary, there is none to find.

    Raises:
        Refusal: If the masks differ in shape or a counted pixel is in no class.

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
    _refuse_misfit(truth, prediction, num_classes)
    counted = truth != IGNORE_INDEX
    scores = np.full((len(truth), num_classes), np.nan)
    true_edges = _changes(truth, counted)
    predicted_edges = _changes(prediction, counted)
    for picture in range(len(truth)):
        for index in range(num_classes):
            scores[picture, index] = _boundary_f_of_class(
                true_edges[picture] & (truth[picture] == index),
                predicted_edges[picture] & (prediction[picture] == index),
                tolerance_px,
            )
    return scores


def _changes(
    masks: UInt8[np.ndarray, "picture height width"],
    counted: Bool[np.ndarray, "picture height width"],
) -> Bool[np.ndarray, "picture height width"]:
    """Where a counted pixel has a counted 4-neighbour of another class."""
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
    """Every score under its name; those of ``SCORES`` first."""
    of_classes = {"iou": iou(confusion), "dice": dice(confusion), "boundary_f": boundary}
    scores = {
        "mean_iou": _mean_of_scored(of_classes["iou"]),
        "mean_dice": _mean_of_scored(of_classes["dice"]),
        "pixel_accuracy": pixel_accuracy(confusion),
        "boundary_f": _mean_of_scored(boundary),
    }
    for kind, values in of_classes.items():
        scores |= {f"{kind}_{name}": values[..., i] for i, name in enumerate(class_names)}
    return scores


def _areas_px(
    confusion: Int64[np.ndarray, "*stack class class"],
) -> tuple[Int64[np.ndarray, "*stack class"], ...]:
    """Of each class: pixels in both masks, in the true one, in the predicted one."""
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return both, confusion.sum(axis=-1), confusion.sum(axis=-2)


def _ratio(above: ArrayLike, below: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Quotient; NaN where there is nothing to divide by."""
    quotient = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=quotient, where=np.asarray(below) != 0)
    return quotient


def _mean_of_scored(
    scores: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "*rest"]:
    """Mean without the NaN; NaN where there is nothing else."""
    return _ratio(np.nansum(scores, axis=axis), np.isfinite(scores).sum(axis=axis))


def _refuse_misfit(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> None:
    if truth.shape != prediction.shape:
        raise Refusal(
            f"prediction has shape {prediction.shape} but truth {truth.shape}: masks are "
            "compared pixel by pixel; resize the prediction to the size of the truth"
        )
    counted = truth != IGNORE_INDEX
    for what, masks in (("truth", truth), ("prediction", prediction)):
        largest = int(masks.max(where=counted, initial=0))
        if largest >= num_classes:
            raise Refusal(
                f"{what} holds class {largest} but there are {num_classes} classes: a counted "
                f"pixel is 0 .. {num_classes - 1}; mend the masks or the number of classes"
            )


def _refuse_repeated(class_names: Sequence[str]) -> None:
    for name in class_names:
        if class_names.count(name) > 1:
            raise Refusal(
                f"class {name} stands twice: each class has a name of its own; rename one"
            )
