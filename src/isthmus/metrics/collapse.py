"""Detect finished runs that have collapsed: their metrics say nothing about the recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

RANGE_TOLERANCE = 1e-3
"""A loss may lie outside its valid range by this much, because of rounding."""
ONE_CLASS_SHARE = 0.999
"""Predictions count as constant if more than this fraction of their pixels has the same class."""
LEAST_FOUND = 0.01
"""A network that predicts this fraction of the other classes' pixels correctly has not collapsed."""


def collapse_reason(
    confusion: Int64[np.ndarray, "class class"],
    losses: Sequence[float],
    valid: tuple[float, float],
) -> str | None:
    """Why a run counts as failed, in one sentence; None if it does not count as failed.

    The first of these conditions that holds is the reason:

    - a loss is not finite;
    - a loss lies more than ``RANGE_TOLERANCE`` outside ``valid``;
    - the predictions are constant but the truth is not: more than the fraction ``ONE_CLASS_SHARE`` of
      the counted pixels are predicted as one class, and less than the fraction ``LEAST_FOUND`` of the
      true pixels of the other classes are predicted correctly. Pixel accuracy then differs by at most
      1 - ``ONE_CLASS_SHARE`` from the proportion of that class in the truth; this includes networks
      whose accuracy stays at the proportion of the majority class.

    A network that predicts a rare class correctly passes, however rare the class is. So does a
    network that predicts a single class if the truth has no other class.

    Args:
        confusion: Pixels by true class (rows) and predicted class (columns).
        losses: All recorded losses, in order.
        valid: Smallest and largest possible value of the loss.

    >>> confusion = np.array([[1, 0], [0, 2]])
    >>> collapse_reason(confusion, [0.7, 0.1], (0.0, 1.0))
    >>> collapse_reason(confusion, [0.7, -14988.0], (0.0, 1.0))
    'loss 2 of 2 is -14988: it must lie in 0 .. 1'
    """
    return broken_loss(losses, valid) or _one_class(confusion)


def broken_loss(
    losses: Sequence[float], valid: tuple[float, float] = (-math.inf, math.inf)
) -> str | None:
    """The first loss that is not finite or not valid, in one sentence; None if all losses are valid.

    >>> broken_loss([-3.5, math.nan])
    'loss 2 of 2 is nan: it must be finite'
    """
    least, largest = valid
    for number, loss in enumerate(losses, start=1):
        which = f"loss {number} of {len(losses)} is {loss:g}"
        if not math.isfinite(loss):
            return f"{which}: it must be finite"
        if not least - RANGE_TOLERANCE <= loss <= largest + RANGE_TOLERANCE:
            return f"{which}: it must lie in {least:g} .. {largest:g}"
    return None


def _one_class(counts: Int64[np.ndarray, "class class"]) -> str | None:
    total = counts.sum()
    predicted = counts.sum(axis=0)
    only = int(predicted.argmax())
    others = total - counts[only].sum()
    others_found = counts.trace() - counts[only, only]
    if predicted[only] <= ONE_CLASS_SHARE * total or others_found >= LEAST_FOUND * others:
        return None
    accuracy, proportion = counts.trace() / total, counts[only].sum() / total
    how_many = "all" if predicted[only] == total else f"{predicted[only] / total:.2%} of the"
    return (
        f"{how_many} predicted pixels are class {only}: pixel accuracy {accuracy:.4f} "
        f"equals that class's proportion of the truth, {proportion:.4f}"
    )
