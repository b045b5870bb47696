"""The difference that every comparison of a study makes, by every metric, seed by seed."""

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


@dataclass(frozen=True)
class Found:
    """One comparison by one metric, over the seeds whose runs have all finished."""

    comparison: Comparison
    metric: Metric
    groups: tuple[tuple[str, ...], ...]
    """Of variants; a seed's difference is the mean over them."""
    means: tuple[float, float]
    """Of a and of b."""
    difference: PairedDifference | None
    """None where no seed has all the runs."""


OUTSTANDING = ("missing", "broken off")
"""What stands in results.csv of a run that the next call trains, anew or for the first time."""


def is_complete(results: pd.DataFrame) -> bool:
    """Whether every planned run is done, well or not."""
    return not results["status"].isin(OUTSTANDING).any()


def by_seed(results: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """One metric of the finished runs: a row a seed, a column a variant, NaN where a run lacks."""
    finished = results[results["status"] == "finished"]
    if metric.name not in finished:
        return pd.DataFrame()
    return finished.pivot_table(index="seed", columns="variant", values=metric.name)


def found_in(
    results: pd.DataFrame, comparisons: Sequence[Comparison], metrics: Sequence[Metric]
) -> tuple[Found, ...]:
    """Every comparison by every metric.

    A group with a failed run is left out, of every seed, while another group is left: so no
    seed compares other variants than the next; where every group has one, those are kept that are
    whole under the most seeds. A seed that lacks a run is left out.

    Args:
        results: A row a run, as results.csv has them.
        comparisons: What is compared.
        metrics: By what.
    """
    failed = frozenset(results.loc[results["status"] == "failed", "variant"])
    found = []
    for metric in metrics:
        if metric.name not in results:
            continue
        table = by_seed(results, metric)
        found += [_found(comparison, metric, table, failed) for comparison in comparisons]
    return tuple(found)


def scatters(difference: PairedDifference | None) -> TypeGuard[PairedDifference]:
    """Whether seeds differ, so that a test can speak.

    Shares of few images are coarse: two seeds with one and the same difference are no proof.
    """
    return difference is not None and difference.sd > 0


def _most_complete(
    groups: tuple[tuple[str, ...], ...], table: pd.DataFrame
) -> tuple[tuple[str, ...], ...]:
    """Those that have all their runs under the most seeds."""
    seeds = [len(table.reindex(columns=list(group)).dropna()) for group in groups]
    return tuple(group for group, count in zip(groups, seeds, strict=True) if count == max(seeds))


def _found(
    comparison: Comparison, metric: Metric, table: pd.DataFrame, failed: frozenset[str]
) -> Found:
    whole = tuple(group for group in comparison.groups if not failed.intersection(group))
    groups = whole or _most_complete(comparison.groups, table)
    wanted = list(dict.fromkeys(variant for group in groups for variant in group))
    if not set(wanted) <= set(table.columns) or (block := table[wanted].dropna()).empty:
        return Found(comparison, metric, groups, (math.nan, math.nan), None)
    places = [[wanted.index(variant) for variant in group] for group in groups]
    values = block.to_numpy()[:, places]  # [seed, group, variant]
    signs = np.array(comparison.weights)
    of_a, of_b = ((values @ np.maximum(side, 0)).mean(axis=1) for side in (signs, -signs))
    means = (math.nan, math.nan)
    if comparison.kind != "interaction":
        means = (float(of_a.mean()), float(of_b.mean()))
    return Found(comparison, metric, groups, means, paired_difference(of_a, of_b))
