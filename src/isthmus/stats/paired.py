"""Paired differences of two recipes over seeds, with tests and sample sizes, or of two networks over images.

n is the number of seeds, except in ``image_difference``. Pairing removes the effects of a seed that are
the same for both recipes: those of its split and of its order of images. Differences are assumed to be
independent and roughly normal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import integrate, optimize, special, stats

from isthmus.errors import UserError
from isthmus.stats.means import SeedMean, check_share, finite_metrics, seed_mean

ROUNDING = 1e-12
"""A difference below this fraction of the largest metric counts as rounding error, that is, as 0."""


@dataclass(frozen=True)
class PairedDifference(SeedMean):
    """Mean across seeds of the difference of two metrics."""

    @property
    def p_value(self) -> float:
        """P-value of the two-sided paired t test; NaN for one seed.

        If the standard deviation is 0, the p-value is 0, or 1 if the mean is also 0.

        >>> round(PairedDifference(mean=1.0, sd=1.0, n=4).p_value, 3)
        0.139
        """
        if self.n < 2:
            return math.nan
        return 2 * self._p_above(abs(self.mean))

    def p_equivalent(self, margin: float) -> float:
        """P-value of the equivalence test with this margin; NaN for one seed.

        The null hypothesis is an absolute difference of ``margin`` or more; the p-value is the larger
        p-value of two one-sided t tests (TOST). A small p-value means that the recipes are equivalent.

        Source: Schuirmann 1987, A comparison of the two one-sided tests procedure and the power
        approach for assessing the equivalence of average bioavailability.

        >>> round(PairedDifference(mean=0.0, sd=1.0, n=4).p_equivalent(margin=2.0), 3)
        0.014
        """
        _check_margin(margin)
        if self.n < 2:
            return math.nan
        return self._p_above(margin - abs(self.mean), at_zero=1.0)

    def _p_above(self, distance: float, at_zero: float = 0.5) -> float:
        """Probability of a t above ``distance`` / standard error; also defined for an error of 0."""
        if self.sd == 0:
            return at_zero if distance == 0 else float(distance < 0)
        return float(stats.t.sf(distance / self.standard_error, self.n - 1))


def paired_difference(
    a: Float[np.ndarray, " seed_of_a"], b: Float[np.ndarray, " seed_of_b"]
) -> PairedDifference:
    """Mean of ``a`` minus ``b``, the metrics of two recipes with the same seeds in the same order.

    A mean or a standard deviation below ``ROUNDING`` counts as 0.

    Raises:
        UserError: If the numbers of seeds differ or a metric is not finite.

    >>> paired_difference(np.array([3.0, 5.0, 7.0]), np.array([2.0, 3.0, 4.0]))
    PairedDifference(mean=2.0, sd=1.0, n=3)
    """
    if len(a) != len(b):
        raise UserError(
            f"{len(a)} and {len(b)} metrics: both recipes need the same seeds; exclude each seed that only "
            "one recipe has"
        )
    rounding = ROUNDING * max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    found = seed_mean(finite_metrics(a, unit="seed") - finite_metrics(b, unit="seed"))
    return PairedDifference(
        mean=0.0 if abs(found.mean) <= rounding else found.mean,
        sd=0.0 if found.sd <= rounding else found.sd,
        n=found.n,
    )


def needed_seeds(
    difference: float, sd: float, alpha: float, power: float = 0.8, most: int = 1000
) -> int | None:
    """Fewest seeds at which a true difference is significant with this power, or None.

    Exact for the two-sided paired t test; None if more than ``most`` seeds are needed. If ``sd`` is
    estimated from few seeds, the result is only a rough guess: with 5 seeds, an error by half is common.

    Args:
        difference: The true difference; its sign does not matter.
        sd: True standard deviation of paired differences.
        alpha: Significance level of this test; in a family of m tests, alpha / m is conservative.
        power: Probability of a significant result.
        most: Largest number of seeds to consider.

    >>> needed_seeds(difference=1.0, sd=1.0, alpha=0.05)
    10
    """
    _check_plan(sd, alpha, power)
    if sd == 0:
        return 2 if difference else None
    effect = abs(difference) / sd
    return _fewest(lambda n: _power(effect, n, alpha), power, most)


def needed_seeds_for_equivalence(
    difference: float,
    sd: float,
    margin: float,
    alpha: float,
    power: float = 0.8,
    most: int = 1000,
) -> int | None:
    """Fewest seeds at which two recipes are shown to be equivalent with this power, or None.

    Exact for TOST (``PairedDifference.p_equivalent``) at a true difference of ``difference``.
    None if more than ``most`` seeds are needed or the true difference is not within the margin.

    >>> needed_seeds_for_equivalence(difference=0.0, sd=1.0, margin=1.0, alpha=0.05)
    11
    """
    _check_plan(sd, alpha, power)
    _check_margin(margin)
    if abs(difference) >= margin:
        return None
    if sd == 0:
        return 2
    return _fewest(
        lambda n: _power_of_equivalence(abs(difference) / sd, margin / sd, n, alpha), power, most
    )


def smallest_visible(sd: float, n: int, alpha: float, power: float = 0.8) -> float:
    """Smallest true difference that n paired seeds detect with this power; inf for n < 2.

    Exact for the two-sided paired t test with true standard deviation ``sd``.

    >>> round(smallest_visible(sd=1.0, n=5, alpha=0.05), 2)
    1.68
    """
    if n < 2:
        return math.inf
    _check_plan(sd, alpha, power)
    certain = (_critical_t(alpha / 2, n) * _longest_spread(n) + _FAR) / math.sqrt(n)
    return sd * float(optimize.brentq(lambda effect: _power(effect, n, alpha) - power, 0, certain))


@dataclass(frozen=True)
class ImageDifference:
    """Mean difference of two networks over images, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int
    """Number of images."""


