"""A study that is looked at early, and stopped when it has its answer.

Each look is another chance of a false alarm. One nominal level for all looks is Pocock's design
(1977, Group sequential methods in the design and analysis of clinical trials), here with the
exact t test of each look in place of a normal one, as seeds are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64
from scipy import special

from isthmus.errors import UserError
from isthmus.stats.families import check_p_values
from isthmus.stats.seed_means import check_share


@dataclass(frozen=True)
class Looks:
    """The looks that a study may take, up to the last that may come, however it ends."""

    seeds: tuple[int, ...]
    """Paired seeds at each look."""
    minima: Float64[np.ndarray, " draw"] = field(repr=False, compare=False)
    """Smallest two-sided p-value over the looks, in simulated studies of no effect; sorted."""

    def corrected(self, p_values: Float[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
        """Chance, if there is no effect, of a p-value as small as this at any of the looks.

        Valid for the p-values of whatever look the study stops at, if all looks were planned before
        the first, and then for ``holm`` across a family. It rises with p, is never below p, and is
        p itself where there is one look. NaN stays NaN. Assumes what the paired t test does:
        independent normal differences. It is safe, a little too strict, for the one-sided p-values
        of equivalence.

        The simulated share counts the study itself (Phipson & Smyth 2010, Permutation P-values
        should never be zero), and looks times p bounds it where p is too small to simulate. Its
        standard error is sqrt(c (1 - c) / draws): 0.0005 at c = 0.05 with 200,000 draws.
        """
        check_p_values(p_values)
        p = p_values.astype(np.float64)
        if len(self.seeds) == 1:
            return p
        as_small = np.searchsorted(self.minima, p, side="right")
        simulated = (1 + as_small) / (1 + len(self.minima))
        return np.maximum(p, np.minimum(simulated, len(self.seeds) * p))

    def nominal_alpha(self, alpha: float) -> float:
        """Largest p-value that is still significant at ``alpha`` once corrected.

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
    """Looks at these numbers of paired seeds, with ``draws`` simulated studies of no effect.

    The t test does not depend on the scale of differences, so standard normal ones serve all.
    All p-values of a family share one simulation: call this once a study.

    >>> planned_looks([5, 10], np.random.default_rng(0)).corrected(np.array([0.001, 0.5])).round(3)
    array([0.002, 0.689])
    """
    planned = tuple(int(n) for n in seeds)
    rises = all(before < after for before, after in pairwise(planned))
    if not planned or planned[0] < 2 or not rises:
        raise UserError(
            f"looks at {list(planned)} seeds: they rise, from 2 seeds or more; give the seeds of "
            "each planned look once, in order"
        )
    if draws < 1:
        raise UserError(f"{draws} draws: a simulation needs one or more; leave the default")
    minima = _smallest_null_p(planned, rng, draws) if len(planned) > 1 else np.empty(0)
    return Looks(planned, np.sort(minima))


def _smallest_null_p(
    seeds: tuple[int, ...], rng: np.random.Generator, draws: int
) -> Float64[np.ndarray, " draw"]:
    """Over the looks of each study.

    From look to look a study gains k normal differences. All that a t test sees of them is
    their sum, of variance k, and the squares about their mean, a chi-square of k - 1.
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
