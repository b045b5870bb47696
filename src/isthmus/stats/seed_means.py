"""The mean across seeds: what may be said about a recipe, of which a run is one draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from isthmus.errors import UserError
from isthmus.stats.finite import finite_metrics


@dataclass(frozen=True)
class SeedMean:
    """A mean across seeds, with what its error is told from."""

    mean: float
    sd: float
    """Standard deviation across seeds, with n - 1; NaN for n = 1."""
    n: int
    """Seeds."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval of the mean; (-inf, inf) for one seed.

        Assumes that seeds are independent and roughly normal. It stays near its level under
        heavy tails, and falls short of it where the seeds are strongly skewed.

        Source: Student 1908, The probable error of a mean.

        >>> low, high = SeedMean(mean=1.0, sd=1.0, n=4).interval()
        >>> round(low, 2), round(high, 2)
        (-0.59, 2.59)
        """
        check_share("level", level)
        if self.n < 2:
            return -math.inf, math.inf
        half = float(stats.t.isf((1 - level) / 2, self.n - 1)) * self.standard_error
        return self.mean - half, self.mean + half

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for one seed."""
        return self.sd / math.sqrt(self.n)


def seed_mean(metrics: Float[np.ndarray, " seed"]) -> SeedMean:
    """Mean across seeds; n is the number of seeds.

    >>> seed_mean(np.array([1.0, 2.0, 3.0]))
    SeedMean(mean=2.0, sd=1.0, n=3)
    """
    if not len(metrics):
        raise UserError("no seed has a metric: a mean needs one or more; run a seed")
    values = finite_metrics(metrics, unit="seed")
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return SeedMean(float(values.mean()), sd, len(values))


def check_share(name: str, share: float) -> None:
    """Reject a level, alpha or power that does not lie between 0 and 1."""
    if not 0 < share < 1:
        raise UserError(
            f"{name} is {share}: it lies between 0 and 1; give it as a share, as in 0.05"
        )
