"""Statistics of a metric over seeds: means with intervals, ranks of variants, proportions of variance.

A run is one random realisation of its recipe, so the sampling unit is the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import stats

from isthmus.errors import UserError

_OTHERS = ("interactions", "seed", "image", "rest")


def finite_metrics(
    metrics: Float[np.ndarray, "*shape"], unit: str
) -> Float64[np.ndarray, "*shape"]:
    """The metrics in double precision.

    Args:
        metrics: Array of any shape.
        unit: What the error message says to exclude if a value is missing, such as "seed".

    Raises:
        UserError: If a metric is NaN or infinite.

    >>> finite_metrics(np.array([0.5, 0.25], dtype=np.float32), unit="seed")
    array([0.5 , 0.25])
    """
    if missing := int((~np.isfinite(metrics)).sum()):
        raise UserError(
            f"{missing} of {metrics.size} metrics are not finite: statistics need finite numbers; exclude "
            f"each {unit} with a missing metric from the whole comparison, and report the exclusion"
        )
    return metrics.astype(np.float64)


@dataclass(frozen=True)
class SeedMean:
    """A mean across seeds, with the standard deviation and the number of seeds."""

    mean: float
    sd: float
    """Standard deviation across seeds, with n - 1; NaN for n = 1."""
    n: int
    """Number of seeds."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval of the mean; (-inf, inf) for one seed.

        Assumes that metrics of seeds are independent and roughly normal. Coverage stays near the level
        for heavy-tailed distributions, but is below the level for strongly skewed distributions.

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
        """Standard error of the mean; NaN for one seed."""
        return self.sd / math.sqrt(self.n)


def seed_mean(metrics: Float[np.ndarray, " seed"]) -> SeedMean:
    """Mean and standard deviation across seeds.

    >>> seed_mean(np.array([1.0, 2.0, 3.0]))
    SeedMean(mean=2.0, sd=1.0, n=3)
    """
    if not len(metrics):
        raise UserError("no seed has a metric: a mean needs at least one seed; run a seed")
    values = finite_metrics(metrics, unit="seed")
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return SeedMean(float(values.mean()), sd, len(values))


def check_share(name: str, share: float) -> None:
    """Raise ``UserError`` if a level, alpha or power does not lie between 0 and 1."""
    if not 0 < share < 1:
        raise UserError(f"{name} is {share}: it must lie between 0 and 1; write 5 % as 0.05")


def rank_shares(
    metrics: Float[np.ndarray, "seed variant"],
    rng: np.random.Generator,
    *,
    higher_is_better: bool,
    draws: int = 10_000,
) -> Float64[np.ndarray, "variant rank"]:
    """Proportion of bootstrap samples in which each variant has each rank; the first rank is best.

    Each bootstrap sample draws seeds with replacement, the same seeds for all variants, and ranks the
    means. Tied variants (to 12 digits) share their ranks equally, so rows and columns sum to 1.

    Assumes only that seeds are independent. With 3 to 10 seeds the variance of bootstrap means is too
    small, so the proportions are too close to 0 and 1. They describe a ranking; they are not a test.

    Source: Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical
    precipice (arXiv:2108.13264), section 4; whole seeds are drawn because variants are paired by seed.

    >>> metrics = np.array([[0.9, 0.5], [0.8, 0.6]])
    >>> rank_shares(metrics, np.random.default_rng(0), higher_is_better=True)
    array([[1., 0.],
           [0., 1.]])
    """
    seeds, variants = metrics.shape
    if seeds < 2 or variants < 1 or draws < 1:
        raise UserError(
            f"{draws} draws of {seeds} seeds of {variants} variants: resampling needs at least 1 draw, "
            "2 seeds and 1 variant; run more seeds"
        )
    values = finite_metrics(metrics, unit="seed")
    costs = -values if higher_is_better else values
    taken = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    largest = np.abs(values).max() or 1.0
    means = np.round(taken @ (costs / largest) / seeds, 12)
    first = stats.rankdata(means, method="min", axis=1)
    last = stats.rankdata(means, method="max", axis=1)
    ranks = np.arange(1, variants + 1)
    return np.column_stack(
        [(((first <= r) & (r <= last)) / (last - first + 1)).mean(axis=0) for r in ranks]
    )


def variance_shares(
    metrics: Float[np.ndarray, "seed image *levels"], factors: Sequence[str]
) -> dict[str, float]:
    """ANOVA variance decomposition: proportions of the total sum of squares of a balanced table.

    Each factor has the proportion of its main effect; ``interactions`` is that of the interactions of
    all orders among factors; ``seed`` and ``image`` are those of their main effects; and ``rest`` is
    everything else: differences of effects between seeds and between images, and noise. The
    proportions sum to 1.

    The proportions are neither tested nor corrected for chance: in pure noise with independent cells,
    the main effect of a factor with k levels still has a proportion of about (k - 1) / (n - 1), where
    n is the number of cells. The proportions depend on the levels and the images of the study.

    Args:
        metrics: One value per cell; a table without images has an image axis of length 1.
        factors: Names of the factors, one for each axis of levels.

    Source: Fisher 1925, Statistical methods for research workers, chapter 7; in balanced tables
    sums of squares of types 1, 2 and 3 are the same.

    >>> table = np.zeros((2, 1, 2))
    >>> table[1] += 3.0
    >>> table[..., 1] += 1.0
    >>> shares = variance_shares(table, ["loss"])
    >>> round(shares["loss"], 3), round(shares["seed"], 3), round(shares["rest"], 3)
    (0.1, 0.9, 0.0)
    """
    names = tuple(factors)
    _check_names(names, metrics.ndim - 2)
    values = finite_metrics(metrics, unit="seed or image")
    if not values.size or values.min() == values.max():
        raise UserError(
            "all metrics are equal: there is no variance to decompose; leave this metric out"
        )
    total = float(values.var())

    def share(*axes: int) -> float:
        """Proportion of variance of the main effects and interactions of these axes."""
        others = tuple(axis for axis in range(values.ndim) if axis not in axes)
        return float(values.mean(axis=others).var()) / total

    factor_axes = tuple(range(2, values.ndim))
    shares = {name: share(axis) for name, axis in zip(names, factor_axes, strict=True)}
    shares["interactions"] = max(0.0, share(*factor_axes) - sum(shares.values()))
    shares |= {"seed": share(0), "image": share(1)}
    return shares | {"rest": max(0.0, 1 - sum(shares.values()))}


def _check_names(names: tuple[str, ...], axes: int) -> None:
    if len(names) != axes:
        raise UserError(
            f"{len(names)} factor names for {axes} axes of levels: each axis is one factor; give one "
            "name per axis"
        )
    if len({*names, *_OTHERS}) < len(names) + len(_OTHERS):
        raise UserError(
            f"factors {list(names)}: names must be unique and none of {', '.join(_OTHERS)}; rename a factor"
        )
