"""How many decimals a number wants beside its interval."""

from __future__ import annotations

import numpy as np


def decimals_for(width: float) -> int:
    """Decimals that tell a fifth of a width from nothing; three where it is not known.

    >>> [decimals_for(width) for width in (0.012, 0.008, 0.3, 40.0, float("nan"))]
    [3, 3, 2, 0, 3]
    """
    if not np.isfinite(width) or width <= 0:
        return 3
    return int(np.clip(-np.floor(np.log10(width / 5) + 1e-9), 0, 6))
