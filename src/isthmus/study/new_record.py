"""Fill ``study.json`` from the plan, the finished runs and the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from isthmus.data.store import Store
from isthmus.engine.run_folder import write_text
from isthmus.engine.run_result import Environment
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import PlannedRun, shared_folder
from isthmus.study.records import AnalysisRecord, StudyRecord

_ALIKE = ("processor", "vector_instructions", "gpu", "threads", "precision", "commit", "code")
"""What the runs of a study should have in common, beside the versions of packages."""


def read_record(study: Path) -> StudyRecord:
    """What ``study.json`` of a study folder says; an empty record where there is none."""
    path = study / "study.json"
    return StudyRecord.model_validate_json(path.read_bytes()) if path.exists() else StudyRecord()


def write_record(study: Path, record: StudyRecord) -> None:
    """Write ``study.json``, complete or not at all."""
    write_text(study / "study.json", record.model_dump_json(indent=1) + "\n")


def variants_seen(record: StudyRecord) -> tuple[str, ...]:
    """The variants whose verdicts were seen first; none before a look was taken."""
    return record.variants_seen or (record.variants if record.looks_taken else ())


def new_record(
    plan: StudyPlan,
    study: Path,
    finished: Sequence[PlannedRun],
    store: Store,
    command: str,
    analysis: AnalysisRecord,
) -> StudyRecord:
    """What the report says of a study beside its runs.

    Args:
        plan: The study.
        study: Its folder; what it says of looks that were taken is kept.
        finished: Its runs that did not fail.
        store: Their images.
        command: The command line that asked for this.
        analysis: How verdicts were computed.
    """
    before = read_record(study)
    task = task_of(plan.recipe)
    environments = [begun for run in finished if (begun := run.folder.begun_with()) is not None]
    last = environments[-1] if environments else None
    judge = finished[-1].folder.result().judge if finished else None
    baselines = before.baselines if judge is not None and judge == before.judge else ()
    if finished and not baselines:
        shared = shared_folder(study)
        baselines = task.baselines(finished[-1].recipe, plan.seeds[0], store, shared)
    tuned = {run.variant.name: run.recipe for run in finished}
    losses = {_minimised(tuned.get(v.name, plan.recipe_of(v))) for v in plan.variants}
    versions = {name: version(name) for name in ("isthmus", "numpy", "scipy", "statsmodels")}
    of_run = {key: last.versions[key] for key in ("torch", "lightning", "python")} if last else {}
    machine = (last.processor, last.vector_instructions, f"{last.threads} threads") if last else ()
    return StudyRecord(
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
