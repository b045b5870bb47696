"""The best mean against every other variant, with pictures as the unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from isthmus.scoring.definitions import Score
from isthmus.statistics.pictures import picture_difference
from isthmus.study.differences import by_seed

COLUMNS = ("score", "a", "b", "n", "difference", "low", "high")
_DRAWS = 2_000


def picture_differences(
    results: pd.DataFrame, per_picture: pd.DataFrame, score: Score, rng: np.random.Generator
) -> pd.DataFrame:
    """A row for each variant that is not the best: the best mean less it, over test pictures.

    Each picture's score is averaged over the finished seeds first, so the interval speaks of these
    networks on other pictures like these. It is corrected for nothing; verdicts are of seeds.

    Args:
        results: A row a run, as results.csv has them.
        per_picture: A row a run and picture; empty where a score exists for whole sets only.
        score: What says which is best.
        rng: Draws the bootstrap.
    """
    rows = []
    means = by_seed(results, score).mean().sort_values(ascending=not score.higher_is_better)
    if len(means) > 1 and score.name in per_picture:
        by_name = per_picture.pivot_table(index="picture", columns="variant", values=score.name)
        known = [name for name in means.index if name in by_name]
        for other in known[1:]:
            both = by_name[[known[0], other]].dropna()
            if len(both) > 1:
                a, b = both.to_numpy().T
                found = picture_difference(a, b, rng, draws=_DRAWS)
                ends = (found.n, found.mean, found.low, found.high)
                rows.append((score.name, known[0], other, *ends))
    return pd.DataFrame(rows, columns=list(COLUMNS))
