"""The difference of two trained networks on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap

from isthmus.errors import UserError
from isthmus.stats.finite import finite_metrics


@dataclass(frozen=True)
class ImageDifference:
    """Mean over images of the difference of two networks, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int
    """Images."""


def image_difference(
    a: Float[np.ndarray, " image_of_a"],
    b: Float[np.ndarray, " image_of_b"],
    rng: np.random.Generator,
    draws: int = 10_000,
) -> ImageDifference:
    """``a`` less ``b``, the metrics of two trained networks on the same images in one order.

    Images are the unit: the interval speaks of these two networks on other images like
    these, and not of their recipes, which trained again would give other networks.

    Method: the BCa bootstrap over paired images, which are taken to be independent; where all
    differences are the same, the interval is that number.

    Source: Efron 1987, Better bootstrap confidence intervals, as in ``scipy.stats.bootstrap``.

    Raises:
        UserError: If the two are not of the same 2 or more images, or a metric is not finite.

    >>> a, b = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.8, 0.8, 0.5, 0.7])
    >>> found = image_difference(a, b, np.random.default_rng(0))
    >>> round(found.mean, 3), found.low > 0, found.n
    (0.125, True, 4)
    """
    if len(a) != len(b) or len(a) < 2:
        raise UserError(
            f"{len(a)} and {len(b)} metrics: both are of the same 2 or more images; leave out "
            "each image that lacks one"
        )
    differences = finite_metrics(a, unit="image") - finite_metrics(b, unit="image")
    mean, n = float(differences.mean()), len(differences)
    if np.ptp(differences) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return ImageDifference(mean, mean, mean, n)
    interval = bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        n_resamples=draws,
        batch=max(1, 10_000_000 // n),  # bounds memory at about 80 MB
        rng=rng,
    ).confidence_interval
    return ImageDifference(mean, float(interval.low), float(interval.high), n)
