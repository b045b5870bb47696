"""Compute the tables of a study: verdicts, ranks, learning curves, variance and differences by image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.metrics.metric import Metric
from isthmus.stats.corrections import Looks, planned_looks
from isthmus.stats.means import rank_shares, seed_mean, variance_shares
from isthmus.stats.paired import image_difference
from isthmus.stats.power_law import power_law
from isthmus.study.comparisons import Levels, comparisons_of, free_factors, level_text
from isthmus.study.differences import by_seed, found_in, is_complete
from isthmus.study.plan import StudyPlan, metrics_of
from isthmus.study.records import AnalysisRecord
from isthmus.study.study_folder import StudyFolder
from isthmus.study.verdicts import ALPHA, verdicts_on

SIZE = "data.limit"
"""The factor that limits the number of labelled images."""

MORE = 200
"""Learning curves are extrapolated to this many labelled images more than the largest size of the study."""

_SEED = 0
"""Seed of all resampling, so that the same folder gives the same tables."""
_DRAWS = 2_000


def looks_of(plan: StudyPlan) -> Looks:
    """The interim looks (analyses before the end) of a plan and the final look."""
    return looks_at(plan.looks, len(plan.seeds))


def looks_at(interim: Iterable[int], seeds: int) -> Looks:
    """Looks at these ``interim`` numbers of seeds and at all ``seeds``; numbers below two are left out."""
    counts = {count for count in interim if count > 1} | {max(2, seeds)}
    return planned_looks(sorted(counts), np.random.default_rng(_SEED))


def analyse(
    plan: StudyPlan, folder: StudyFolder, results: pd.DataFrame, per_image: pd.DataFrame
) -> AnalysisRecord:
    """Write the tables of verdicts, ranks, learning curves, images and variance.

    All tables except the verdicts and the variance stay empty until every run is done: shown earlier,
    they would be an additional look at the results.

    Args:
        plan: The study.
        folder: Where the tables are written.
        results: One row per run, as in ``results.csv``.
        per_image: One row per finished run and test image.

    Returns:
        How the verdicts were computed.
    """
    metrics, looks, variants = metrics_of(plan), looks_of(plan), plan.levels
    found = found_in(results, comparisons_of(variants), metrics)
    is_done = is_complete(results)
    shown = results if is_done else results[:0]
    verdicts = verdicts_on(found, plan.margins, looks, is_complete=is_done)
    folder.write_verdicts(verdicts)
    folder.write_table("learning_curve", learning_curves(shown, variants, metrics))
    folder.write_table("ranks", _ranks(shown, metrics))
    folder.write_table("by_image", image_differences(shown, per_image, metrics[0]))
    folder.write_table("variance", _variance(variants, per_image, metrics))
    return AnalysisRecord(
        alpha=ALPHA,
        looks=looks.seeds,
        family=dict(Counter(verdict.kind for verdict in verdicts)),
        metrics=tuple(metric.name for metric in metrics),
    )


def image_differences(
    results: pd.DataFrame, per_image: pd.DataFrame, metric: Metric
) -> pd.DataFrame:
    """Difference of the variant with the best mean to each other variant, paired by test image.

    There is one row per other variant. The metric of an image is first averaged over the finished
    seeds. So the interval (BCa bootstrap, 95 %, not corrected for the number of variants) is valid for
    these trained networks on other images, not for other seeds.

    Args:
        results: One row per run, as in ``results.csv``.
        per_image: One row per run and image; empty if the metric is defined for whole test sets only.
        metric: The metric on which the variants are compared.
    """
    rows, rng = [], np.random.default_rng(_SEED)
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
    return pd.DataFrame(rows, columns=["metric", "a", "b", "n", "difference", "low", "high"])


def learning_curves(
    results: pd.DataFrame, variants: Mapping[str, Levels], metrics: Sequence[Metric]
) -> pd.DataFrame:
    """Mean metric by number of labelled images, extrapolated by a power law to ``MORE`` further images.

    There is one curve per setting of the other factors that has at least three sizes. It uses the seeds
    that have finished with all of these sizes, and has 95 % t intervals over seeds. The ``sentence`` of
    the extrapolated row states the expected gain.

    Args:
        results: One row per run, as in ``results.csv``.
        variants: Variant -> factor -> level.
        metrics: The metrics that get verdicts.
    """
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        of_metric = by_seed(results, metric)
        for name, sizes in _variants_by_size(variants).items():
            wanted = list(sizes.values())
            if len(wanted) < 3 or not set(wanted) <= set(of_metric.columns):
                continue
            table = of_metric[wanted].dropna()
            counts = results.groupby("variant")["labelled_images"].max()
            used = [int(counts[variant]) for variant in wanted]
            if len(table) and len(set(used)) == len(
                used
            ):  # sizes are equal if a limit exceeds the data
                rows += _curve(metric, name, used, table.to_numpy())
    columns = ["metric", "variant", "images", "source", "n", "mean", "low", "high", "sentence"]
    return pd.DataFrame(rows, columns=columns)


def _variants_by_size(variants: Mapping[str, Levels]) -> dict[str, dict[float, str]]:
    """Setting of the other factors -> size, ascending -> variant; a variant without a limit is last."""
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
    law, most, n = power_law(values, np.array(sizes)), sizes[-1], len(values)
    gained = law.gained(most, most + MORE)
    low, high = gained.interval()
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
        row = {"metric": metric.name, "variant": name, "images": images, "source": source}
        row |= {"n": n, "mean": mean.mean, "low": ends[0], "high": ends[1], "sentence": said}
        rows.append(row)
    return rows


def _ranks(results: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Proportion of resamples of the seeds in which each variant has each rank.

    Only seeds that have finished with all variants are used.
    """
    rows = []
    for metric in metrics:
        table = by_seed(results, metric).dropna()
        if len(table) < 2 or table.shape[1] < 2:
            continue
        rng = np.random.default_rng(_SEED)
        shares = rank_shares(table.to_numpy(), rng, higher_is_better=metric.higher_is_better)
        rows += [
            (metric.name, variant, rank + 1, share)
            for variant, of_variant in zip(table.columns, shares, strict=True)
            for rank, share in enumerate(of_variant)
        ]
    return pd.DataFrame(rows, columns=["metric", "variant", "rank", "share"])


