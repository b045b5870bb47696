"""The smallest differences that a study can see, before it is paid for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from isthmus.metrics.metric import Metric
from isthmus.stats.corrections import Looks
from isthmus.stats.paired import smallest_visible
from isthmus.study.comparisons import Comparison, count_families
from isthmus.study.differences import found_in, scatters
from isthmus.study.verdicts import ALPHA

POWER = 0.8
"""Chance that a true difference of that size is found."""


@dataclass(frozen=True)
class Visible:
    """What comparisons of one kind, factor and size can see, by one metric."""

    words: str
    metric: Metric
    smallest: float
    """In the metric's unit, or in standard deviations of the difference of two variants."""
    source: str
    """Where the standard deviation is from."""


def visible_differences(
    comparisons: Sequence[Comparison],
    metrics: Sequence[Metric],
    seeds: int,
    looks: Looks,
    expected_sd: Mapping[str, float],
    results: pd.DataFrame | None,
) -> tuple[Visible, ...]:
    """The smallest true difference that each factor's and two variants' comparison will find.

    With a chance of ``POWER``, by a two-sided paired t test over seeds, even if nothing else in the
    study differs: at the level of its whole family, and of all families. The standard deviation over
    seeds is that of runs already done, else the expected one of two variants, which a factor's
    matched pairs average out (they are taken to scatter independently), else 1. Runs that do not
    scatter do not say how they would.

    Args:
        comparisons: Those of the study.
        metrics: Those that its verdicts speak of.
        seeds: How many it plans.
        looks: After how many seeds verdicts are drawn.
        expected_sd: Metric -> standard deviation over seeds of the difference of two variants.
        results: results.csv, if some runs are done.
    """
    visible = []
    families = count_families((of.kind, of.groups) for of in comparisons)
    for metric in metrics:
        seen = _seen(results, comparisons, metric)
        hardest: dict[tuple[str, str], tuple[float, str]] = {}  # of several levels or pairs
        for comparison, sd_seen in zip(comparisons, seen, strict=True):
            sd, source = sd_seen, "runs already done"
            if math.isnan(sd):
                one = expected_sd.get(metric.name)
                spread = 4 if comparison.kind == "interaction" else 2
                sd = (one or 1.0) * math.sqrt(spread / 2 / len(comparison.groups))
                source = "study.expected_sd" if one else ""
            key = (comparison.kind, comparison.factor or "two variants")
            hardest[key] = max(hardest.get(key, (0.0, source)), (sd, source))
        for (kind, words), (sd, source) in hardest.items():
            family = len(metrics) * sum(c.kind == kind for c in comparisons)
            alpha = looks.nominal_alpha(ALPHA / family / families)
            visible.append(
                Visible(words, metric, smallest_visible(sd, seeds, alpha, POWER), source)
            )
    return tuple(visible)


def _seen(
    results: pd.DataFrame | None, comparisons: Sequence[Comparison], metric: Metric
) -> list[float]:
    found = found_in(results, comparisons, (metric,)) if results is not None else ()
    seen = [of.difference.sd if scatters(of.difference) else math.nan for of in found]
    return seen or [math.nan] * len(comparisons)
