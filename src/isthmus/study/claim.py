"""The plan of a study folder: what commands add to it, and the record of who has seen verdicts."""

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
    """The plan joined with the seeds, variants and interim looks that the folder already has.

    Seeds added after verdicts have been seen count as one more look, whoever adds them.

    Args:
        plan: The plan that a command asks for.
        folder: The study.
        adds: Whether its seeds and variants join those of the folder; if not, a folder that has a
            plan keeps its own.

    Raises:
        UserError: If the folder's plan has another recipe, or verdicts were drawn with other margins or
            metrics.
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
        judged = record.analysis.metrics
        asked = tuple(metric.name for metric in metrics_of(claimed))
        differs = {"margins": before.margins != plan.margins, "metrics": asked != (judged or asked)}
        if key := next((key for key, of in differs.items() if of), None):
            raise UserError(
                f"{folder.path} has its verdicts, with other study.{key}: it must be chosen before "
                "verdicts are seen; choose another --out, or put it back"
            )
    return claimed


def write_plan(plan: StudyPlan, folder: StudyFolder) -> StudyPlan:
    """Write the plan, joined with what other commands have written since; return it.

    Raises:
        UserError: If they have written the plan of another recipe.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with _plan_lock(folder):
        plan = written_plan(plan, folder)
        folder.write_plan(plan_as_toml(plan))
    return plan


def written_plan(plan: StudyPlan, folder: StudyFolder) -> StudyPlan:
    """The plan joined with that of the folder, if it has one."""
    if not folder.plan_file.exists():
        return plan
    return _joined(plan, load_plan(folder.plan_file), folder)


def leave_out(seeds: Collection[int], folder: StudyFolder) -> StudyPlan:
    """Take these seeds out of the folder's plan; return it."""
    with _plan_lock(folder):
        plan = load_plan(folder.plan_file)
        plan = dataclasses.replace(plan, seeds=tuple(s for s in plan.seeds if s not in seeds))
        folder.write_plan(plan_as_toml(plan))
    return plan


def note_look(folder: StudyFolder) -> None:
    """Record that verdicts on the present number of seeds may be seen from now on."""
    record = folder.written_record()
    taken = _looks_taken(record, folder)
    last = record.looked_last
    if taken and record.analysis.looks[-1] == taken[-1]:  # no planned look is left
        last = tuple(sorted({*last, taken[-1]}))
    record = record.model_copy(update={"looks_taken": tuple(taken), "looked_last": last})
    folder.write_record(record.model_copy(update={"variants_seen": record.seen_first}))


def _looks_taken(record: StudyRecord, folder: StudyFolder) -> list[int]:
    """Numbers of seeds whose complete verdicts were in the folder when a command ended, or are now."""
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
        } - {"data.folder"}  # its images are compared by their content
        if changed:
            raise UserError(
                f"{folder.path} holds a study of another recipe ({', '.join(sorted(changed))} differ): a "
                "folder keeps to one recipe; choose another --out, or set the fields back"
            )
    if before.tuning_grid != plan.tuning_grid:
        raise UserError(
            f"{folder.path} holds a study that tunes {_grid_text(before)}, not {_grid_text(plan)}: "
            "every variant gets one grid; choose another --out, or set study.tune back"
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