def image_difference(
    a: Float[np.ndarray, " image_of_a"],
    b: Float[np.ndarray, " image_of_b"],
    rng: np.random.Generator,
    draws: int = 10_000,
) -> ImageDifference:
    """Mean of ``a`` minus ``b``, the metrics of two trained networks on the same images in the same order.

    The sampling unit is the image: the interval is for the mean difference of these two networks over
    the population of images. It says nothing about the recipes, which would give other networks if
    they were trained again.

    Method: BCa bootstrap over paired images, assumed to be independent. If all differences are equal,
    both ends of the interval equal that difference.

    Source: Efron 1987, Better bootstrap confidence intervals, as in ``scipy.stats.bootstrap``.

    Raises:
        UserError: If there are fewer than 2 images, their numbers differ or a metric is not finite.

    >>> a, b = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.8, 0.8, 0.5, 0.7])
    >>> found = image_difference(a, b, np.random.default_rng(0))
    >>> round(found.mean, 3), found.low > 0, found.n
    (0.125, True, 4)
    """
    if len(a) != len(b) or len(a) < 2:
        raise UserError(
            f"{len(a)} and {len(b)} metrics: both networks need the same images, at least 2; exclude each "
            "image that only one network has"
        )
    differences = finite_metrics(a, unit="image") - finite_metrics(b, unit="image")
    mean, n = float(differences.mean()), len(differences)
    if np.ptp(differences) <= ROUNDING * max(np.abs(a).max(), np.abs(b).max()):
        return ImageDifference(mean, mean, mean, n)
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        n_resamples=draws,
        batch=max(1, 10_000_000 // n),  # bounds memory at about 80 MB
        rng=rng,
    ).confidence_interval
    return ImageDifference(mean, float(interval.low), float(interval.high), n)


_FAR = 9.0
"""Standard deviations beyond which the normal density is taken as 0."""
_UNSEEN = 1e-14
"""Tail probability of the observed standard deviation at which the integration starts and ends."""


def _power(effect: float, n: int, alpha: float) -> float:
    """Power of the two-sided paired t test at a difference of ``effect`` standard deviations.

    Integrates the noncentral t over the observed standard deviation, because scipy's noncentral t
    (which statsmodels uses too) is NaN for large effects at few seeds.
    """
    t, shift = _critical_t(alpha / 2, n), effect * math.sqrt(n)

    def chance(spread: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, " node"]:
        return np.asarray(special.ndtr(shift - t * spread) + special.ndtr(-shift - t * spread))

    return _mean_over_spreads(chance, n, most=(shift + _FAR) / t)


def _power_of_equivalence(effect: float, margin: float, n: int, alpha: float) -> float:
    """Power of TOST; arguments are in standard deviations. Both tests use the same observed deviation."""
    t, root = _critical_t(alpha, n), math.sqrt(n)

    def chance(spread: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, " node"]:
        below = special.ndtr((margin - effect) * root - t * spread)
        above = special.ndtr(t * spread - (margin + effect) * root)
        return np.asarray(below - above)

    return _mean_over_spreads(chance, n, most=margin * root / t)


def _mean_over_spreads(
    chance: Callable[[Float64[np.ndarray, " node"]], Float64[np.ndarray, " node"]],
    n: int,
    most: float,
) -> float:
    """Expectation of ``chance`` over the ratio of observed to true standard deviation for n seeds.

    ``chance`` counts as 0 for ratios above ``most``.
    """
    df = n - 1
    low = math.sqrt(2 * special.gammaincinv(df / 2, _UNSEEN) / df)
    high = min(_longest_spread(n), most)
    if high <= low:
        return 0.0
    log_scale = (df / 2) * math.log(df / 2) + math.log(2) - special.gammaln(df / 2)

    def weighted(spread: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, " node"]:
        """Density of the spread (chi over the root of df) times ``chance``."""
        log_density = log_scale + (df - 1) * np.log(spread) - df * spread**2 / 2
        return np.asarray(np.exp(log_density) * chance(spread))

    return float(integrate.fixed_quad(weighted, low, high, n=400)[0])


def _longest_spread(n: int) -> float:
    return math.sqrt(2 * special.gammainccinv((n - 1) / 2, _UNSEEN) / (n - 1))


def _critical_t(tail: float, n: int) -> float:
    return float(-special.stdtrit(n - 1, tail))


def _fewest(power_of: Callable[[int], float], power: float, most: int) -> int | None:
    """Bisection: power increases with n."""
    candidates = range(2, most + 1)
    found = bisect_left(candidates, power, key=power_of)
    return candidates[found] if found < len(candidates) else None


def _check_plan(sd: float, alpha: float, power: float) -> None:
    if not 0 <= sd < math.inf:
        raise UserError(
            f"the standard deviation is {sd}: it must be finite and 0 or more; estimate it from two "
            "seeds or more"
        )
    check_share("alpha", alpha)
    check_share("power", power)
    if power <= alpha:
        raise UserError(
            f"power {power} is not above alpha {alpha}: any test reaches a power of alpha by chance; "
            "set a higher power, such as 0.8"
        )


def _check_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise UserError(
            f"the margin is {margin}: equivalence needs a finite margin above 0; set the largest "
            "difference that would not matter"
        )
