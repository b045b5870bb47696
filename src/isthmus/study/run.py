"""Run a study: tune and train what has not finished, and publish the results after every run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from isthmus.engine.run_result import RunResult
from isthmus.engine.task import DeviceName, LoggerName, task_of
from isthmus.study.claim import claimed_plan, note_look, write_plan, written_plan
from isthmus.study.concurrency import runs_at_a_time
from isthmus.study.differences import is_complete
from isthmus.study.executors import Executor, Processes, one_by_one
from isthmus.study.jobs import Job, JobOptions, Outcome
from isthmus.study.plan import StudyPlan, metrics_of
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

    A run that breaks off leaves ``error.txt``; the next call tries it again, and until then there are
    no verdicts. Several calls may run one study at once: each skips the runs that another one trains.

    Args:
        plan: What to run. It may add seeds and variants to those of the folder.
        study: The study folder, which is made if it is absent.
        only: Whether to run this plan alone. It does not join the plan of a folder that has verdicts, for
            its seed would leave them incomplete.
        rule: When to stop adding seeds; None: run the seeds of the plan.
        device: Where the runs are trained and evaluated.
        executor: How the runs are trained; if None, in as many processes as is fastest.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that records every run too.
        console: Where progress is printed; None: standard error.
        command: The command line that asked for this; the report prints it.

    Returns:
        The plan that the folder now has, with older seeds and variants.

    Raises:
        UserError: If the data break a rule or the folder holds another study.
    """
    folder, console = StudyFolder(study), console or Console(stderr=True)
    claimed = claimed_plan(plan, folder, adds=not (only and _has_verdicts(StudyFolder(study))))
    names = frozenset(variant.name for variant in (plan if only else claimed).variants)
    options = JobOptions(device=device, data_root=data_root, logger=logger, shared=folder.shared)
    run = StudyRun(folder, names, options, executor, console, command)
    if rule is None:
        seeds = plan.seeds if only else claimed.seeds
        beside = [seed for seed in seeds if seed not in claimed.seeds]
        claimed = run.train_seeds(claimed, seeds)
        if beside:
            run.say(
                f"seed {', '.join(map(str, beside))} is not among the {len(claimed.seeds)} seeds of the "
                f"study in {study}: its run is there and its tables are as before; isthmus study with more "
                "--seeds takes it in"
            )
    else:
        claimed, reason = run_with_rule(claimed, folder, rule, run.train_seeds)
        run.say(f"{len(claimed.seeds)} seeds: {reason}")
    note_look(folder)
    return claimed


def _has_verdicts(folder: StudyFolder) -> bool:
    return bool(folder.verdicts) and is_complete(folder.results)


@dataclass(frozen=True)
class StudyRun:
    """One call of ``run_study``: what all its steps share."""

    folder: StudyFolder
    names: frozenset[str]
    """The variants that this call trains."""
    options: JobOptions
    executor: Executor | None
    console: Console
    command: str

    def train_seeds(self, plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        """Train these seeds, which need not be in the plan; publish all runs of the plan; return it."""
        wanted = dataclasses.replace(plan, seeds=tuple(dict.fromkeys((*plan.seeds, *seeds))))
        schedule = Schedule(wanted, self.folder)
        schedule.check_content(self._content(schedule))
        schedule.shared()
        plan = write_plan(plan, self.folder)
        planned = Schedule(plan, self.folder)
        self.tune(planned)
        ready = self.names - planned.untrainable() - planned.untuned()
        runs = schedule.runs()  # with what tuning has chosen
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
        """Hash of the images; all data are opened first, so that faulty data are rejected early."""
        with decoding_progress(self.console) as on_progress:
            for data in dict.fromkeys(run.recipe.data for run in schedule.runs()):
                task = task_of(schedule.plan.recipe)
                store = task.open_store(data, self.options.data_root, on_progress)
        return store.content

    def _train_each(
        self, plan: StudyPlan, runs: Sequence[PlannedRun], wanted: Sequence[PlannedRun], what: str
    ) -> int:
        """Train the wanted runs that have not finished; return how many were tried."""
        to_do = [run for run in runs if run in wanted and not run.folder.is_finished]
        if not to_do:
            return 0
        with study_progress(self.console, len(runs), what) as progress:
            for _ in range(len(runs) - len(to_do)):
                progress.end()
            jobs = (self._job(plan, run) for run in to_do)
            executor = self.executor or self._fastest(to_do, runs)
            for outcome in executor(jobs, progress.show):
                progress.end(outcome.job.name)
                self._report(plan, outcome)
        return len(to_do)

    def _fastest(self, to_do: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> Executor:
        count = runs_at_a_time(to_do, runs, self.options)
        if count == 1:
            return one_by_one
        self.say(f"{count} runs at a time: faster here than one after the other (--jobs decides)")
        return Processes(count)

    def _job(self, plan: StudyPlan, run: PlannedRun) -> Job:
        alike = Schedule(written_plan(plan, self.folder), self.folder).shared()
        name = f"{run.variant.name}, {run.words}"
        kind: Literal["run", "tuning"] = "tuning" if run.setting else "run"
        return Job(name, kind, run.recipe, run.seed, run.folder, self.options, alike)

    def _report(self, plan: StudyPlan, outcome: Outcome) -> None:
        """Print what came of a job, and publish the runs."""
        name, result = outcome.job.name, outcome.result
        if isinstance(result, RunResult):
            self.say(f"{name}: {result.status}, {_result_text(plan, result)}")
        if outcome.message:
            self.say(f"{name}: {outcome.message}", style="red")
        if outcome.job.kind == "run":
            self._publish(plan)

    def _publish(self, plan: StudyPlan) -> None:
        """Publish all runs of the folder, those of other commands too.

        The plan is written again, because the budget of another command may have taken seeds out of it.
        """
        schedule = Schedule(write_plan(plan, self.folder), self.folder)
        schedule.shared()
        publish(schedule, data_root=self.options.data_root, command=self.command)


def _result_text(plan: StudyPlan, result: RunResult) -> str:
    """Why a run failed, or its first metric with the accuracy of the judge."""
    first = metrics_of(plan)[0]
    judge = f" (judge {result.judge.accuracy:.3f})" if result.judge else ""
    return result.reason or f"{first.title} {result.metrics[first.name]:.3f}{judge}"
