"""What a study folder holds already, and what may be added to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from filelock import FileLock

from isthmus.errors import UserError
from isthmus.recipe import differing_fields
from isthmus.study.analysis import metrics_of
from isthmus.study.differences import is_complete
from isthmus.study.folder import StudyFolder
from isthmus.study.new_record import variants_seen
from isthmus.study.plan import StudyPlan, load_plan, plan_as_toml
from isthmus.study.planned_runs import PlannedRun
from isthmus.study.records import StudyRecord


def claimed_plan(plan: StudyPlan, study: Path, *, adds: bool = True) -> StudyPlan:
    """The plan together with the seeds, variants and looks that the folder has already.

    More seeds after verdicts have been seen, however they are added, are another look.

    Args:
        plan: What is asked for.
        study: The folder.
        adds: Whether the plan's seeds and variants join those of the folder; if not, a folder that
            has a plan keeps its own.

    Raises:
        UserError: If the folder's plan has another recipe, or asks for other verdicts than were drawn.
    """
    metrics_of(plan)  # a wrong name is rejected before all else
    folder = StudyFolder(study)
    if not folder.plan_file.exists():
        return plan
    before = load_plan(folder.plan_file)
    joined = _joined(plan, before, study)
    if not adds:
        joined = dataclasses.replace(joined, seeds=before.seeds, variants=before.variants)
    record = folder.written_record()
    taken = _looks_taken(record, study)
    claimed = dataclasses.replace(joined, looks=tuple(sorted({*joined.looks, *taken})))
    if taken:
        judged = list(record.analysis.metrics)
        asked = [metric.name for metric in metrics_of(claimed)]
        differs = {"margins": before.margins != plan.margins, "metrics": asked != (judged or asked)}
        if key := next((key for key, of in differs.items() if of), None):
            raise UserError(
                f"{study} has its verdicts, with other study.{key}: what is asked is settled before "
                "the answer is seen; choose another --out, or put it back"
            )
    return claimed


def write_plan(plan: StudyPlan, study: Path) -> StudyPlan:
    """Write the plan down, together with what other commands have planned in the folder meanwhile.

    Raises:
        UserError: If they have planned a study of another recipe.
    """
    study.mkdir(parents=True, exist_ok=True)
    with FileLock(study / ".plan.lock"):
        plan = written_plan(plan, study)
        StudyFolder(study).write_plan(plan_as_toml(plan))
    return plan


def leave_out(seeds: Collection[int], study: Path) -> StudyPlan:
    """The folder's plan without these seeds, written down."""
    with FileLock(study / ".plan.lock"):
        folder = StudyFolder(study)
        plan = load_plan(folder.plan_file)
        plan = dataclasses.replace(plan, seeds=tuple(s for s in plan.seeds if s not in seeds))
        folder.write_plan(plan_as_toml(plan))
    return plan


def written_plan(plan: StudyPlan, study: Path) -> StudyPlan:
    """The plan together with what the folder's has now."""
    written = StudyFolder(study).plan_file
    return _joined(plan, load_plan(written), study) if written.exists() else plan


def _joined(plan: StudyPlan, before: StudyPlan, study: Path) -> StudyPlan:
    ours = {variant.name: plan.recipe_of(variant) for variant in plan.variants}
    for variant in before.variants:
        recipe = before.recipe_of(variant)
        changed = {
            *differing_fields(recipe, ours.get(variant.name, recipe)),
            *differing_fields(before.recipe, plan.recipe),
        } - {"data.folder"}  # what the images are is compared by their content
        if changed:
            raise UserError(
                f"{study} holds a study of another recipe ({', '.join(sorted(changed))} differ): a folder "
                "keeps to one recipe; choose another --out, or set the fields back"
            )
    if before.tuning_grid != plan.tuning_grid:
        raise UserError(
            f"{study} holds a study that tunes {_grid_in_words(before)}, not {_grid_in_words(plan)}: "
            "every variant gets one grid; choose another --out, or set study.tune back"
        )
    return dataclasses.replace(
        plan,
        looks=tuple(sorted({*before.looks, *plan.looks})),
        seeds=tuple(dict.fromkeys((*before.seeds, *plan.seeds))),
        variants=(*plan.variants, *(v for v in before.variants if v.name not in ours)),
    )


def _grid_in_words(plan: StudyPlan) -> str:
    fields = [f"{key} over {', '.join(map(str, of))}" for key, of in plan.tune.items()]
    return " and ".join(fields) or "nothing"


def note_look(study: Path) -> None:
    """Record that verdicts on so many seeds may be seen from now on, and first of which variants."""
    folder = StudyFolder(study)
    record = folder.written_record()
    taken = _looks_taken(record, study)
    last = record.looked_last
    if taken and record.analysis.looks[-1] == taken[-1]:  # it used up the level that was left
        last = tuple(sorted({*last, taken[-1]}))
    record = record.model_copy(update={"looks_taken": tuple(taken), "looked_last": last})
    folder.write_record(record.model_copy(update={"variants_seen": variants_seen(record)}))


def _looks_taken(record: StudyRecord, study: Path) -> list[int]:
    """Counts of seeds on which complete verdicts lay in the folder when a command ended, or lie there."""
    folder = StudyFolder(study)
    if not folder.table_file("results").exists() or not folder.record_file.exists():
        return []
    taken, results = set(record.looks_taken), folder.results
    if is_complete(results) and (count := results["seed"].nunique()) > 1:
        taken.add(count)
    return sorted(taken)


def check_same_content(runs: Sequence[PlannedRun], content: str, study: Path) -> None:
    """Reject to add runs to those that other images, or another judge, have evaluated."""
    begun = [run.folder.begun_with() for run in runs if run.folder.is_finished]
    if any(of is not None and of.content != content for of in begun):
        raise UserError(
            f"{study}: its finished runs were made on other images than the data are now: runs of one "
            "study share their test set; put the data back, or choose another --out"
        )
    shared_by(runs, study)


def shared_by(runs: Sequence[PlannedRun], study: Path) -> dict[str, str]:
    """What the runs that have begun share, by kind: the judge's name; nothing before one has begun.

    Raises:
        UserError: If two runs have different ones.
    """
    found: dict[str, str] = {}
    for run in runs:
        begun = run.folder.begun_with()
        for what, name in (begun.prepared if begun else {}).items():
            first = found.setdefault(what, name)
            if first != name:
                raise UserError(
                    f"{study}: its runs were evaluated by two {what}s, {first} and {name}, which differ by "
                    f"points; delete the folders of the runs of one {what}, or choose another --out"
                )
    return found
