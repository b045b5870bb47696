"""Run a study: every variant with every seed, one after the other, going on where it stopped."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import pandas as pd
from rich.console import Console

from isthmus import build
from isthmus.recipe import StudyPlan, differing_fields, load_plan, plan_as_toml
from isthmus.refusal import Refusal
from isthmus.runs.folder import write_text, write_whole
from isthmus.runs.train import LoggerName, train_run, tune_run
from isthmus.scoring.definitions import in_words
from isthmus.study.analysis import scores_of
from isthmus.study.collect import collect
from isthmus.study.planned import chosen_setting, planned_runs, tuning_runs
from isthmus.study.progress import decoding_progress, study_progress


def run_study(
    plan: StudyPlan,
    study: Path,
    *,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    console: Console | None = None,
    command: str = "",
) -> StudyPlan:
    """Run what is not finished yet; write the study's tables and pictures after every run.

    A run that breaks off leaves ``error.txt`` and is tried again by the next call.

    Args:
        plan: What to run. It may add seeds and variants to those the folder has.
        study: The study folder; made if it is not there.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that follows every run too.
        console: Where progress goes; None: standard error.
        command: The command line that asked for this; the report prints it.

    Returns:
        The plan as the folder now has it, older seeds and variants included.

    Raises:
        Refusal: If the data break a rule or the folder holds another study.
    """
    scores_of(plan)  # a wrong name is refused before all else
    plan = claimed_plan(plan, study)
    console = console or Console(stderr=True)
    with decoding_progress(console) as on_progress:  # bad data are refused before all else
        contracts = {
            build.store_for(data, data_root, on_progress).contract
            for data in dict.fromkeys(run.recipe.data for run in planned_runs(plan, study))
        }
    if len(contracts) > 1:
        first, second, *_ = sorted(contracts)
        raise Refusal(
            f"the variants have the label contracts {first!r} and {second!r}: scores under two "
            "contracts do not compare; make a study of each"
        )
    write_text(study / "plan.toml", plan_as_toml(plan))
    _tune(plan, study, data_root, console)
    runs = planned_runs(plan, study)
    with study_progress(console, len(runs)) as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            name = f"{run.variant.name}, seed {run.seed}"
            try:
                result = train_run(
                    run.recipe,
                    run.seed,
                    run.folder,
                    data_root=data_root,
                    logger=logger,
                    watch=progress.watch_run(name),
                )
            except Refusal:
                raise
            except Exception as error:  # one broken run must not take the study with it
                write_text(run.folder.error, traceback.format_exc())
                console.print(f"{name}: broke off: {error}", style="red", markup=False)
            else:
                first, value = next(iter(result["scores"].items()))
                words = result["reason"] or f"{in_words(first)} {value:.3f}"
                console.print(f"{name}: {result['status']}, {words}", markup=False)
            collect(plan, study, data_root=data_root, command=command)
    collect(plan, study, data_root=data_root, command=command)
    return plan


def _tune(plan: StudyPlan, study: Path, data_root: Path | None, console: Console) -> None:
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
            tune_run(run.recipe, run.seed, run.folder, data_root=data_root, watch=watch)
    rows = []
    for run in runs:
        result, chosen = run.folder.result(), chosen_setting(plan, run.variant, study)
        rows.append(
            {"variant": run.variant.name, "seed": run.seed}
            | dict(run.setting)
            | {key: result[key] for key in ("score", "score_name", "status")}
            | {"chosen": run.setting == chosen}
        )
    table = pd.DataFrame(rows)
    write_whole(study / "tuning.csv", lambda file: table.to_csv(file, index=False))


def claimed_plan(plan: StudyPlan, study: Path) -> StudyPlan:
    """The plan together with the seeds and variants that the folder has already.

    Raises:
        Refusal: If the folder's plan has another recipe.
    """
    written = study / "plan.toml"
    if not written.exists():
        return plan
    before = load_plan(written)
    ours = {variant.name: plan.recipe_of(variant) for variant in plan.variants}
    for variant in before.variants:
        recipe = before.recipe_of(variant)
        changed = differing_fields(recipe, ours.get(variant.name, recipe)) or differing_fields(
            before.recipe, plan.recipe
        )
        if changed:
            raise Refusal(
                f"{study} holds a study of another recipe ({', '.join(changed)} differ): a folder "
                "keeps to one recipe; choose another --out, or delete the folder"
            )
    if before.nuisance != plan.nuisance:
        raise Refusal(
            f"{study} holds a study that tunes {_grid_in_words(before)}, not {_grid_in_words(plan)}: "
            "every variant gets one grid; choose another --out, or delete the folder"
        )
    seeds = tuple(dict.fromkeys((*before.seeds, *plan.seeds)))
    looks = {*before.looks, *plan.looks}
    if len(seeds) > len(before.seeds) and all(
        r.folder.is_finished for r in planned_runs(before, study)
    ):
        looks |= {len(before.seeds), len(seeds)}  # its verdicts have been seen
    return dataclasses.replace(
        plan,
        looks=tuple(sorted(looks)),
        seeds=seeds,
        variants=(*plan.variants, *(v for v in before.variants if v.name not in ours)),
    )


def _grid_in_words(plan: StudyPlan) -> str:
    fields = [f"{key} over {', '.join(map(str, of))}" for key, of in plan.nuisance.items()]
    return " and ".join(fields) or "nothing"
