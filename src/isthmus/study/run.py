"""Run a study: every variant with every seed, one after the other, going on where it stopped."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path

from rich.console import Console

from isthmus.engine.run_result import RunResult
from isthmus.engine.task import task_of
from isthmus.engine.train import LoggerName, train_run
from isthmus.study.analysis import metrics_of
from isthmus.study.attempt import attempt
from isthmus.study.claim import (
    check_same_content,
    claimed_plan,
    note_look,
    shared_by,
    write_plan,
    written_plan,
)
from isthmus.study.collect import collect
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import (
    planned_runs,
    tuning_runs,
    untrainable_variants,
    untuned_variants,
)
from isthmus.study.progress import decoding_progress, study_progress
from isthmus.study.stopping_rule import StoppingRule, run_with_rule
from isthmus.study.tuning import tune_variants


def run_study(
    plan: StudyPlan,
    study: Path,
    *,
    only: bool = False,
    rule: StoppingRule | None = None,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    console: Console | None = None,
    command: str = "",
) -> StudyPlan:
    """Run what is not finished yet; write the study's tables and images after every run.

    A run that breaks off leaves ``error.txt`` and is tried again by the next call; before it is
    done there is no verdict. A run that another process trains is passed over, so several calls
    share a study's work.

    Args:
        plan: What to run. It may add seeds and variants to those the folder has.
        study: The study folder; made if it is not there.
        only: Whether to run this plan alone, and leave the plan of a folder that has one as it is.
        rule: Says when seeds are enough; None: the plan's are all.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that follows every run too.
        console: Where progress goes; None: standard error.
        command: The command line that asked for this; the report prints it.

    Returns:
        The plan as the folder now has it, older seeds and variants included.

    Raises:
        UserError: If the data break a rule or the folder holds another study.
    """
    asked, plan = plan, claimed_plan(plan, study, adds=not only)
    console = console or Console(stderr=True)

    def run(plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        names = [variant.name for variant in (asked if only else plan).variants]
        return _run_claimed(plan, names, seeds, study, data_root, logger, console, command)

    if only:
        plan = _run_beside(plan, asked, study, run, console)
    elif rule is None:
        plan = run(plan, plan.seeds)
    else:
        plan, reason = run_with_rule(plan, study, rule, run)
        said = f"{len(plan.seeds)} seeds: {reason}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    note_look(study)
    return plan


def _run_beside(
    plan: StudyPlan,
    asked: StudyPlan,
    study: Path,
    run: Callable[[StudyPlan, Collection[int]], StudyPlan],
    console: Console,
) -> StudyPlan:
    """Run what is asked for; seeds that the folder's plan has not stay out of its tables."""
    beside = [seed for seed in asked.seeds if seed not in plan.seeds]
    plan = run(plan, asked.seeds)
    if beside:
        console.print(
            f"seed {', '.join(map(str, beside))} is not among the {len(plan.seeds)} seeds of the study in "
            f"{study}: its run is there and its tables are as before; isthmus study with more --seeds "
            "takes it in",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return plan


def _with_seeds(plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
    return dataclasses.replace(plan, seeds=tuple(dict.fromkeys((*plan.seeds, *seeds))))


def _run_claimed(
    plan: StudyPlan,
    names: Collection[str],
    seeds: Collection[int],
    study: Path,
    data_root: Path | None,
    logger: LoggerName,
    console: Console,
    command: str,
) -> StudyPlan:
    """Run these variants and seeds of the plan; the tables that are written tell of all of it."""
    wanted = _with_seeds(plan, seeds)
    runs = planned_runs(wanted, study)
    with decoding_progress(console) as on_progress:  # bad data are rejected before all else
        for data in dict.fromkeys(run.recipe.data for run in runs):
            store = task_of(plan.recipe).open_store(data, data_root, on_progress)
    check_same_content((*tuning_runs(plan, study), *runs), store.content, study)
    plan = write_plan(plan, study)
    tune_variants(plan, names, study, data_root, console)
    runs = planned_runs(wanted, study)  # with what tuning has chosen
    ready = set(names) - untrainable_variants(plan, study) - untuned_variants(plan, study)
    is_published = False

    def publish() -> None:
        """Write the tables of all that the folder holds, runs of other commands included.

        The plan is written again: another command's budget may have left out what this one runs.
        """
        whole = write_plan(plan, study)
        shared_by(planned_runs(whole, study), study)
        collect(whole, study, data_root=data_root, command=command)

    with study_progress(console, len(runs)) as progress:
        for run in runs:
            if run.folder.is_finished:
                progress.skip_run()
                continue
            if run.seed not in seeds or run.variant.name not in ready:
                continue
            name = f"{run.variant.name}, seed {run.seed}"
            train = functools.partial(
                train_run,
                run.recipe,
                run.seed,
                run.folder,
                data_root=data_root,
                logger=logger,
                on_progress=progress.callback_of_run(name),
                shared=StudyFolder(study).shared,
                alike=shared_by(planned_runs(written_plan(plan, study), study), study),
            )
            if result := attempt(train, run.folder, name, console):
                words = result.reason or _metric_in_words(plan, result)
                console.print(f"{name}: {result.status}, {words}", markup=False)
            publish()
            is_published = True
    if not is_published:
        publish()
    return plan


def _metric_in_words(plan: StudyPlan, result: RunResult) -> str:
    """The first metric of verdicts, and the judge's accuracy where one evaluated the run."""
    first = metrics_of(plan)[0]
    by = f" (judge {result.judge.accuracy:.3f})" if result.judge else ""
    return f"{first.title} {result.metrics[first.name]:.3f}{by}"
