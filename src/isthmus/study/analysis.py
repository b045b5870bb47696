"""The tables of a study that settle it: verdicts, ranks, and where metrics vary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isthmus.engine.task import task_of
from isthmus.errors import UserError, nearest_name
from isthmus.metrics.metric import Metric
from isthmus.recipe.parsing import settings_of
from isthmus.stats.corrections import Looks, planned_looks
from isthmus.stats.means import rank_shares, variance_shares
from isthmus.study.by_image import image_differences
from isthmus.study.comparisons import Settings, comparisons_of, free_factors
from isthmus.study.differences import by_seed, found_in, is_complete
from isthmus.study.folder import StudyFolder
from isthmus.study.learning_curve import learning_curves
from isthmus.study.plan import StudyPlan
from isthmus.study.records import AnalysisRecord
from isthmus.study.verdicts import ALPHA, verdicts_on

_ENTROPY = 0
"""Of what is drawn here: the same folder gives the same tables."""


def metrics_of(plan: StudyPlan) -> tuple[Metric, ...]:
    """The metrics that a study's verdicts speak of.

    Raises:
        UserError: If the plan names a metric that its task has not, or that no verdict speaks of.
    """
    task = task_of(plan.recipe)
    known = {metric.name: metric for metric in task.metrics}
    recipes = [plan.recipe_of(variant) for variant in plan.variants]
    names = dict.fromkeys(plan.metrics or task.verdict_metrics(recipes))
    for name in names:
        if name not in known:
            raise UserError(
                f"study.metrics: no metric {name!r} of this task; {nearest_name(name, known)}"
            )
    for key, named in (("margins", plan.margins), ("expected_sd", plan.expected_sd)):
        for name in named:
            if name not in names:
                raise UserError(
                    f"study.{key}: no verdict speaks of {name!r}; {nearest_name(name, names)}, or add it "
                    "to study.metrics"
                )
    task.check_metrics(list(names), recipes)
    kept = task.comparable([known[name] for name in names], recipes)
    lost = {name for name in names if known[name] not in kept}
    asked: dict[str, Iterable[str]] = {
        "metrics": plan.metrics,
        "margins": plan.margins,
        "expected_sd": plan.expected_sd,
    }
    for key, wanted in asked.items():
        if of_other_things := next((name for name in wanted if name in lost), None):
            raise UserError(
                f"study.{key}: {of_other_things} is of other things under another objective.likelihood, so "
                "no verdict can speak of it; take it out, or keep to one likelihood"
            )
    return kept


def factor_settings(plan: StudyPlan) -> dict[str, Settings]:
    """Each variant's level of every factor."""
    settings = {v.name: settings_of(plan.recipe_of(v)) for v in plan.variants}
    return {name: {key: of[key] for key in plan.factors} for name, of in settings.items()}


def looks_of(plan: StudyPlan) -> Looks:
    """The counts of seeds after which this study's verdicts are drawn; one seed has none."""
    counts = {count for count in plan.looks if count > 1} | {max(2, len(plan.seeds))}
    return planned_looks(sorted(counts), np.random.default_rng(_ENTROPY))


def analyse(
    plan: StudyPlan, study: Path, results: pd.DataFrame, per_image: pd.DataFrame
) -> AnalysisRecord:
    """Write the tables of verdicts; return how they were computed."""
    metrics, looks, variants = metrics_of(plan), looks_of(plan), factor_settings(plan)
    found = found_in(results, comparisons_of(variants), metrics)
    whole = is_complete(results)
    condition = (
        results if whole else results[:0]
    )  # what is told before the end would be one look more
    verdicts = verdicts_on(found, plan.margins, looks, is_complete=whole)
    rng = np.random.default_rng(_ENTROPY)
    folder = StudyFolder(study)
    folder.write_verdicts(verdicts)
    tables = {
        "learning_curve": learning_curves(condition, variants, metrics),
        "ranks": pd.DataFrame(
            _ranks(condition, metrics), columns=["metric", "variant", "rank", "share"]
        ),
        "by_image": image_differences(condition, per_image, metrics[0], rng),
        "variance": pd.DataFrame(
            _variance(variants, per_image, metrics), columns=["metric", "source", "share"]
        ),
    }
    for name, table in tables.items():
        folder.write_table(name, table)
    return AnalysisRecord(
        alpha=ALPHA,
        looks=looks.seeds,
        family=dict(Counter(verdict.kind for verdict in verdicts)),
        metrics=tuple(metric.name for metric in metrics),
    )


def _ranks(results: pd.DataFrame, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """How often each variant has each rank when seeds are drawn anew, all variants together."""
    rows = []
    for metric in metrics:
        table = by_seed(results, metric).dropna()  # seeds that every variant has finished
        if len(table) < 2 or table.shape[1] < 2:
            continue
        rng = np.random.default_rng(_ENTROPY)
        shares = rank_shares(table.to_numpy(), rng, higher_is_better=metric.higher_is_better)
        rows += [
            {"metric": metric.name, "variant": variant, "rank": rank + 1, "share": share}
            for variant, of_variant in zip(table.columns, shares, strict=True)
            for rank, share in enumerate(of_variant)
        ]
    return rows


def _variance(
    settings: Mapping[str, Settings], per_image: pd.DataFrame, metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Shares of variance of the metrics that single images have too."""
    rows = []
    for metric in metrics:
        if metric.name not in per_image:
            continue
        table = per_image.pivot_table(
            index=["seed", "image"], columns="variant", values=metric.name
        ).dropna()
        seeds = table.index.get_level_values("seed").nunique()
        in_seeds = table.groupby("image").size()
        of_all = in_seeds.index[in_seeds == seeds]  # some metrics have no value on some images
        table, images = table[table.index.isin(of_all, level="image")], len(of_all)
        if set(table.columns) != set(settings) or min(seeds, images, len(settings)) < 2:
            continue
        if np.ptp(table.to_numpy()) == 0:  # nothing varies
            continue
        factors, order, shape = _grid(settings)
        shares = variance_shares(table[order].to_numpy().reshape(seeds, images, *shape), factors)
        rows += [{"metric": metric.name, "source": k, "share": v} for k, v in shares.items()]
    return rows


def _grid(settings: Mapping[str, Settings]) -> tuple[list[str], list[str], tuple[int, ...]]:
    """Factors, variants in their order, levels a factor; variants that span no grid are one factor."""
    factors, cells = free_factors(settings)
    levels = [list(dict.fromkeys(of)) for of in zip(*cells.values(), strict=True)]
    is_grid = len(set(cells.values())) == len(settings) == math.prod(map(len, levels))
    if not is_grid:
        return ["variant"], list(settings), (len(settings),)

    def place(variant: str) -> list[int]:
        return [of.index(level) for of, level in zip(levels, cells[variant], strict=True)]

    return factors, sorted(settings, key=place), tuple(map(len, levels))
