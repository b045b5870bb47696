"""Gather the runs of a study into its tables and images, from what lies in the folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isthmus.engine.task import task_of
from isthmus.recipe.parsing import settings_of
from isthmus.study.analysis import analyse
from isthmus.study.folder import StudyFolder
from isthmus.study.new_record import write_record
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import (
    PlannedRun,
    finished_runs,
    planned_runs,
    untrainable_variants,
    untuned_variants,
)


def collect(plan: StudyPlan, study: Path, *, data_root: Path | None, command: str) -> None:
    """Write the tables of a study folder, its study.json and its images/."""
    runs = planned_runs(plan, study)
    fields = [*plan.factors, *plan.tune]
    barred = dict.fromkeys(untrainable_variants(plan, study), _UNTRAINABLE)
    barred |= dict.fromkeys(untuned_variants(plan, study), _UNTUNED)
    results = pd.DataFrame([_row(run, fields, barred.get(run.variant.name)) for run in runs])
    results[fields] = results[fields].convert_dtypes()  # a whole number stays one beside none
    folder = StudyFolder(study)
    folder.write_table("results", results)
    finished = finished_runs(runs)
    per_image = _per_image(finished)
    folder.write_per_image(per_image)
    task = task_of(plan.recipe)
    store = task.open_store(plan.recipe.data, data_root)
    analysis = analyse(plan, study, results, per_image)
    write_record(plan, study, finished, store, command, analysis)
    by_seed = sorted(finished, key=lambda run: run.seed, reverse=True)
    shown = {run.variant.name: (run.seed, run.folder) for run in by_seed}  # the lowest seed stays
    task.shown_images(folder.images_folder, shown, store, per_image)


def _row(
    run: PlannedRun, fields: Sequence[str], barred: Mapping[str, str] | None
) -> dict[str, Any]:
    """What results.csv says of a run; where tuning bars it, that."""
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
    elif run.folder.error.exists():  # it is tried again, so it is not done
        last_line = run.folder.error.read_text(encoding="utf-8").strip().splitlines()[-1]
        row |= {"status": "broken off", "reason": last_line}
    return row


_UNTRAINABLE = {
    "status": "failed",
    "reason": "no setting of the tuned hyperparameters could be trained",
}
_UNTUNED = {
    "status": "missing",
    "reason": "some setting of the tuned hyperparameters is still to be tried",
}
_COSTS = ("train_loss_last", "parameters", "gflop", "train_seconds", "epochs", "best_epoch")


def _per_image(finished: Sequence[PlannedRun]) -> pd.DataFrame:
    """One row a finished run and test image."""
    tables = []
    for run in finished:
        with np.load(run.folder.image_metrics) as arrays:
            table = pd.DataFrame({key: arrays[key] for key in arrays.files})
        table = table.rename(columns={"names": "image"})
        table.insert(0, "seed", run.seed)
        table.insert(0, "variant", run.variant.name)
        tables.append(table)
    return pd.concat(tables) if tables else pd.DataFrame(columns=["variant", "seed", "image"])
