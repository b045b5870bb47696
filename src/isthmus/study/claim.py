"""What a study folder holds already, and what may be added to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from isthmus.recipe import StudyPlan, differing_fields, load_plan
from isthmus.refusal import Refusal
from isthmus.study.analysis import scores_of
from isthmus.study.differences import is_whole
from isthmus.study.planned import PlannedRun


def claimed_plan(plan: StudyPlan, study: Path) -> StudyPlan:
    """The plan together with the seeds, variants and looks that the folder has already.

    More seeds for a study whose verdicts have been drawn are another look at it.

    Raises:
        Refusal: If the folder's plan has another recipe, or asks for other verdicts than were drawn.
    """
    scores_of(plan)  # a wrong name is refused before all else
    written = study / "plan.toml"
    if not written.exists():
        return plan
    before = load_plan(written)
    ours = {variant.name: plan.recipe_of(variant) for variant in plan.variants}
    for variant in before.variants:
        recipe = before.recipe_of(variant)
        changed = differing_fields(recipe, ours.get(variant.name, recipe)) or differing_fields(
            before.recipe, plan.recipe
        )
        if changed:
            raise Refusal(
                f"{study} holds a study of another recipe ({', '.join(changed)} differ): a folder "
                "keeps to one recipe; choose another --out, or delete the folder"
            )
    if before.nuisance_settings != plan.nuisance_settings:
        raise Refusal(
            f"{study} holds a study that tunes {_grid_in_words(before)}, not {_grid_in_words(plan)}: "
            "every variant gets one grid; choose another --out, or delete the folder"
        )
    seeds = tuple(dict.fromkeys((*before.seeds, *plan.seeds)))
    looks = {*before.looks, *plan.looks}
    if _verdicts_were_drawn(study):
        for key in ("margins", "scores"):
            if getattr(before, key) != getattr(plan, key):
                raise Refusal(
                    f"{study} has its verdicts, with other study.{key}: what is asked is settled before "
                    "the answer is seen; choose another --out, or put it back"
                )
        if len(seeds) > len(before.seeds) > 1:
            looks |= {len(before.seeds), len(seeds)}
    return dataclasses.replace(
        plan,
        looks=tuple(sorted(looks)),
        seeds=seeds,
        variants=(*plan.variants, *(v for v in before.variants if v.name not in ours)),
    )


def _grid_in_words(plan: StudyPlan) -> str:
    fields = [f"{key} over {', '.join(map(str, of))}" for key, of in plan.nuisance.items()]
    return " and ".join(fields) or "nothing"


def _verdicts_were_drawn(study: Path) -> bool:
    results = study / "results.csv"
    return results.exists() and is_whole(pd.read_csv(results))


def refuse_other_content(runs: Sequence[PlannedRun], content: str, study: Path) -> None:
    """Refuse to add runs to those that other pictures, or another judge, have scored."""
    results = [run.folder.result() for run in runs if run.folder.is_finished]
    if any(result.get("content", content) != content for result in results):
        raise Refusal(
            f"{study}: its finished runs were scored on other pictures than the data are now: runs of one "
            "study share their test set; put the data back, or choose another --out"
        )
    judges = {judge["name"] for result in results if (judge := result.get("judge"))}
    if len(judges) > 1:
        first, second, *_ = sorted(judges)
        raise Refusal(
            f"{study}: its runs were scored by the judges {first} and {second}: two judges differ by "
            "points; delete the runs of one, or choose another --out"
        )
