"""Fill ``study.json`` from the plan, the finished runs and the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from isthmus.data.store import Store
from isthmus.engine.run_result import Environment, TaskNotes
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import PlannedRun
from isthmus.study.recommendation import recommended
from isthmus.study.records import AnalysisRecord, StudyRecord
from isthmus.study.warnings import headline, study_warnings

_ALIKE = ("processor", "vector_instructions", "gpu", "threads", "precision", "commit", "code")
"""What the runs of a study should have in common, beside the versions of packages."""


def variants_seen(record: StudyRecord) -> tuple[str, ...]:
    """The variants whose verdicts were seen first; none before a look was taken."""
    return record.variants_seen or (record.variants if record.looks_taken else ())


def write_record(
    plan: StudyPlan,
    study: Path,
    finished: Sequence[PlannedRun],
    store: Store,
    command: str,
    analysis: AnalysisRecord,
) -> None:
    """Write ``study.json``: what the tables in the folder rest on, then what they amount to.

    Args:
        plan: The study.
        study: Its folder; what it says of looks that were taken is kept.
        finished: Its runs that did not fail.
        store: Their images.
        command: The command line that asked for this.
        analysis: How verdicts were computed.
    """
    folder = StudyFolder(study)
    before = folder.written_record()
    task = task_of(plan.recipe)
    environments = [begun for run in finished if (begun := run.folder.begun_with()) is not None]
    last = environments[-1] if environments else None
    judge = finished[-1].folder.result().judge if finished else None
    baselines = before.baselines if judge is not None and judge == before.judge else ()
    if finished and not baselines:
        baselines = task.baselines(finished[-1].recipe, plan.seeds[0], store, folder.shared)
    tuned = {run.variant.name: run.recipe for run in finished}
    losses = {_minimised(tuned.get(v.name, plan.recipe_of(v))) for v in plan.variants}
    versions = {name: version(name) for name in ("isthmus", "numpy", "scipy", "statsmodels")}
    of_run = {key: last.versions[key] for key in ("torch", "lightning", "python")} if last else {}
    machine = (last.processor, last.vector_instructions, f"{last.threads} threads") if last else ()
    record = StudyRecord(
        name=plan.name,
        question=plan.question,
        task=task.name,
        label_scheme=store.label_scheme,
        class_names=store.class_names,
        metrics=task.metrics,
        metric_note=task.metric_note,
        curve=task.curve,
        loss_title=task.loss_title,
        loss_table=task.loss_table,
        sections=task.sections,
        judge=judge,
        images=_images(finished),
        baselines=baselines,
        variants=tuple(variant.name for variant in plan.variants),
        factors=plan.factors,
        seeds=plan.seeds,
        loss_differs=len(losses) > 1,
        analysis=analysis,
        looks_taken=before.looks_taken,
        looked_last=before.looked_last,
        variants_seen=variants_seen(before),
        command=command,
        versions=versions | of_run,
        mixed=_mixed(environments),
        machine=", ".join(machine),
        precision=last.precision if last else "",
    )
    folder.write_record(record)
    folder.write_record(record.model_copy(update=_conclusions(StudyFolder(study), tuned)))


def _conclusions(study: StudyFolder, tuned: Mapping[str, Recipe]) -> dict[str, Any]:
    """Headline, recommendation, warnings and the task's notes, from what is written already."""
    notes = TaskNotes()
    if tuned:
        task = task_of(next(iter(tuned.values())))
        notes = task.notes(study.finished, tuned, study.record.baselines)
    warnings = (*study_warnings(study), *notes.warnings)
    return {
        "headline": headline(study, notes),
        "recommendation": recommended(study),
        "warnings": warnings,
        "notes": notes,
    }


def _images(finished: Sequence[PlannedRun]) -> dict[str, int | str]:
    """How many images each part has; from the fewest to the most where runs differ in that."""
    counts = [run.folder.result().images for run in finished]
    parts = {part: sorted({of[part] for of in counts}) for part in (counts[0] if counts else ())}
    return {part: of[0] if len(of) == 1 else f"{of[0]} to {of[-1]}" for part, of in parts.items()}


def _minimised(recipe: Recipe) -> object:
    """What a recipe's training minimises; equal for two whose losses may be compared."""
    return getattr(recipe, task_of(recipe).loss_table, None)


def _mixed(environments: Sequence[Environment]) -> tuple[str, ...]:
    """In what these runs differ that should be alike."""
    fields = {key: {str(getattr(of, key)) for of in environments} for key in _ALIKE}
    packages = {key for of in environments for key in of.versions}
    versions = {key: {of.versions.get(key) for of in environments} for key in sorted(packages)}
    return tuple(key for key, values in (fields | versions).items() if len(values) > 1)
