"""The paired difference of every comparison on every metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import pandas as pd

from isthmus.metrics.metric import Metric
from isthmus.stats.paired import PairedDifference, paired_difference
from isthmus.study.comparisons import Comparison

OUTSTANDING = ("missing", "broken off")
"""Statuses in ``results.csv`` of the runs that the next call will train."""


@dataclass(frozen=True)
class Found:
    """One comparison on one metric, over the seeds in which all runs of the comparison have finished."""

    comparison: Comparison
    metric: Metric
    groups: tuple[tuple[str, ...], ...]
    """The groups of the comparison that are used; the difference of a seed is the mean over these groups."""
    means: tuple[float, float]
    """Mean of ``a`` and mean of ``b``; NaN for an interaction."""
    difference: PairedDifference | None
    """None if no seed has finished with all the runs."""


def is_complete(results: pd.DataFrame) -> bool:
    """Whether every planned run has finished or failed."""
    return not results["status"].isin(OUTSTANDING).any()


def by_seed(results: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """One metric of the finished runs: one row per seed, one column per variant, NaN for other runs."""
    finished = results[results["status"] == "finished"]
    if metric.name not in finished:
        return pd.DataFrame()
    return finished.pivot_table(index="seed", columns="variant", values=metric.name)


def found_in(
    results: pd.DataFrame, comparisons: Sequence[Comparison], metrics: Sequence[Metric]
) -> tuple[Found, ...]:
    """Every comparison on every metric in the results.

    All seeds of a comparison use the same groups. A group with a failed run in any seed is dropped in
    every seed; if every group has a failed run, the groups that are complete in the most seeds are
    kept. Seeds that lack a run of the groups that are kept are dropped.

    Args:
        results: One row per run, as in ``results.csv``.
        comparisons: The comparisons.
        metrics: The metrics on which variants are compared, if the results have them.
    """
    failed = frozenset(results.loc[results["status"] == "failed", "variant"])
    tables = [(metric, by_seed(results, metric)) for metric in metrics if metric.name in results]
    return tuple(
        _found(of, metric, table, failed) for metric, table in tables for of in comparisons
    )


def scatters(difference: PairedDifference | None) -> TypeGuard[PairedDifference]:
    """Whether the difference varies over seeds; if not, its variance is unknown and there is no test.

    Metrics over few images are coarse, so two seeds can have exactly the same difference by chance.
    """
    return difference is not None and difference.sd > 0


def _most_complete(
    groups: tuple[tuple[str, ...], ...], table: pd.DataFrame
) -> tuple[tuple[str, ...], ...]:
    seeds = [len(table.reindex(columns=list(group)).dropna()) for group in groups]
    return tuple(group for group, count in zip(groups, seeds, strict=True) if count == max(seeds))


def _found(
    comparison: Comparison, metric: Metric, table: pd.DataFrame, failed: frozenset[str]
) -> Found:
    unfailed = tuple(group for group in comparison.groups if not failed.intersection(group))
    groups = unfailed or _most_complete(comparison.groups, table)
    wanted = list(dict.fromkeys(variant for group in groups for variant in group))
    if not set(wanted) <= set(table.columns) or (block := table[wanted].dropna()).empty:
        return Found(comparison, metric, groups, (math.nan, math.nan), None)
    places = [[wanted.index(variant) for variant in group] for group in groups]
    values = block.to_numpy()[:, places]  # [seed, group, variant]
    weights = np.array(comparison.weights)
    of_a, of_b = ((values @ np.maximum(side, 0)).mean(axis=1) for side in (weights, -weights))
    means = (math.nan, math.nan)
    if comparison.kind != "interaction":
        means = (float(of_a.mean()), float(of_b.mean()))
    return Found(comparison, metric, groups, means, paired_difference(of_a, of_b))
