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
    """The smallest difference that comparisons of one factor, or of two variants, can detect."""

    words: str
    """The factor, or "two variants"."""
    metric: Metric
    smallest: float
    """In the metric's unit or, where ``source`` is empty, in standard deviations over seeds."""
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
    """The smallest true difference that each factor's and two variants' comparison will detect.

    Detected means significant with probability ``POWER`` by a two-sided paired t test over seeds, at
    the level that Bonferroni's correction gives for all comparisons of its family and all families;
    so it holds even if nothing else in the study differs. The standard deviation over seeds
    is estimated from finished runs; else it is the expected one of two variants, divided by the root of
    the number of matched pairs of a factor, as if these were independent; else 1.

    Args:
        comparisons: All comparisons of the study.
        metrics: Those that get verdicts.
        seeds: Planned number of seeds.
        looks: The interim looks.
        expected_sd: Metric -> standard deviation over seeds of the difference of two variants.
        results: One row a run, if some have finished.
    """
    visible = []
    families = count_families((of.kind, of.groups) for of in comparisons)
    for metric in metrics:
        largest: dict[tuple[str, str], tuple[float, str]] = {}  # over levels, or over pairs
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
