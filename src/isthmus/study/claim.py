"""The plan in a study folder: merge what commands add to it, and record when verdicts have been seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from filelock import FileLock

from isthmus.errors import UserError
from isthmus.recipe import differing_fields
from isthmus.study.differences import is_complete
from isthmus.study.plan import StudyPlan, load_plan, metrics_of, plan_as_toml
from isthmus.study.records import StudyRecord
from isthmus.study.study_folder import StudyFolder


def claimed_plan(plan: StudyPlan, folder: StudyFolder, *, adds: bool = True) -> StudyPlan:
    """The plan merged with the seeds, variants and interim looks of the plan in the folder.

    Numbers of seeds whose verdicts have already been seen are added to the interim looks, whichever
    command printed these verdicts.

    Args:
        plan: The plan that a command asks for.
        folder: The study.
        adds: Whether to add the seeds and variants of ``plan`` to those of the folder. If False, a
            folder that already has a plan keeps its seeds and variants.

    Raises:
        UserError: If the plan in the folder has a different recipe, or verdicts in the folder were
            computed with different margins or metrics.
    """
    metrics_of(plan)  # rejects misspelt metrics before anything else
    if not folder.plan_file.exists():
        return plan
    before = load_plan(folder.plan_file)
    claimed = _joined(plan, before, folder)
    if not adds:
        claimed = dataclasses.replace(claimed, seeds=before.seeds, variants=before.variants)
    record = folder.written_record()
    taken = _looks_taken(record, folder)
    claimed = dataclasses.replace(claimed, looks=tuple(sorted({*claimed.looks, *taken})))
    if taken:
        seen = record.analysis.metrics
        asked = tuple(metric.name for metric in metrics_of(claimed))
        differs = {"margins": before.margins != plan.margins, "metrics": asked != (seen or asked)}
        if key := next((key for key, of in differs.items() if of), None):
            raise UserError(
                f"{folder.path} already has verdicts, with different values of study.{key}: these must be "
                "chosen before verdicts are seen; restore them, or choose another folder with --out"
            )
    return claimed


def write_plan(plan: StudyPlan, folder: StudyFolder) -> StudyPlan:
    """Merge the plan with what other commands have written since; write and return the merged plan.

    Raises:
        UserError: If another command has written a plan with a different recipe.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with _plan_lock(folder):
        plan = written_plan(plan, folder)
        folder.write_plan(plan_as_toml(plan))
    return plan


def written_plan(plan: StudyPlan, folder: StudyFolder) -> StudyPlan:
    """The plan merged with the plan in the folder, if there is one."""
    if not folder.plan_file.exists():
        return plan
    return _joined(plan, load_plan(folder.plan_file), folder)


def leave_out(seeds: Collection[int], folder: StudyFolder) -> StudyPlan:
    """Remove these seeds from the plan in the folder; return the new plan."""
    with _plan_lock(folder):
        plan = load_plan(folder.plan_file)
        plan = dataclasses.replace(plan, seeds=tuple(s for s in plan.seeds if s not in seeds))
        folder.write_plan(plan_as_toml(plan))
    return plan


def note_look(folder: StudyFolder) -> None:
    """Record that verdicts on the current number of seeds may be seen from now on."""
    record = folder.written_record()
    taken = _looks_taken(record, folder)
    last = record.looked_last
    if taken and record.analysis.looks[-1] == taken[-1]:  # no planned look is left
        last = tuple(sorted({*last, taken[-1]}))
    record = record.model_copy(update={"looks_taken": tuple(taken), "looked_last": last})
    folder.write_record(record.model_copy(update={"variants_seen": record.seen_first}))


def _looks_taken(record: StudyRecord, folder: StudyFolder) -> list[int]:
    """Numbers of seeds for which the folder has complete verdicts, or had them when a command ended."""
    if not folder.table_file("results").exists() or not folder.record_file.exists():
        return []
    taken, results = set(record.looks_taken), StudyFolder(folder.path).results
    if is_complete(results) and (count := results["seed"].nunique()) > 1:
        taken.add(count)
    return sorted(taken)


def _joined(plan: StudyPlan, before: StudyPlan, folder: StudyFolder) -> StudyPlan:
    ours = {variant.name: plan.recipe_of(variant) for variant in plan.variants}
    for variant in before.variants:
        recipe = before.recipe_of(variant)
        changed = {
            *differing_fields(recipe, ours.get(variant.name, recipe)),
            *differing_fields(before.recipe, plan.recipe),
        } - {"data.folder"}  # the images in the folder are compared by content instead
        if changed:
            raise UserError(
                f"{folder.path} holds a study with a different recipe (changed: "
                f"{', '.join(sorted(changed))}): a folder holds one recipe; choose another folder with "
                "--out, or restore these fields"
            )
    if before.tuning_grid != plan.tuning_grid:
        raise UserError(
            f"{folder.path} holds a study that tunes {_grid_text(before)}, not {_grid_text(plan)}: all "
            "variants must be tuned over the same grid; choose another folder with --out, or restore "
            "study.tune"
        )
    return dataclasses.replace(
        plan,
        looks=tuple(sorted({*before.looks, *plan.looks})),
        seeds=tuple(dict.fromkeys((*before.seeds, *plan.seeds))),
        variants=(*plan.variants, *(v for v in before.variants if v.name not in ours)),
    )


def _grid_text(plan: StudyPlan) -> str:
    fields = [f"{key} over {', '.join(map(str, of))}" for key, of in plan.tune.items()]
    return " and ".join(fields) or "nothing"


def _plan_lock(folder: StudyFolder) -> FileLock:
    return FileLock(folder.path / ".plan.lock")
