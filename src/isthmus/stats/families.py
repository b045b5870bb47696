"""Several tests of one study: how small their p-values are as a family."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64
from statsmodels.stats.multitest import multipletests

from isthmus.errors import UserError


def holm(p_values: Float[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """P-values adjusted so that alpha bounds the chance of any false alarm in the family.

    A test that cannot speak (NaN) stays NaN and is not counted. The tests may depend on each
    other in any way. The first of m tests must pass alpha / m: plan seeds at that level.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm(np.array([0.01, np.nan, 0.04]))
    array([0.02,  nan, 0.04])
    """
    check_p_values(p_values)
    adjusted = np.full(len(p_values), np.nan)
    speaks: Bool[np.ndarray, " test"] = ~np.isnan(p_values)
    if speaks.any():
        adjusted[speaks] = multipletests(p_values[speaks], method="holm")[1]
    return adjusted


def check_p_values(p_values: Float[np.ndarray, " test"]) -> None:
    """Reject p-values outside 0 .. 1; NaN may stand for a test that cannot speak."""
    if (wrong := p_values[(p_values < 0) | (p_values > 1)]).size:
        raise UserError(
            f"a p-value is {wrong[0]}: it lies in 0 .. 1; give NaN for a test that cannot speak"
        )