def _variance(
    variants: Mapping[str, Levels], per_image: pd.DataFrame, metrics: Sequence[Metric]
) -> pd.DataFrame:
    """ANOVA decomposition of the variance of per-image metrics: proportions by factor, seed and image."""
    rows = []
    for metric in metrics:
        if metric.name not in per_image:
            continue
        table = per_image.pivot_table(
            index=["seed", "image"], columns="variant", values=metric.name
        ).dropna()
        seeds = table.index.get_level_values("seed").nunique()
        in_seeds = table.groupby("image").size()
        complete = in_seeds.index[in_seeds == seeds]  # some metrics are undefined on some images
        table, images = table[table.index.isin(complete, level="image")], len(complete)
        if set(table.columns) != set(variants) or min(seeds, images, len(variants)) < 2:
            continue
        if np.ptp(table.to_numpy()) == 0:
            continue
        factors, order, shape = _grid(variants)
        shares = variance_shares(table[order].to_numpy().reshape(seeds, images, *shape), factors)
        rows += [(metric.name, source, share) for source, share in shares.items()]
    return pd.DataFrame(rows, columns=["metric", "source", "share"])


def _grid(variants: Mapping[str, Levels]) -> tuple[list[str], list[str], tuple[int, ...]]:
    """Factors, variants in grid order, number of levels per factor.

    If the variants do not form a full grid, they count as the levels of a single factor, "variant".
    """
    factors, cells = free_factors(variants)
    levels = [list(dict.fromkeys(of)) for of in zip(*cells.values(), strict=True)]
    is_grid = len(set(cells.values())) == len(variants) == math.prod(map(len, levels))
    if not is_grid:
        return ["variant"], list(variants), (len(variants),)

    def place(variant: str) -> list[int]:
        return [of.index(level) for of, level in zip(levels, cells[variant], strict=True)]

    return factors, sorted(variants, key=place), tuple(map(len, levels))
