"""Whether a finished run collapsed, so that its metrics say nothing about its recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

RANGE_TOLERANCE = 1e-3
"""Tolerance for rounding of a loss outside its valid range."""
ONE_CLASS_SHARE = 0.999
"""Predictions are of one class if more than this share of their pixels is."""
LEAST_FOUND = 0.01
"""A network that finds this share of the other classes' pixels has learned something."""


def collapse_reason(
    confusion: Int64[np.ndarray, "class class"],
    losses: Sequence[float],
    valid: tuple[float, float],
) -> str | None:
    """Why a run counts as failed, in one sentence; None if it does not.

    The first of these that applies is the reason:

    - a loss is not finite;
    - a loss lies more than ``RANGE_TOLERANCE`` outside ``valid``;
    - the predictions are of one class but the truth is not: more than ``ONE_CLASS_SHARE`` of the
      counted pixels are predicted as that class, and less than ``LEAST_FOUND`` of the true pixels
      of all other classes are found. Pixel accuracy then lies within 1 - ``ONE_CLASS_SHARE`` of
      that class's share of the truth, so an accuracy stuck at the majority share is covered.

    A network that finds a rare class passes, however rare the class is. So does one that predicts
    a single class where the truth has no other.

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
    """The first loss that is not finite or not valid, in one sentence; None if there is none.

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
    accuracy, share = counts.trace() / total, counts[only].sum() / total
    how_many = "all" if predicted[only] == total else f"{predicted[only] / total:.2%} of the"
    return (
        f"{how_many} predicted pixels are class {only}: pixel accuracy {accuracy:.4f} "
        f"equals that class's share of the truth, {share:.4f}"
    )
