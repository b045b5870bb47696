"""Run a study: tune and train what has not finished, and publish the results after every run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from isthmus.engine.run_result import RunResult
from isthmus.engine.task import DeviceName, LoggerName, task_of
from isthmus.metrics.wording import counted
from isthmus.study.claim import claimed_plan, note_look, write_plan, written_plan
from isthmus.study.concurrency import runs_at_a_time
from isthmus.study.differences import is_complete
from isthmus.study.executors import Executor, Processes, one_by_one
from isthmus.study.jobs import Job, JobOptions, Outcome
from isthmus.study.plan import StudyPlan, Variant, metrics_of
from isthmus.study.progress import decoding_progress, study_progress
from isthmus.study.publish import publish
from isthmus.study.schedule import PlannedRun, Schedule
from isthmus.study.stopping_rule import StoppingRule, run_with_rule
from isthmus.study.study_folder import StudyFolder


def run_study(
    plan: StudyPlan,
    study: Path,
    *,
    only: bool = False,
    rule: StoppingRule | None = None,
    device: DeviceName = "auto",
    executor: Executor | None = None,
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
        device: Where the runs are trained and evaluated.
        executor: How the runs are trained. If None, in as many processes as is fastest.
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
    options = JobOptions(device=device, data_root=data_root, logger=logger, shared=folder.shared)
    run = StudyRun(folder, names, options, executor, console, command)
    if rule is None:
        seeds = plan.seeds if only else claimed.seeds
        claimed = run.train_seeds(claimed, seeds, plan.variants)
        _say_what_is_left_out(plan, claimed, run)
    else:
        claimed, reason = run_with_rule(claimed, folder, rule, run.train_seeds)
        run.say(f"stopped at {counted(len(claimed.seeds), 'seed')}: {reason}")
    note_look(folder)
    return claimed


def _say_what_is_left_out(plan: StudyPlan, claimed: StudyPlan, run: StudyRun) -> None:
    """Say which runs of ``plan`` were trained beside a study whose tables leave them out."""
    in_study = {variant.name for variant in claimed.variants}
    for variant in plan.variants:
        for seed in plan.seeds:
            is_new = seed not in claimed.seeds
            if (is_new or variant.name not in in_study) and run.folder.run(
                variant.name, seed
            ).is_finished:
                run.say(
                    f"{variant.name}, seed {seed} was trained, but is not part of the study in "
                    f"{run.folder.path}, whose tables have not changed; to include it, run isthmus study "
                    f"RECIPE{f' --seeds {seed + 1}' if is_new else ''}"
                )


def _has_verdicts(folder: StudyFolder) -> bool:
    return bool(folder.verdicts) and is_complete(folder.results)


@dataclass(frozen=True)
class StudyRun:
    """One call of ``run_study``, with the settings that all of its steps use."""

    folder: StudyFolder
    names: frozenset[str]
    """The variants that this call trains."""
    options: JobOptions
    executor: Executor | None
    console: Console
    command: str

    def train_seeds(
        self, plan: StudyPlan, seeds: Collection[int], variants: Collection[Variant] = ()
    ) -> StudyPlan:
        """Train these seeds, publish all runs of the plan, and return the plan.

        Neither the seeds nor the variants need be in the plan.
        """
        of_plan = {variant.name for variant in plan.variants}
        wanted = dataclasses.replace(
            plan,
            seeds=tuple(dict.fromkeys((*plan.seeds, *seeds))),
            variants=(*plan.variants, *(v for v in variants if v.name not in of_plan)),
        )
        schedule = Schedule(wanted, self.folder)
        schedule.check_content(self._content(schedule))
        schedule.shared()  # raises an error if runs used different judges; the names are not needed here
        plan = write_plan(plan, self.folder)
        self.tune(schedule)
        ready = self.names - schedule.untrainable() - schedule.untuned()
        runs = schedule.runs()  # with the hyperparameters that tuning has chosen
        chosen = [run for run in runs if run.seed in seeds and run.variant.name in ready]
        if not self._train_each(plan, runs, chosen, "run"):
            self._publish(plan)
        return plan

    def tune(self, schedule: Schedule) -> None:
        """Train this call's variants with every setting of the tuned hyperparameters."""
        runs = [run for run in schedule.tuning_runs() if run.variant.name in self.names]
        self._train_each(schedule.plan, runs, runs, "tuning")

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def _content(self, schedule: Schedule) -> str:
        """Hash of the images; opens the data of all variants, so that invalid data are rejected early."""
        with decoding_progress(self.console) as on_progress:
            for data in dict.fromkeys(run.recipe.data for run in schedule.runs()):
                task = task_of(schedule.plan.recipe)
                store = task.open_store(data, self.options.data_root, on_progress)
        return store.content

    def _train_each(
        self, plan: StudyPlan, runs: Sequence[PlannedRun], wanted: Sequence[PlannedRun], what: str
    ) -> int:
        """Train the wanted runs that have not finished; return the number of runs tried."""
        to_do = [run for run in runs if run in wanted and not run.folder.is_finished]
        if not to_do:
            return 0
        with study_progress(self.console, len(runs), what) as progress:
            for _ in range(len(runs) - len(to_do)):
                progress.end()
            jobs = (self._job(plan, run) for run in to_do)
            executor = self.executor or self._fastest(to_do, runs)
            publish_next = 0.0
            for place, outcome in enumerate(executor(jobs, progress.show), start=1):
                progress.end(outcome.job.name)
                self._report(plan, outcome)
                began = time.monotonic()
                if outcome.job.kind == "run" and (began >= publish_next or place == len(to_do)):
                    self._publish(plan)
                    # At most a tenth of the time goes into tables, however many runs there are.
                    publish_next = time.monotonic() + 9 * (time.monotonic() - began)
        return len(to_do)

    def _fastest(self, to_do: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> Executor:
        count = runs_at_a_time(to_do, runs, self.options)
        if count == 1:
            return one_by_one
        self.say(f"up to {count} runs at a time, which share the threads (--jobs decides)")
        return Processes(count)

    def _job(self, plan: StudyPlan, run: PlannedRun) -> Job:
        alike = Schedule(written_plan(plan, self.folder), self.folder).shared()
        name = f"{run.variant.name}, {run.words}"
        kind: Literal["run", "tuning"] = "tuning" if run.setting else "run"
        return Job(name, kind, run.recipe, run.seed, run.folder, self.options, alike)

    def _report(self, plan: StudyPlan, outcome: Outcome) -> None:
        """Print what came of a job."""
        name, result = outcome.job.name, outcome.result
        if isinstance(result, RunResult):
            self.say(f"{name}: {result.status}, {_result_text(plan, result)}")
        if outcome.message:
            self.say(f"{name}: {outcome.message}", style="red")

    def _publish(self, plan: StudyPlan) -> None:
        """Publish all runs of the folder, including those of other commands.

        The plan is written again, because another command may have removed seeds from it to stay within
        its budget.
        """
        schedule = Schedule(write_plan(plan, self.folder), self.folder)
        schedule.shared()  # raises an error if runs used different judges; the names are not needed here
        publish(schedule, data_root=self.options.data_root, command=self.command)


def _result_text(plan: StudyPlan, result: RunResult) -> str:
    """Why a run failed, or its primary metric and the accuracy of the judge."""
    primary = metrics_of(plan)[0]
    judge = f" (judge accuracy {result.judge.accuracy:.3f})" if result.judge else ""
    return result.reason or f"{primary.title} {result.metrics[primary.name]:.3f}{judge}"
