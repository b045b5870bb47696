"""The learning curve: how a score changes with the number of training pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Num
from scipy.optimize import minimize_scalar

from isthmus.refusal import Refusal
from isthmus.statistics.finite import finite_scores
from isthmus.statistics.paired import PairedDifference, paired_difference
from isthmus.statistics.seeds import SeedMean, seed_mean

EXPONENTS = (0.01, 2.0)
"""Bounds of the exponent; at the lower one the law is a logarithm in all but name."""


@dataclass(frozen=True)
class PowerLaw:
    """score(n) = limit - scale * n**-exponent, a law a seed; scale is below 0 if scores fall.

    n is the number of training pictures here; errors are across seeds, the unit. Beyond the
    largest size the numbers are the law's, not the data's: an interval then says how seeds
    differ if the law holds, and nothing about whether it does.
    """

    limit: Float64[np.ndarray, " seed"]
    """Where a small exponent fits, this is far off and means nothing."""
    scale: Float64[np.ndarray, " seed"]
    exponent: Float64[np.ndarray, " seed"]
    sizes: Float64[np.ndarray, " size"]
    """Those that it was fitted to."""

    def score(self, n: int) -> Float64[np.ndarray, " seed"]:
        """What each seed's law says for n training pictures."""
        if n < 1:
            raise Refusal(f"{n} training pictures: a size is 1 or more; give another")
        return np.asarray(self.limit - self.scale * float(n) ** -self.exponent)

    def predicted(self, n: int) -> SeedMean:
        """Mean across seeds of the score for n training pictures."""
        return seed_mean(self.score(n))

    def gained(self, n_from: int, n_to: int) -> PairedDifference:
        """Score for ``n_to`` less that for ``n_from`` training pictures, paired by seed."""
        return paired_difference(self.score(n_to), self.score(n_from))


def power_law(scores: Float[np.ndarray, "seed size"], sizes: Num[np.ndarray, " size"]) -> PowerLaw:
    """The power law with a limit that is nearest to each seed's scores, by least squares.

    Whether scores rise or fall is left to each seed's data, so where nothing is gained, gains
    scatter about 0. Limit and scale are linear given the exponent, which is searched on a grid
    and then refined, within ``EXPONENTS``: no start to guess, no local minimum to be caught in.

    Assumes that the law holds at these sizes, with errors of one spread at all of them. With 3
    sizes nothing is left over to show that it does not.

    Source: Hestness et al. 2017, Deep learning scaling is predictable, empirically
    (arXiv:1712.00409); the split of the fit is Golub & Pereyra's 1973 variable projection.

    Raises:
        Refusal: If there are fewer than 3 different sizes, or a score is not finite.

    >>> sizes = np.array([100, 200, 400, 800])
    >>> law = power_law(0.9 - 2.0 * sizes[None] ** -0.5, sizes)
    >>> law.limit.round(4), law.scale.round(3), round(law.predicted(1600).mean, 4)
    (array([0.9]), array([2.]), 0.85)
    """
    if len(np.unique(sizes)) < 3 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise Refusal(
            f"sizes {sizes.tolist()}: a learning curve needs 3 different ones or more, all above "
            "0; train on another number of pictures"
        )
    if not len(scores):
        raise Refusal("no seed has scores: a law is fitted to each; run a seed")
    n = sizes.astype(np.float64)
    fits = [_fit(row, n) for row in finite_scores(scores, unit="seed")]
    limit, scale, exponent = np.array(fits).T
    return PowerLaw(limit, scale, exponent, sizes=n)


def _fit(
    scores: Float64[np.ndarray, " size"], sizes: Float64[np.ndarray, " size"]
) -> tuple[float, float, float]:
    """Limit, scale and exponent of one seed."""
    middle = float(np.exp(np.log(sizes).mean()))
    relative = sizes / middle
    grid = np.linspace(*EXPONENTS, 100)
    best = int(_squares_left(grid, scores, relative).argmin())
    refined = minimize_scalar(
        lambda exponent: _squares_left(np.array([exponent]), scores, relative)[0],
        bounds=(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]),
        options={"xatol": 1e-9},
    )
    found = np.array([grid[best], refined.x])  # the search itself never tries its bounds
    exponent = float(found[_squares_left(found, scores, relative).argmin()])
    x = relative**-exponent
    off = x - x.mean()
    slope = float(off @ scores / (off @ off))
    return float(scores.mean() - slope * x.mean()), -slope * middle**exponent, exponent


def _squares_left(
    exponents: Float64[np.ndarray, " exponent"],
    scores: Float64[np.ndarray, " size"],
    sizes: Float64[np.ndarray, " size"],
) -> Float64[np.ndarray, " exponent"]:
    """Of the best line in ``sizes**-exponent``, for each exponent."""
    x = sizes ** -exponents[:, None]
    off = x - x.mean(axis=1, keepdims=True)
    slopes = off @ scores / (off**2).sum(axis=1)
    left = scores - scores.mean() - slopes[:, None] * off
    return np.asarray((left**2).sum(axis=1))
