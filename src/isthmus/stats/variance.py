"""What the metrics of a study vary with: factors, seeds, images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from isthmus.errors import UserError
from isthmus.stats.finite import finite_metrics

_OTHERS = ("interactions", "seed", "image", "rest")


def variance_shares(
    metrics: Float[np.ndarray, "seed image *levels"], factors: Sequence[str]
) -> dict[str, float]:
    """Shares of the total sum of squares of a balanced table; they sum to 1.

    Each factor has the share of its main effect; ``interactions`` holds those of all orders
    among factors, ``seed`` and ``image`` their main effects, and ``rest`` what is left: how
    effects differ by seed and by image, and noise. n is every cell of the table.

    Nothing is tested and nothing corrected for chance: with noise alone, a main effect of k
    levels still has a share of about (k - 1) / (cells - 1), where its cells are independent.
    Shares depend on which levels and which images a study has.

    Args:
        metrics: One metric a cell; a table of seeds alone has one image.
        factors: Names, one for each axis of levels.

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
            "all metrics are the same: shares are of a variation that is not there; leave this "
            "metric out"
        )
    total = float(values.var())

    def share(*axes: int) -> float:
        """Of the means over all other axes: the main effects and interactions of these."""
        others = tuple(axis for axis in range(values.ndim) if axis not in axes)
        return float(values.mean(axis=others).var()) / total

    of_factors = tuple(range(2, values.ndim))
    shares = {name: share(axis) for name, axis in zip(names, of_factors, strict=True)}
    shares["interactions"] = max(0.0, share(*of_factors) - sum(shares.values()))
    shares |= {"seed": share(0), "image": share(1)}
    return shares | {"rest": max(0.0, 1 - sum(shares.values()))}


def _check_names(names: tuple[str, ...], axes: int) -> None:
    if len(names) != axes:
        raise UserError(
            f"{len(names)} factors for {axes} axes of levels: each axis is a factor; name each once"
        )
    if len({*names, *_OTHERS}) < len(names) + len(_OTHERS):
        raise UserError(
            f"factors {list(names)}: their names differ from each other and from "
            f"{', '.join(_OTHERS)}; give a factor another name"
        )
