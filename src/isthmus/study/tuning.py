"""Tune every variant's nuisance fields on validation, before it may be compared."""

from __future__ import annotations

import traceback
from pathlib import Path

import pandas as pd
from rich.console import Console

from isthmus.recipe import StudyPlan
from isthmus.refusal import Refusal
from isthmus.runs.folder import write_table, write_text
from isthmus.runs.train import tune_run
from isthmus.study.planned import chosen_setting, tuning_runs
from isthmus.study.progress import study_progress


def tune_variants(plan: StudyPlan, study: Path, data_root: Path | None, console: Console) -> None:
    """Train every variant with every setting of the nuisance fields; write what each chose."""
    runs = tuning_runs(plan, study)
    if not runs:
        return
    with study_progress(console, len(runs), "tuning") as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            name = f"{run.variant.name}, {', '.join(f'{k} {v}' for k, v in run.setting.items())}"
            watch = progress.watch_run(name)
            try:
                tune_run(run.recipe, run.seed, run.folder, data_root=data_root, watch=watch)
            except Refusal:
                raise
            except Exception as error:  # it is one setting that cannot be chosen
                write_text(run.folder.error, traceback.format_exc())
                console.print(f"{name}: broke off: {error}", style="red", markup=False)
                run.folder.finish({"status": "failed", "reason": f"broke off: {error}"})
    rows = []
    for run in runs:
        result, chosen = run.folder.result(), chosen_setting(plan, run.variant, study)
        rows.append(
            {"variant": run.variant.name, "seed": run.seed}
            | dict(run.setting)
            | {key: result.get(key) for key in ("score", "score_name", "status")}
            | {"chosen": run.setting == chosen}
        )
    write_table(study / "tuning.csv", pd.DataFrame(rows))
