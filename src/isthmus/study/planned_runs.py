"""Which runs a study has, and where each of them goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.engine.run_folder import RunFolder
from isthmus.recipe import Recipe, with_settings
from isthmus.recipe.rules import Setting
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import StudyPlan, Variant


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed, and where it goes."""

    variant: Variant
    recipe: Recipe
    seed: int
    folder: RunFolder


def planned_runs(plan: StudyPlan, study: Path) -> tuple[PlannedRun, ...]:
    """Every run of the plan; all variants of one seed before the next, so that pairs come early.

    Tuned hyperparameters are those that each variant has chosen, once it has.
    """
    recipes = [
        with_settings(plan.recipe_of(variant), chosen_setting(plan, variant, study))
        for variant in plan.variants
    ]
    folder = StudyFolder(study)
    return tuple(
        PlannedRun(variant, recipe, seed, folder.run(variant.name, seed))
        for seed in plan.seeds
        for variant, recipe in zip(plan.variants, recipes, strict=True)
    )


@dataclass(frozen=True)
class TuningRun(PlannedRun):
    """One setting of the tuned hyperparameters, which validation may choose for its variant."""

    setting: Mapping[str, Setting]


def tuning_runs(plan: StudyPlan, study: Path) -> tuple[TuningRun, ...]:
    """Every variant with every setting of the tuned hyperparameters, with the first seed."""
    return tuple(run for v in plan.variants for run in _tuning_runs_of(plan, v, study))


def chosen_setting(plan: StudyPlan, variant: Variant, study: Path) -> Mapping[str, Setting]:
    """What the variant's best tuning run on validation has set; nothing while one is to come."""
    runs = _tuning_runs_of(plan, variant, study)
    if not runs or not all(run.folder.is_finished for run in runs):
        return {}
    results = [(run.setting, run.folder.tuning_result()) for run in runs]
    finished = [(of, setting) for setting, of in results if of.status == "finished"]
    if not finished:
        return {}
    best = max if finished[0][0].higher_is_better else min
    return best(finished, key=lambda of: of[0].value)[1]


def untrainable_variants(plan: StudyPlan, study: Path) -> frozenset[str]:
    """The variants for which tuning has ended and no setting could be trained."""
    return frozenset(
        name
        for name, folders in _tuning_folders(plan, study).items()
        if folders and all(f.is_finished and f.tuning_result().status == "failed" for f in folders)
    )


def untuned_variants(plan: StudyPlan, study: Path) -> frozenset[str]:
    """The variants of which some setting of the tuned hyperparameters is still to be tried."""
    return frozenset(
        name
        for name, folders in _tuning_folders(plan, study).items()
        if not all(folder.is_finished for folder in folders)
    )


def runs_to_come(plan: StudyPlan, study: Path) -> tuple[PlannedRun, ...]:
    """The runs of the plan that the next call will train."""
    untrainable = untrainable_variants(plan, study)
    return tuple(
        run
        for run in planned_runs(plan, study)
        if not run.folder.is_finished and run.variant.name not in untrainable
    )


def _tuning_folders(plan: StudyPlan, study: Path) -> dict[str, list[RunFolder]]:
    return {v.name: [of.folder for of in _tuning_runs_of(plan, v, study)] for v in plan.variants}


def _tuning_runs_of(plan: StudyPlan, variant: Variant, study: Path) -> list[TuningRun]:
    if not plan.tune:
        return []
    return [
        TuningRun(
            variant,
            with_settings(plan.recipe_of(variant), setting),
            plan.seeds[0],
            StudyFolder(study).tuning_run(variant.name, place),
            setting,
        )
        for place, setting in enumerate(plan.tuning_grid)
    ]


def finished_runs(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs that have finished and did not fail."""
    return [of for of in runs if of.folder.is_finished and of.folder.result().status == "finished"]
