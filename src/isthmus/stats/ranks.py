"""How sure the order of variants is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64
from scipy.stats import rankdata

from isthmus.errors import UserError
from isthmus.stats.finite import finite_metrics


def rank_shares(
    metrics: Float[np.ndarray, "seed variant"],
    rng: np.random.Generator,
    *,
    higher_is_better: bool,
    draws: int = 10_000,
) -> Float64[np.ndarray, "variant rank"]:
    """Share of resampled studies in which each variant has each rank; the first rank is best.

    A draw takes seeds with replacement, the same for all variants, and ranks their means. Those
    that tie (to 12 digits) share their ranks equally, so rows and columns sum to 1.

    n is the number of seeds. They are taken to be independent, and that is all; but few seeds
    resample to too little spread, so at n = 3 to 10 the shares sound surer than they are. They
    describe an order and test nothing.

    Source: Agarwal et al. 2021, Deep reinforcement learning at the edge of the statistical
    precipice (arXiv:2108.13264), section 4; with whole seeds drawn, since ours are paired.

    >>> metrics = np.array([[0.9, 0.5], [0.8, 0.6]])
    >>> rank_shares(metrics, np.random.default_rng(0), higher_is_better=True)
    array([[1., 0.],
           [0., 1.]])
    """
    seeds, variants = metrics.shape
    if seeds < 2 or variants < 1 or draws < 1:
        raise UserError(
            f"{draws} draws of {seeds} seeds of {variants} variants: resampling needs 1 draw, "
            "2 seeds and 1 variant or more; run more seeds"
        )
    values = finite_metrics(metrics, unit="seed")
    costs = -values if higher_is_better else values
    taken = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    largest = np.abs(values).max() or 1.0
    means = np.round(taken @ (costs / largest) / seeds, 12)
    first = rankdata(means, method="min", axis=1)
    last = rankdata(means, method="max", axis=1)
    ranks = np.arange(1, variants + 1)
    return np.column_stack(
        [(((first <= r) & (r <= last)) / (last - first + 1)).mean(axis=0) for r in ranks]
    )
