"""Corrections of p-values: for the tests of a family (Holm) and for interim looks (Pocock).

A family is the set of tests whose probability of any false positive is controlled together. An
interim look is an analysis of a study that may get more seeds afterwards; each look is another chance
of a false positive. All looks have the same nominal significance level (Pocock 1977, Group sequential
methods in the design and analysis of clinical trials), here with the exact t test at each look in
place of the normal test, because there are few seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy import special
from statsmodels.stats.multitest import multipletests

from isthmus.errors import UserError
from isthmus.stats.means import check_share


def holm(p_values: Float[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """P-values adjusted by Holm's method, which controls the family-wise error rate.

    A test without a p-value (NaN) stays NaN and is not counted. The tests may depend on each
    other in any way. The smallest of m p-values is compared with alpha / m: use that level to plan
    the number of seeds.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm(np.array([0.01, np.nan, 0.04]))
    array([0.02,  nan, 0.04])
    """
    _check_p_values(p_values)
    adjusted = np.full(len(p_values), np.nan)
    is_known: Bool[np.ndarray, " test"] = ~np.isnan(p_values)
    if is_known.any():
        adjusted[is_known] = multipletests(p_values[is_known], method="holm")[1]
    return adjusted


@dataclass(frozen=True)
class Looks:
    """All planned looks at a study up to the last possible look, even if the study stops earlier."""

    seeds: tuple[int, ...]
    """Number of paired seeds at each look."""
    minima: Float64[np.ndarray, " draw"] = field(repr=False, compare=False)
    """Sorted; the smallest two-sided p-value over the looks of each simulated study without effect."""

    def corrected(self, p_values: Float[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
        """Probability, if there is no effect, of a p-value at most this small at any of the looks.

        Valid for the p-values of the look at which the study stops, if all looks were planned before
        the first; apply ``holm`` across a family afterwards. The corrected p-value increases with p,
        is never below p, and equals p for a single look. NaN stays NaN. Assumes independent, normal
        differences, as the paired t test does. Conservative for the one-sided p-values of equivalence.

        The simulated probability counts the study itself (Phipson & Smyth 2010, Permutation P-values
        should never be zero). If p is too small to be simulated, the result is p times the number of
        looks, an upper bound. The standard error of a corrected p-value c is sqrt(c (1 - c) / draws):
        0.0005 at c = 0.05 with 200,000 draws.
        """
        _check_p_values(p_values)
        p = p_values.astype(np.float64)
        if len(self.seeds) == 1:
            return p
        as_small = np.searchsorted(self.minima, p, side="right")
        simulated = (1 + as_small) / (1 + len(self.minima))
        return np.maximum(p, np.minimum(simulated, len(self.seeds) * p))

    def nominal_alpha(self, alpha: float) -> float:
        """Largest p-value that is still significant at ``alpha`` after correction.

        >>> looks = planned_looks([5, 6, 7, 8, 9, 10], np.random.default_rng(0))
        >>> round(looks.nominal_alpha(0.05), 3)
        0.017
        """
        check_share("alpha", alpha)
        if len(self.seeds) == 1:
            return alpha
        allowed = math.floor(alpha * (1 + len(self.minima))) - 1
        simulated = float(self.minima[allowed - 1]) if allowed > 0 else 0.0
        return min(alpha, max(alpha / len(self.seeds), simulated))


def planned_looks(seeds: Sequence[int], rng: np.random.Generator, draws: int = 200_000) -> Looks:
    """Looks at these numbers of paired seeds, with ``draws`` simulated studies without effect.

    The t test does not depend on the scale of the differences, so standard normal differences are
    simulated. All p-values of a family must be corrected with one simulation: call this function once
    per study.

    >>> planned_looks([5, 10], np.random.default_rng(0)).corrected(np.array([0.001, 0.5])).round(3)
    array([0.002, 0.689])
    """
    planned = tuple(int(n) for n in seeds)
    is_increasing = all(before < after for before, after in pairwise(planned))
    if not planned or planned[0] < 2 or not is_increasing:
        raise UserError(
            f"looks at {list(planned)} seeds: the numbers must increase and start at 2 or more; list "
            "each planned look once, in order"
        )
    if draws < 1:
        raise UserError(f"{draws} draws: a simulation needs 1 or more; leave the default")
    minima = _smallest_null_p(planned, rng, draws) if len(planned) > 1 else np.empty(0)
    return Looks(planned, np.sort(minima))


def _smallest_null_p(
    seeds: tuple[int, ...], rng: np.random.Generator, draws: int
) -> Float64[np.ndarray, " draw"]:
    """Smallest p-value over the looks of each simulated study.

    From each look to the next, a study gains k normal differences. The t test depends on these only
    through their sum, which has variance k, and their sum of squares about their mean, which is
    chi-square distributed with k - 1 degrees of freedom.
    """
    total, squares, smallest = np.zeros(draws), np.zeros(draws), np.ones(draws)
    for before, n in pairwise((0, *seeds)):
        gained = n - before
        deviate = rng.standard_normal(draws)
        total += math.sqrt(gained) * deviate
        squares += deviate**2
        if gained > 1:
            squares += rng.chisquare(gained - 1, draws)
        variance = np.maximum(squares - total**2 / n, np.finfo(np.float64).tiny) / (n - 1)
        t = np.abs(total) / np.sqrt(n * variance)
        np.minimum(smallest, 2 * special.stdtr(n - 1, -t), out=smallest)
    return smallest


def _check_p_values(p_values: Float[np.ndarray, " test"]) -> None:
    if (wrong := p_values[(p_values < 0) | (p_values > 1)]).size:
        raise UserError(
            f"a p-value is {wrong[0]}: p-values lie in [0, 1]; use NaN for a test that has none"
        )
