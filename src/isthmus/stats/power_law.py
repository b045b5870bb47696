"""Learning curves: a metric as a function of the number of training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Num
from scipy.optimize import minimize_scalar

from isthmus.errors import UserError
from isthmus.stats.means import SeedMean, finite_metrics, seed_mean
from isthmus.stats.paired import PairedDifference, paired_difference

EXPONENTS = (0.01, 2.0)
"""Bounds of the exponent; at the lower bound, the law is practically a logarithm."""


@dataclass(frozen=True)
class PowerLaw:
    """metric(n) = limit - scale * n**-exponent, one law per seed.

    n is the number of training images; ``scale`` is negative if the metric decreases with n. Intervals
    are across seeds. Beyond the largest size, metrics are extrapolated: an interval then shows how
    seeds differ if the law holds, but not whether the law holds.
    """

    limit: Float64[np.ndarray, " seed"]
    """If the exponent is small, the limit is far from the data and has no meaning."""
    scale: Float64[np.ndarray, " seed"]
    exponent: Float64[np.ndarray, " seed"]
    sizes: Float64[np.ndarray, " size"]
    """Numbers of training images of the fit."""

    def metric(self, n: int) -> Float64[np.ndarray, " seed"]:
        """The metric of each seed at n training images, according to its law."""
        if n < 1:
            raise UserError(f"{n} training images: at least 1 is needed; pass a larger number")
        return np.asarray(self.limit - self.scale * float(n) ** -self.exponent)

    def predicted(self, n: int) -> SeedMean:
        """Mean across seeds of the metric at n training images, according to the laws."""
        return seed_mean(self.metric(n))

    def gained(self, n_from: int, n_to: int) -> PairedDifference:
        """Metric at ``n_to`` minus that at ``n_from`` training images, paired by seed."""
        return paired_difference(self.metric(n_to), self.metric(n_from))


def power_law(metrics: Float[np.ndarray, "seed size"], sizes: Num[np.ndarray, " size"]) -> PowerLaw:
    """Least-squares fit of a power law with a limit to each seed's metrics.

    Each seed's metrics may increase or decrease with size, so that gains scatter about 0 if there is no
    trend. For a given exponent, limit and scale are found by linear least squares. The exponent is
    searched on a grid and then refined within ``EXPONENTS``, so the fit needs no initial guess and does
    not end in a local minimum.

    Assumes that the law holds at these sizes with equal error variance. With 3 sizes, no degree of
    freedom is left to test this assumption.

    Source: Hestness et al. 2017, Deep learning scaling is predictable, empirically
    (arXiv:1712.00409); fitted by variable projection (Golub & Pereyra 1973).

    Raises:
        UserError: If there are fewer than 3 different sizes, or a metric is not finite.

    >>> sizes = np.array([100, 200, 400, 800])
    >>> law = power_law(0.9 - 2.0 * sizes[None] ** -0.5, sizes)
    >>> law.limit.round(4), law.scale.round(3), round(law.predicted(1600).mean, 4)
    (array([0.9]), array([2.]), 0.85)
    """
    if len(np.unique(sizes)) < 3 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise UserError(
            f"sizes {sizes.tolist()}: a learning curve needs at least 3 different sizes, all above 0; "
            "train on another number of images"
        )
    if not len(metrics):
        raise UserError("no seed has metrics: a law is fitted to each seed; run at least one seed")
    n = sizes.astype(np.float64)
    fits = [_fit(row, n) for row in finite_metrics(metrics, unit="seed")]
    limit, scale, exponent = np.array(fits).T
    return PowerLaw(limit, scale, exponent, sizes=n)


def _fit(
    metrics: Float64[np.ndarray, " size"], sizes: Float64[np.ndarray, " size"]
) -> tuple[float, float, float]:
    """Limit, scale and exponent of one seed."""
    middle = float(np.exp(np.log(sizes).mean()))
    relative = sizes / middle
    grid = np.linspace(*EXPONENTS, 100)
    best = int(_squares_left(grid, metrics, relative).argmin())
    refined = minimize_scalar(
        lambda exponent: _squares_left(np.array([exponent]), metrics, relative)[0],
        bounds=(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]),
        options={"xatol": 1e-9},
    )
    found = np.array([grid[best], refined.x])  # the refinement never evaluates its bounds
    exponent = float(found[_squares_left(found, metrics, relative).argmin()])
    x = relative**-exponent
    off = x - x.mean()
    slope = float(off @ metrics / (off @ off))
    return float(metrics.mean() - slope * x.mean()), -slope * middle**exponent, exponent


def _squares_left(
    exponents: Float64[np.ndarray, " exponent"],
    metrics: Float64[np.ndarray, " size"],
    sizes: Float64[np.ndarray, " size"],
) -> Float64[np.ndarray, " exponent"]:
    """Residual sum of squares of the best line in ``sizes**-exponent``, for each exponent."""
    x = sizes ** -exponents[:, None]
    off = x - x.mean(axis=1, keepdims=True)
    slopes = off @ metrics / (off**2).sum(axis=1)
    left = metrics - metrics.mean() - slopes[:, None] * off
    return np.asarray((left**2).sum(axis=1))
