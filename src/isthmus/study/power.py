"""The smallest differences that a study can detect, before it is run."""

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
"""Probability of detecting a true difference of the size that is printed."""


@dataclass(frozen=True)
class Visible:
    """The smallest difference that can be detected for one factor, or between two variants."""

    words: str
    """The factor, or "two variants"."""
    metric: Metric
    smallest: float
    """In the metric's unit or, if ``source`` is empty, in standard deviations over seeds."""
    source: str
    """Where the standard deviation comes from."""


def visible_differences(
    comparisons: Sequence[Comparison],
    metrics: Sequence[Metric],
    seeds: int,
    looks: Looks,
    expected_sd: Mapping[str, float],
    results: pd.DataFrame | None,
) -> tuple[Visible, ...]:
    """The smallest true differences that can be detected, for each factor and between two variants.

    Detected means significant with probability ``POWER`` in a two-sided paired t test over seeds. The
    level of the test is corrected by Bonferroni's method for all comparisons of the family (all
    comparisons of one kind on all metrics) and for all families, so the result is valid even if nothing
    else in the study differs.

    The standard deviation over seeds is estimated from finished runs. Without these, it is derived from
    that of the difference between two variants, which is ``expected_sd`` or, if that is not given, 1:
    divided by the square root of the number of groups, as if groups were independent, and multiplied by
    the square root of 2 for an interaction.

    Args:
        comparisons: All comparisons of the study.
        metrics: The metrics that get verdicts.
        seeds: Planned number of seeds.
        looks: The interim looks.
        expected_sd: Metric -> standard deviation over seeds of the difference of two variants.
        results: One row per run; None if no run has finished.
    """
    visible = []
    families = count_families((of.kind, of.groups) for of in comparisons)
    for metric in metrics:
        largest: dict[tuple[str, str], tuple[float, str]] = {}  # over levels of a factor, or pairs
        for comparison, seen in zip(comparisons, _sds(results, comparisons, metric), strict=True):
            sd, source = seen, "runs already done"
            if math.isnan(sd):
                one = expected_sd.get(metric.name)
                spread = 4 if comparison.kind == "interaction" else 2
                sd = (one or 1.0) * math.sqrt(spread / 2 / len(comparison.groups))
                source = "study.expected_sd" if one else ""
            key = (comparison.kind, comparison.factor or "two variants")
            largest[key] = max(largest.get(key, (0.0, source)), (sd, source))
        for (kind, words), (sd, source) in largest.items():
            family = len(metrics) * sum(c.kind == kind for c in comparisons)
            alpha = looks.nominal_alpha(ALPHA / family / families)
            smallest = smallest_visible(sd, seeds, alpha, POWER)
            visible.append(Visible(words, metric, smallest, source))
    return tuple(visible)


def _sds(
    results: pd.DataFrame | None, comparisons: Sequence[Comparison], metric: Metric
) -> list[float]:
    """Standard deviation over seeds of each comparison; NaN where it is not known."""
    found = found_in(results, comparisons, (metric,)) if results is not None else ()
    seen = [of.difference.sd if scatters(of.difference) else math.nan for of in found]
    return seen or [math.nan] * len(comparisons)
