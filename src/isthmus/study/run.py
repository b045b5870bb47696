"""Run a study: tune and train what has not finished, and publish the results after every run."""

from __future__ import annotations

import dataclasses
import functools
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from isthmus.engine.run_folder import Busy, RunFolder, write_text
from isthmus.engine.run_result import RunResult, TuningResult
from isthmus.engine.task import ProgressCallback, task_of
from isthmus.errors import UserError
from isthmus.metrics.wording import counted
from isthmus.study.claim import claimed_plan, note_look, write_plan, written_plan
from isthmus.study.differences import is_complete
from isthmus.study.plan import StudyPlan, metrics_of
from isthmus.study.progress import decoding_progress, study_progress
from isthmus.study.publish import publish
from isthmus.study.schedule import PlannedRun, Schedule
from isthmus.study.stopping_rule import StoppingRule, run_with_rule
from isthmus.study.study_folder import StudyFolder

if TYPE_CHECKING:
    from isthmus.engine.train import LoggerName

Result = RunResult | TuningResult


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
    """Run what has not finished yet; write the study's tables and images after every run.

    A run that stops with an error leaves ``error.txt``; the next call tries the run again, and there are
    no verdicts until then. Several processes may run one study at once: each skips the runs that
    another process is training.

    Args:
        plan: What to run. It may add seeds and variants to those of the folder.
        study: The study folder, which is created if it does not exist.
        only: Whether to run only the variants and seeds of ``plan``. If the folder has verdicts, they are
            then not added to its plan, because a new seed would leave the verdicts incomplete.
        rule: When to stop adding seeds. If None, only the seeds of the plan are run.
        data_root: Folder that contains the data sets. If None, ISTHMUS_DATA or the cache folder.
        logger: An experiment tracker that also records every run.
        console: Where progress is printed. If None, standard error.
        command: The command line, which the report prints.

    Returns:
        The plan that the folder now has, including seeds and variants of earlier calls.

    Raises:
        UserError: If the data are invalid or the folder holds a different study.
    """
    folder, console = StudyFolder(study), console or Console(stderr=True)
    claimed = claimed_plan(plan, folder, adds=not (only and _has_verdicts(StudyFolder(study))))
    names = frozenset(variant.name for variant in (plan if only else claimed).variants)
    run = StudyRun(folder, names, data_root, logger, console, command)
    if rule is None:
        seeds = plan.seeds if only else claimed.seeds
        beside = [seed for seed in seeds if seed not in claimed.seeds]
        claimed = run.train_seeds(claimed, seeds)
        if beside:
            run.say(
                f"seed {', '.join(map(str, beside))} is not among the {len(claimed.seeds)} seeds of the "
                f"study in {study}: the run was stored, but the tables of the study do not include it; to "
                "include it, run isthmus study with more --seeds"
            )
    else:
        claimed, reason = run_with_rule(claimed, folder, rule, run.train_seeds)
        run.say(f"stopped at {counted(len(claimed.seeds), 'seed')}: {reason}")
    note_look(folder)
    return claimed


def _has_verdicts(folder: StudyFolder) -> bool:
    return bool(folder.verdicts) and is_complete(folder.results)


