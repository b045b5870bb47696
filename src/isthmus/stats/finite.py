"""The door of every statistic: metrics that are numbers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from isthmus.errors import UserError


def finite_metrics(
    metrics: Float[np.ndarray, "*shape"], unit: str
) -> Float64[np.ndarray, "*shape"]:
    """The metrics in double precision, rejected if one of them is NaN or infinite.

    Args:
        metrics: Any table.
        unit: What is left out to mend it: a seed, an image.

    >>> finite_metrics(np.array([0.5, 0.25], dtype=np.float32), unit="seed")
    array([0.5 , 0.25])
    """
    if missing := int((~np.isfinite(metrics)).sum()):
        raise UserError(
            f"{missing} of {metrics.size} metrics are not finite: a mean needs numbers; leave out "
            f"each {unit} that has none, from all that is compared, and say so"
        )
    return metrics.astype(np.float64)
