"""The best mean against every other variant, with images as the unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from isthmus.metrics.metric import Metric
from isthmus.stats.paired import image_difference
from isthmus.study.differences import by_seed

COLUMNS = ("metric", "a", "b", "n", "difference", "low", "high")
_DRAWS = 2_000


def image_differences(
    results: pd.DataFrame, per_image: pd.DataFrame, metric: Metric, rng: np.random.Generator
) -> pd.DataFrame:
    """A row for each variant that is not the best: the best mean less it, over test images.

    Each image's metric is averaged over the finished seeds first, so the interval speaks of these
    networks on other images like these. It is corrected for nothing; verdicts are of seeds.

    Args:
        results: A row a run, as results.csv has them.
        per_image: A row a run and image; empty where a metric exists for whole sets only.
        metric: What says which is best.
        rng: Draws the bootstrap.
    """
    rows = []
    means = by_seed(results, metric).mean().sort_values(ascending=not metric.higher_is_better)
    if len(means) > 1 and metric.name in per_image:
        by_name = per_image.pivot_table(index="image", columns="variant", values=metric.name)
        known = [name for name in means.index if name in by_name]
        for other in known[1:]:
            both = by_name[[known[0], other]].dropna()
            if len(both) > 1:
                a, b = both.to_numpy().T
                found = image_difference(a, b, rng, draws=_DRAWS)
                ends = (found.n, found.mean, found.low, found.high)
                rows.append((metric.name, known[0], other, *ends))
    return pd.DataFrame(rows, columns=list(COLUMNS))
