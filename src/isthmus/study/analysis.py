"""The tables of a study that settle it: verdicts, ranks, and where scores vary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isthmus.recipe import AnyRecipe, GenerateRecipe, StudyPlan, settings_of
from isthmus.refusal import Refusal, nearest_name
from isthmus.runs.folder import write_table
from isthmus.scoring.catalogue import SCORES_OF, VERDICT_SCORES
from isthmus.scoring.definitions import Score
from isthmus.statistics.looks import Looks, planned_looks
from isthmus.statistics.ranks import rank_shares
from isthmus.statistics.variance import variance_shares
from isthmus.study.by_picture import picture_differences
from isthmus.study.comparisons import Settings, comparisons_of, free_factors
from isthmus.study.differences import by_seed, found_in, is_whole
from isthmus.study.learning_curve import learning_curves
from isthmus.study.verdicts import ALPHA, verdicts_on

_ENTROPY = 0
"""Of what is drawn here: the same folder gives the same tables."""


def scores_of(plan: StudyPlan) -> tuple[Score, ...]:
    """The scores that a study's verdicts speak of.

    Raises:
        Refusal: If the plan names a score that its task has not, or that no verdict speaks of.
    """
    known = {score.name: score for score in SCORES_OF[plan.recipe.task]}
    recipes = [plan.recipe_of(variant) for variant in plan.variants]
    names = dict.fromkeys(plan.scores or _usual_scores(plan.recipe.task, recipes))
    for name in names:
        if name not in known:
            raise Refusal(
                f"study.scores: no score {name!r} of this task; {nearest_name(name, known)}"
            )
    for key, named in (("margins", plan.margins), ("expected_sd", plan.expected_sd)):
        for name in named:
            if name not in names:
                raise Refusal(
                    f"study.{key}: no verdict speaks of {name!r}; {nearest_name(name, names)}, or add it "
                    "to study.scores"
                )
    null_rates = [settings_of(recipe).get("model.null_rate") for recipe in recipes]
    if "elbo_null_nats" in names and 0 in null_rates:
        raise Refusal(
            "study.scores: elbo_null_nats is not measured where training hides no label (model.null_rate = "
            "0): set it in every variant, or take the score out"
        )
    if "cas" in names and settings_of(plan.recipe).get("measure.cas_pictures") is None:
        raise Refusal(
            "study.scores: cas is not measured without measure.cas_pictures: set it, or take cas out"
        )
    kept = comparable([known[name] for name in names], recipes)
    lost = {name for name in names if known[name] not in kept}
    asked: dict[str, Iterable[str]] = {
        "scores": plan.scores,
        "margins": plan.margins,
        "expected_sd": plan.expected_sd,
    }
    for key, wanted in asked.items():
        if of_other_things := next((name for name in wanted if name in lost), None):
            raise Refusal(
                f"study.{key}: {of_other_things} is of other things under another objective.likelihood, so "
                "no verdict can speak of it; take it out, or keep to one likelihood"
            )
    return kept


def _usual_scores(task: str, recipes: Sequence[AnyRecipe]) -> list[str]:
    """The scores of a task's verdicts; one protocol where no encoder is told, for both are one."""
    is_told = any(isinstance(r, GenerateRecipe) and r.model.encoder_is_told for r in recipes)
    return [name for name in VERDICT_SCORES[task] if is_told or name != "swap_encoded_wrong"]


def comparable(scores: Sequence[Score], recipes: Sequence[AnyRecipe]) -> tuple[Score, ...]:
    """Without nats and bits where likelihoods differ, which score different things of a picture."""
    likelihoods = {settings_of(recipe).get("objective.likelihood") for recipe in recipes}
    if len(likelihoods) < 2:
        return tuple(scores)
    return tuple(s for s in scores if not {"nats", "bits"} & set(s.name.split("_")))


def factor_settings(plan: StudyPlan) -> dict[str, Settings]:
    """Each variant's level of every factor."""
    settings = {v.name: settings_of(plan.recipe_of(v)) for v in plan.variants}
    return {name: {key: of[key] for key in plan.factors} for name, of in settings.items()}


def looks_of(plan: StudyPlan) -> Looks:
    """The counts of seeds after which this study's verdicts are drawn; one seed has none."""
    counts = {count for count in plan.looks if count > 1} | {max(2, len(plan.seeds))}
    return planned_looks(sorted(counts), np.random.default_rng(_ENTROPY))


def analyse(
    plan: StudyPlan, study: Path, results: pd.DataFrame, per_picture: pd.DataFrame
) -> dict[str, Any]:
    """Write the tables that settle a study; return what about.json says of them."""
    scores, looks, variants = scores_of(plan), looks_of(plan), factor_settings(plan)
    found = found_in(results, comparisons_of(variants), scores)
    whole = is_whole(results)
    told = results if whole else results[:0]  # what is told before the end would be one look more
    verdicts = verdicts_on(found, plan.margins, looks, is_whole=whole)
    rng = np.random.default_rng(_ENTROPY)
    tables = {
        "verdicts": verdicts,
        "learning_curve": learning_curves(told, variants, scores),
        "ranks": pd.DataFrame(_ranks(told, scores), columns=["score", "variant", "rank", "share"]),
        "by_picture": picture_differences(told, per_picture, scores[0], rng),
        "variance": pd.DataFrame(
            _variance(variants, per_picture, scores), columns=["score", "source", "share"]
        ),
    }
    for name, table in tables.items():
        write_table(study / f"{name}.csv", table)
    return {
        "alpha": ALPHA,
        "looks": list(looks.seeds),
        "family": verdicts["kind"].value_counts().to_dict() if len(verdicts) else {},
        "scores": [score.name for score in scores],
    }


def _ranks(results: pd.DataFrame, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """How often each variant has each rank when seeds are drawn anew, all variants together."""
    rows = []
    for score in scores:
        table = by_seed(results, score).dropna()  # seeds that every variant has finished
        if len(table) < 2 or table.shape[1] < 2:
            continue
        rng = np.random.default_rng(_ENTROPY)
        shares = rank_shares(table.to_numpy(), rng, higher_is_better=score.higher_is_better)
        rows += [
            {"score": score.name, "variant": variant, "rank": rank + 1, "share": share}
            for variant, of_variant in zip(table.columns, shares, strict=True)
            for rank, share in enumerate(of_variant)
        ]
    return rows


def _variance(
    settings: Mapping[str, Settings], per_picture: pd.DataFrame, scores: Sequence[Score]
) -> list[dict[str, Any]]:
    """Shares of variance of the scores that single pictures have too."""
    rows = []
    for score in scores:
        if score.name not in per_picture:
            continue
        table = per_picture.pivot_table(
            index=["seed", "picture"], columns="variant", values=score.name
        ).dropna()
        seeds = table.index.get_level_values("seed").nunique()
        in_seeds = table.groupby("picture").size()
        of_all = in_seeds.index[in_seeds == seeds]  # some scores have no value on some pictures
        table, pictures = table[table.index.isin(of_all, level="picture")], len(of_all)
        if set(table.columns) != set(settings) or min(seeds, pictures, len(settings)) < 2:
            continue
        if np.ptp(table.to_numpy()) == 0:  # nothing varies
            continue
        factors, order, shape = _grid(settings)
        shares = variance_shares(table[order].to_numpy().reshape(seeds, pictures, *shape), factors)
        rows += [{"score": score.name, "source": k, "share": v} for k, v in shares.items()]
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