@dataclass(frozen=True)
class StudyRun:
    """One call of ``run_study``, with the settings that all of its steps use."""

    folder: StudyFolder
    names: frozenset[str]
    """The variants that this call trains."""
    data_root: Path | None
    logger: LoggerName
    console: Console
    command: str

    def train_seeds(self, plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        """Train these seeds, publish all runs of the plan, and return the plan.

        The seeds need not be in the plan.
        """
        wanted = dataclasses.replace(plan, seeds=tuple(dict.fromkeys((*plan.seeds, *seeds))))
        schedule = Schedule(wanted, self.folder)
        schedule.check_content(self._content(schedule))
        schedule.shared()  # raises an error if runs used different judges; the names are not needed here
        plan = write_plan(plan, self.folder)
        planned = Schedule(plan, self.folder)
        self.tune(planned)
        ready = self.names - planned.untrainable() - planned.untuned()
        runs = schedule.runs()  # with the hyperparameters that tuning has chosen
        chosen = [run for run in runs if run.seed in seeds and run.variant.name in ready]
        if not self._train_each(plan, runs, chosen, "run"):
            self._publish(plan)
        return plan

    def tune(self, schedule: Schedule) -> None:
        """Train this call's variants with every setting of the tuned hyperparameters."""
        runs = [run for run in schedule.tuning_runs() if run.variant.name in self.names]
        self._train_each(schedule.plan, runs, runs, "tuning")

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _content(self, schedule: Schedule) -> str:
        """Hash of the images; opens the data of all variants, so that invalid data are rejected early."""
        with decoding_progress(self.console) as on_progress:
            for data in dict.fromkeys(run.recipe.data for run in schedule.runs()):
                task = task_of(schedule.plan.recipe)
                store = task.open_store(data, self.data_root, on_progress)
        return store.content

    def _train_each(
        self, plan: StudyPlan, runs: Sequence[PlannedRun], wanted: Sequence[PlannedRun], what: str
    ) -> int:
        """Train the wanted runs that have not finished; return the number of runs tried."""
        tried = 0
        if not runs:
            return tried
        with study_progress(self.console, len(runs), what) as progress:
            for run in runs:
                if run.folder.is_finished:
                    progress.skip_run()
                elif run in wanted:
                    name = f"{run.variant.name}, {run.words}"
                    on_progress = progress.callback_of_run(name)
                    train = functools.partial(self._train, plan, run, on_progress)
                    result = attempt(train, run.folder, name, self.console)
                    if isinstance(result, RunResult):
                        self.say(f"{name}: {result.status}, {_result_text(plan, result)}")
                    if not run.setting:
                        self._publish(plan)
                    tried += 1
        return tried

    def _train(self, plan: StudyPlan, run: PlannedRun, on_progress: ProgressCallback) -> Result:
        from isthmus.engine.train import train_run, tune_run  # slow; not needed by a finished study

        own = (run.recipe, run.seed, run.folder)
        shared = self.folder.shared
        if run.setting:
            return tune_run(*own, data_root=self.data_root, on_progress=on_progress, shared=shared)
        alike = Schedule(written_plan(plan, self.folder), self.folder).shared()
        return train_run(
            *own,
            data_root=self.data_root,
            logger=self.logger,
            on_progress=on_progress,
            shared=shared,
            alike=alike,
        )

    def _publish(self, plan: StudyPlan) -> None:
        """Publish all runs of the folder, including those of other commands.

        The plan is written again, because another command may have removed seeds from it to stay within
        its budget.
        """
        schedule = Schedule(write_plan(plan, self.folder), self.folder)
        schedule.shared()  # raises an error if runs used different judges; the names are not needed here
        publish(schedule, data_root=self.data_root, command=self.command)


def attempt(
    train: Callable[[], Result], folder: RunFolder, name: str, console: Console
) -> Result | None:
    """The result of training; None if training stops with an error.

    Also None if another process is training the run or has finished it.

    Raises:
        UserError: If the request is invalid, since it is then invalid for every run.
    """
    try:
        with folder.held():
            return None if folder.is_finished else train()
    except Busy:
        console.print(f"{name}: another process is training this run", markup=False)
    except UserError:
        raise
    except Exception as error:  # the other runs of the study go on
        write_text(folder.error, traceback.format_exc())
        console.print(f"{name}: stopped with an error: {error}", style="red", markup=False)
    return None


def _result_text(plan: StudyPlan, result: RunResult) -> str:
    """Why a run failed, or its primary metric and the accuracy of the judge."""
    primary = metrics_of(plan)[0]
    judge = f" (judge accuracy {result.judge.accuracy:.3f})" if result.judge else ""
    return result.reason or f"{primary.title} {result.metrics[primary.name]:.3f}{judge}"
