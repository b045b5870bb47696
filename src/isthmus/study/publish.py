"""Write the results of a study: its tables, its record and the images of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.store import Store
from isthmus.engine.run_result import Environment, TaskNotes
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe
from isthmus.recipe.parsing import settings_of
from isthmus.recipe.registry import Origin
from isthmus.study.analysis import analyse
from isthmus.study.plan import StudyPlan
from isthmus.study.recommendation import recommended
from isthmus.study.records import AnalysisRecord, StudyRecord
from isthmus.study.schedule import PlannedRun, Schedule
from isthmus.study.study_folder import StudyFolder
from isthmus.study.warnings import headline, study_warnings

_COSTS = ("train_loss_last", "parameters", "gflop", "train_seconds", "epochs", "best_epoch")
_UNTRAINABLE = {
    "status": "failed",
    "reason": "no setting of the tuned hyperparameters could be trained",
}
_UNTUNED = {
    "status": "missing",
    "reason": "not all settings of the tuned hyperparameters have been tried yet",
}
_ALIKE = (
    "processor",
    "vector_instructions",
    "device",
    "gpu",
    "threads",
    "precision",
    "commit",
    "code",
)
"""Fields of the environment, besides package versions, that should be equal in all runs."""


def publish(schedule: Schedule, *, data_root: Path | None, command: str) -> None:
    """Write the tables of a study folder, ``study.json`` and ``images/`` from the runs of the study.

    Args:
        schedule: The runs of the study.
        data_root: Folder that contains the data sets. If None, ISTHMUS_DATA or the cache folder.
        command: The command line, which the record repeats.
    """
    plan, folder, runs = schedule.plan, schedule.folder, schedule.runs()
    fields = [*plan.factors, *plan.tune]
    barred = dict.fromkeys(schedule.untrainable(), _UNTRAINABLE)
    barred |= dict.fromkeys(schedule.untuned(), _UNTUNED)
    rows = [_row(run, fields, barred.get(run.variant.name)) for run in runs]
    results = pd.DataFrame(rows)
    results[fields] = results[fields].convert_dtypes()  # keeps whole numbers whole beside None
    finished = [run for run, row in zip(runs, rows, strict=True) if row["status"] == "finished"]
    per_image = _per_image(finished)
    folder.write_table("results", results)
    folder.write_per_image(per_image)
    if plan.tune:
        folder.write_table("tuning", tuning_table(schedule))
    task = task_of(plan.recipe)
    store = task.open_store(plan.recipe.data, data_root)
    tuned = {run.variant.name: run.recipe for run in finished}
    analysis = analyse(plan, folder, results, per_image)
    record = _record(schedule, finished, tuned, store, command, analysis)
    folder.write_record(record)
    folder.write_record(record.model_copy(update=conclusions(folder, tuned)))
    by_seed = sorted(finished, key=lambda run: run.seed, reverse=True)
    lowest = {run.variant.name: (run.seed, run.folder) for run in by_seed}
    task.shown_images(folder.images_folder, lowest, store, per_image)


def planned_record(plan: StudyPlan) -> StudyRecord:
    """The record of a study before any run has finished."""
    task = task_of(plan.recipe)
    recipes = [plan.recipe_of(variant) for variant in plan.variants]
    return StudyRecord(
        name=plan.name,
        question=plan.question,
        task=task.name,
        metrics=task.metrics,
        metric_note=task.metric_note,
        curve=task.curve,
        loss_title=task.loss_title,
        loss_table=task.loss_table,
        sections=task.sections,
        variants=tuple(variant.name for variant in plan.variants),
        factors=plan.factors,
        seeds=plan.seeds,
        loss_differs=_losses_differ(recipes),
    )


def conclusions(folder: StudyFolder, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """The fields of the record that are derived from the tables and the other fields.

    Args:
        folder: The study folder, with its tables and with the record without these fields.
        recipes: Variant -> recipe, for the variants with finished runs.
    """
    notes = TaskNotes()
    if recipes:
        task = task_of(next(iter(recipes.values())))
        notes = task.notes(folder.finished, recipes, folder.record.baselines)
    return {
        "headline": headline(folder, notes),
        "recommendation": recommended(folder),
        "warnings": (*study_warnings(folder), *notes.warnings),
        "notes": notes,
    }


def _row(
    run: PlannedRun, fields: Sequence[str], barred: Mapping[str, str] | None
) -> dict[str, Any]:
    """The row of a run in ``results.csv``; ``barred`` is status and reason if tuning prevents the run."""
    settings = settings_of(run.recipe)
    row = {"variant": run.variant.name, "seed": run.seed, "status": "missing", "reason": ""}
    row |= {key: settings[key] for key in fields}
    if run.folder.is_finished:
        result = run.folder.result()
        row |= {"status": result.status, "reason": result.reason, **result.metrics}
        row |= {key: getattr(result, key) for key in _COSTS}
        row["labelled_images"] = result.images["train"] + result.images["validation"]
    elif barred:
        row |= barred
    elif run.folder.error.exists():  # the next call tries it again
        last_line = run.folder.error.read_text(encoding="utf-8").strip().splitlines()[-1]
        row |= {"status": "broken off", "reason": last_line}
    return row


def _per_image(finished: Sequence[PlannedRun]) -> pd.DataFrame:
    """One row per finished run and test image."""
    tables = []
    for run in finished:
        with np.load(run.folder.image_metrics) as arrays:
            table = pd.DataFrame({key: arrays[key] for key in arrays.files})
        table = table.rename(columns={"names": "image"})
        table.insert(0, "seed", run.seed)
        table.insert(0, "variant", run.variant.name)
        tables.append(table)
    return pd.concat(tables) if tables else pd.DataFrame(columns=["variant", "seed", "image"])


def tuning_table(schedule: Schedule) -> pd.DataFrame:
    """One row per finished tuning run."""
    rows = []
    for run in schedule.tuning_runs():
        if run.folder.is_finished:
            result = run.folder.tuning_result()
            rows.append(
                {"variant": run.variant.name, "seed": run.seed, **run.setting}
                | {"value": result.value, "metric": result.metric, "status": result.status}
                | {"chosen": run.setting == schedule.chosen_setting(run.variant)}
            )
    return pd.DataFrame(rows)


def _record(
    schedule: Schedule,
    finished: Sequence[PlannedRun],
    tuned: Mapping[str, Recipe],
    store: Store,
    command: str,
    analysis: AnalysisRecord,
) -> StudyRecord:
    """The record without its conclusions; the fields on looks are taken from the previous record."""
    plan, before, task = (
        schedule.plan,
        schedule.folder.written_record(),
        task_of(schedule.plan.recipe),
    )
    tuning = [run for run in schedule.tuning_runs() if run.folder.is_finished]
    environments = [
        begun for run in (*tuning, *finished) if (begun := run.folder.begun_with()) is not None
    ]
    last = environments[-1] if environments else None
    judge = finished[-1].folder.result().judge if finished else None
    is_known = (store.content, judge) == (before.content, before.judge)
    baselines = before.baselines if is_known else ()
    if finished and not baselines:
        shared = schedule.folder.shared
        baselines = task.baselines(finished[-1].recipe, plan.seeds[0], store, shared)
    recipes = [tuned.get(v.name, plan.recipe_of(v)) for v in plan.variants]
    versions = {name: version(name) for name in ("isthmus", "numpy", "scipy", "statsmodels")}
    of_run = (
        {key: last.versions[key] for key in ("torch", "lightning-fabric", "python")} if last else {}
    )
    machine = (last.processor, last.vector_instructions, f"{last.threads} threads") if last else ()
    found = {
        "label_scheme": store.label_scheme,
        "content": store.content,
        "class_names": store.class_names,
        "judge": judge,
        "images": _image_counts(finished),
        "baselines": baselines,
        "loss_differs": _losses_differ(recipes),
        "analysis": analysis,
        "looks_taken": before.looks_taken,
        "looked_last": before.looked_last,
        "variants_seen": before.seen_first,
        "command": command,
        "versions": versions | of_run,
        "mixed": _mixed(environments),
        "machine": ", ".join(machine),
        "precision": last.precision if last else "",
    }
    return planned_record(plan).model_copy(update=found)


def _losses_differ(recipes: Sequence[Recipe]) -> bool:
    """Whether the recipes of a task minimise different losses."""
    return len({getattr(recipe, task_of(recipe).loss_table, None) for recipe in recipes}) > 1


def _image_counts(finished: Sequence[PlannedRun]) -> dict[str, int | str]:
    """Number of images in each split; "smallest to largest" if runs differ."""
    counts = [run.folder.result().images for run in finished]
    parts = {part: sorted({of[part] for of in counts}) for part in (counts[0] if counts else ())}
    return {part: of[0] if len(of) == 1 else f"{of[0]} to {of[-1]}" for part, of in parts.items()}


def _mixed(environments: Sequence[Environment]) -> tuple[str, ...]:
    """The fields, packages and parts from outside isthmus in which these environments differ."""
    fields = {key: {str(getattr(of, key)) for of in environments} for key in _ALIKE}
    fields["code"] |= {code for of in environments for code in of.earlier_code}
    packages = {key for of in environments for key in of.versions}
    versions = {key: {of.versions.get(key) for of in environments} for key in sorted(packages)}
    parts: dict[str, set[Origin]] = {}
    for key, part in (item for of in environments for item in of.parts.items()):
        parts.setdefault(f"{key} = {part.name}", set()).add(part)
    return tuple(key for key, values in (fields | versions | parts).items() if len(values) > 1)
