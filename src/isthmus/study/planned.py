"""Which runs a study has, and where each of them goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.recipe import AnyRecipe, StudyPlan, Variant
from isthmus.runs.folder import RunFolder


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed, and where it goes."""

    variant: Variant
    recipe: AnyRecipe
    seed: int
    folder: RunFolder


def planned_runs(plan: StudyPlan, study: Path) -> tuple[PlannedRun, ...]:
    """Every run of the plan; all variants of one seed before the next, so that pairs come early."""
    return tuple(
        PlannedRun(
            variant,
            plan.recipe_of(variant),
            seed,
            RunFolder(study / "runs" / variant.name / f"seed-{seed}"),
        )
        for seed in plan.seeds
        for variant in plan.variants
    )
