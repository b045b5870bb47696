"""Run a study: every variant with every seed, one after the other, going on where it stopped."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Sequence
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
from isthmus.study.planned import PlannedRun, chosen_setting, planned_runs, tuning_runs
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
    return run_claimed(
        claimed_plan(plan, study),
        study,
        data_root=data_root,
        logger=logger,
        console=console,
        command=command,
    )


def run_claimed(
    plan: StudyPlan,
    study: Path,
    *,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    console: Console | None = None,
    command: str = "",
) -> StudyPlan:
    """Run a plan that ``claimed_plan`` has given; else as ``run_study``."""
    console = console or Console(stderr=True)
    with decoding_progress(console) as on_progress:  # bad data are refused before all else
        for data in dict.fromkeys(run.recipe.data for run in planned_runs(plan, study)):
            store = build.store_for(data, data_root, on_progress)
    _refuse_other_content(planned_runs(plan, study), store.content, study)
    write_text(study / "plan.toml", plan_as_toml(plan))
    _tune(plan, study, data_root, console)
    runs = planned_runs(plan, study)
    with study_progress(console, len(runs)) as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            name = f"{run.variant.name}, seed {run.seed}"
            if plan.nuisance and not chosen_setting(plan, run.variant, study):
                write_text(run.folder.error, "no setting of the nuisance fields could be trained")
                continue
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
    table = pd.DataFrame(rows)
    write_whole(study / "tuning.csv", lambda file: table.to_csv(file, index=False))


def claimed_plan(plan: StudyPlan, study: Path) -> StudyPlan:
    """The plan together with the seeds, variants and looks that the folder has already.

    More seeds for a study whose verdicts have been drawn are another look at it.

    Raises:
        Refusal: If the folder's plan has another recipe, or asks for other verdicts than were drawn.
    """
    scores_of(plan)  # a wrong name is refused before all else
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
    if before.nuisance_settings != plan.nuisance_settings:
        raise Refusal(
            f"{study} holds a study that tunes {_grid_in_words(before)}, not {_grid_in_words(plan)}: "
            "every variant gets one grid; choose another --out, or delete the folder"
        )
    seeds = tuple(dict.fromkeys((*before.seeds, *plan.seeds)))
    looks = {*before.looks, *plan.looks}
    if _verdicts_were_drawn(study):
        for key in ("margins", "scores"):
            if getattr(before, key) != getattr(plan, key):
                raise Refusal(
                    f"{study} has its verdicts, with other study.{key}: what is asked is settled before "
                    "the answer is seen; choose another --out, or put it back"
                )
        if len(seeds) > len(before.seeds) > 1:
            looks |= {len(before.seeds), len(seeds)}
    return dataclasses.replace(
        plan,
        looks=tuple(sorted(looks)),
        seeds=seeds,
        variants=(*plan.variants, *(v for v in before.variants if v.name not in ours)),
    )


def _grid_in_words(plan: StudyPlan) -> str:
    fields = [f"{key} over {', '.join(map(str, of))}" for key, of in plan.nuisance.items()]
    return " and ".join(fields) or "nothing"


def _verdicts_were_drawn(study: Path) -> bool:
    results = study / "results.csv"
    return results.exists() and not (pd.read_csv(results)["status"] == "missing").any()


def _refuse_other_content(runs: Sequence[PlannedRun], content: str, study: Path) -> None:
    """Refuse to add runs to those that other pictures, or another judge, have scored."""
    results = [run.folder.result() for run in runs if run.folder.is_finished]
    if any(result.get("content", content) != content for result in results):
        raise Refusal(
            f"{study}: its finished runs were scored on other pictures than the data are now: runs of one "
            "study share their test set; put the data back, or choose another --out"
        )
    judges = {judge["name"] for result in results if (judge := result.get("judge"))}
    if len(judges) > 1:
        first, second, *_ = sorted(judges)
        raise Refusal(
            f"{study}: its runs were scored by the judges {first} and {second}: two judges differ by "
            "points; delete the runs of one, or choose another --out"
        )
