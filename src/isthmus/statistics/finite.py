"""The door of every statistic: scores that are numbers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from isthmus.refusal import Refusal


def finite_scores(scores: Float[np.ndarray, "*shape"], unit: str) -> Float64[np.ndarray, "*shape"]:
    """The scores in double precision, refused if one of them is NaN or infinite.

    Args:
        scores: Any table.
        unit: What is left out to mend it: a seed, a picture.

    >>> finite_scores(np.array([0.5, 0.25], dtype=np.float32), unit="seed")
    array([0.5 , 0.25])
    """
    if missing := int((~np.isfinite(scores)).sum()):
        raise Refusal(
            f"{missing} of {scores.size} scores are not finite: a mean needs numbers; leave out "
            f"each {unit} that has none, from all that is compared, and say so"
        )
    return scores.astype(np.float64)
