"""Run a study: every variant with every seed, one after the other, going on where it stopped."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from isthmus import build
from isthmus.recipe import StudyPlan, plan_as_toml
from isthmus.refusal import Refusal
from isthmus.runs.folder import write_text
from isthmus.runs.train import LoggerName, train_run
from isthmus.scoring.definitions import in_words
from isthmus.study.claim import claimed_plan, note_look, refuse_other_content
from isthmus.study.collect import collect
from isthmus.study.planned import cannot_be_tuned, planned_runs
from isthmus.study.progress import decoding_progress, study_progress
from isthmus.study.tuning import tune_variants
from isthmus.study.until import StoppingRule, run_until


def run_study(
    plan: StudyPlan,
    study: Path,
    *,
    rule: StoppingRule | None = None,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    console: Console | None = None,
    command: str = "",
) -> StudyPlan:
    """Run what is not finished yet; write the study's tables and pictures after every run.

    A run that breaks off leaves ``error.txt`` and is tried again by the next call; before it is
    done there is no verdict.

    Args:
        plan: What to run. It may add seeds and variants to those the folder has.
        study: The study folder; made if it is not there.
        rule: Says when seeds are enough; None: the plan's are all.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that follows every run too.
        console: Where progress goes; None: standard error.
        command: The command line that asked for this; the report prints it.

    Returns:
        The plan as the folder now has it, older seeds and variants included.

    Raises:
        Refusal: If the data break a rule or the folder holds another study.
    """
    plan = claimed_plan(plan, study)
    console = console or Console(stderr=True)

    def run(plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        return _run_claimed(plan, seeds, study, data_root, logger, console, command)

    if rule is None:
        plan = run(plan, plan.seeds)
    else:
        plan, reason = run_until(plan, study, rule, run)
        said = f"{len(plan.seeds)} seeds: {reason}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    note_look(study)
    return plan


def _run_claimed(
    plan: StudyPlan,
    seeds: Collection[int],
    study: Path,
    data_root: Path | None,
    logger: LoggerName,
    console: Console,
    command: str,
) -> StudyPlan:
    """Run these seeds of the plan; the tables that are written tell of all of it."""
    runs = planned_runs(plan, study)
    with decoding_progress(console) as on_progress:  # bad data are refused before all else
        for data in dict.fromkeys(run.recipe.data for run in runs):
            store = build.store_for(data, data_root, on_progress)
    refuse_other_content(runs, store.content, study)
    write_text(study / "plan.toml", plan_as_toml(plan))
    tune_variants(plan, study, data_root, console)
    runs = planned_runs(plan, study)  # with what tuning has chosen
    with study_progress(console, len(runs)) as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            if run.seed not in seeds or cannot_be_tuned(plan, run.variant, study):
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
