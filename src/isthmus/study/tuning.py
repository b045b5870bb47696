"""Tune every variant's hyperparameters on validation, before it may be compared."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from rich.console import Console

from isthmus.engine.train import tune_run
from isthmus.study.attempt import attempt
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import chosen_setting, tuning_runs
from isthmus.study.progress import study_progress


def tune_variants(
    plan: StudyPlan,
    names: Collection[str],
    study: Path,
    data_root: Path | None,
    console: Console,
) -> None:
    """Train these variants with every setting of the tuned hyperparameters; write what each chose.

    A setting that breaks off leaves ``error.txt`` and is tried again by the next call; until then
    its variant has chosen nothing.
    """
    runs = [run for run in tuning_runs(plan, study) if run.variant.name in names]
    if not runs:
        return
    with study_progress(console, len(runs), "tuning") as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            name = f"{run.variant.name}, {', '.join(f'{k} {v}' for k, v in run.setting.items())}"
            on_progress = progress.callback_of_run(name)
            tune = functools.partial(
                tune_run,
                run.recipe,
                run.seed,
                run.folder,
                data_root=data_root,
                on_progress=on_progress,
                shared=StudyFolder(study).shared,
            )
            attempt(tune, run.folder, name, console)
    rows = []
    for run in tuning_runs(plan, study):
        if not run.folder.is_finished:
            continue
        result, chosen = run.folder.tuning_result(), chosen_setting(plan, run.variant, study)
        rows.append(
            {"variant": run.variant.name, "seed": run.seed}
            | dict(run.setting)
            | {"value": result.value, "metric": result.metric, "status": result.status}
            | {"chosen": run.setting == chosen}
        )
    StudyFolder(study).write_table("tuning", pd.DataFrame(rows))
