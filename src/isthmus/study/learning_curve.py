"""What more labelled images would buy: a power law through a study of several sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.metrics.metric import Metric
from isthmus.stats.means import seed_mean
from isthmus.stats.power_law import power_law
from isthmus.study.comparisons import Settings, level_text
from isthmus.study.differences import by_seed

SIZE = "data.limit"
"""The factor that sets how many labelled images are used at most."""

IMAGES = "labelled_images"
"""The column that says how many were: training and validation together."""

MORE = 200
"""Labelled images that are asked about, beyond the most that the study has."""

COLUMNS = ("metric", "variant", "images", "source", "n", "mean", "low", "high", "sentence")


def learning_curves(
    results: pd.DataFrame, variants: Mapping[str, Settings], metrics: Sequence[Metric]
) -> pd.DataFrame:
    """A row a size that was measured, and one for what the law says of ``MORE`` images.

    Of every setting of the other factors, over the seeds that have all of its sizes; nothing
    where fewer than three sizes have been run. Means with their 95 % t intervals over seeds;
    the sentence of the last row tells the gain, paired by seed.

    Args:
        results: A row a run, as results.csv has them.
        variants: Each variant's level of every factor.
        metrics: Those that the study's verdicts speak of.
    """
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        of_metric = by_seed(results, metric)
        for name, sizes in _by_setting(variants).items():
            wanted = list(sizes.values())
            if len(wanted) < 3 or not set(wanted) <= set(of_metric.columns):
                continue
            table = of_metric[wanted].dropna()
            counts = results.groupby("variant")[IMAGES].max()
            used = [int(counts[variant]) for variant in wanted]
            if len(table) and len(set(used)) == len(used):  # else a limit lies above what there is
                rows += _curve(metric, name, used, table.to_numpy())
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _by_setting(variants: Mapping[str, Settings]) -> dict[str, dict[float, str]]:
    """Setting of all else -> size -> variant, from the fewest images to the most; no limit is all."""
    settings: dict[str, dict[float, str]] = {}
    for variant, levels in variants.items():
        if SIZE in levels:
            others = [level_text(level) for key, level in levels.items() if key != SIZE]
            size = math.inf if levels[SIZE] is None else float(levels[SIZE])
            settings.setdefault("_".join(others) or "all", {})[size] = variant
    return {name: dict(sorted(sizes.items())) for name, sizes in settings.items()}


def _curve(
    metric: Metric, name: str, sizes: list[int], values: Float[np.ndarray, "seed size"]
) -> list[dict[str, Any]]:
    law, most = power_law(values, np.array(sizes)), sizes[-1]
    gained = law.gained(most, most + MORE)
    (low, high), n = gained.interval(), len(values)
    between = f" [{low:+.3g}, {high:+.3g}]" if n > 1 else ""
    sentence = (
        f"{MORE} more labelled images ({most} to {most + MORE}) would change {metric.title} of "
        f"{name} by {gained.mean:+.3g}{between}, if the law holds beyond the data; "
        f"{n} seed{'s' if n > 1 else ''}."
    )
    means = {size: (seed_mean(values[:, i]), "measured", "") for i, size in enumerate(sizes)}
    means[most + MORE] = (law.predicted(most + MORE), "predicted", sentence)
    rows = []
    for images, (mean, source, said) in means.items():
        ends = mean.interval() if n > 1 else (None, None)
        of_mean = {"n": n, "mean": mean.mean, "low": ends[0], "high": ends[1], "sentence": said}
        row = {"metric": metric.name, "variant": name, "images": images, "source": source}
        rows.append(row | of_mean)
    return rows
