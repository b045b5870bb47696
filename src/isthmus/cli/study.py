"""isthmus study RECIPE: every variant with every seed, then the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from isthmus.cli.plans import RunOptions, parse_plan, run_plan
from isthmus.recipe.rules import STRICT, AboveZero, AtLeastZero, Positive

if TYPE_CHECKING:
    from isthmus.study.executors import Executor
    from isthmus.study.stopping_rule import StoppingRule


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyOptions(RunOptions):
    """Run a study, or go on with it: every variant with every seed, then the report."""

    seeds: Positive | None = None
    """How many seeds, counted from 0; left out: as the recipe says."""
    dry_run: bool = False
    """Train nothing: print the runs, what they will cost by a few steps timed here, and the smallest
    difference they can see."""
    stop_width: AboveZero | None = None
    """Add seeds until no interval of a factor's effect on the first metric is wider than this."""
    budget_minutes: AboveZero | None = None
    """Train seeds, planned and added ones, while the training time of all runs together stays within
    this."""
    jobs: Positive | None = None
    """How many runs are trained at a time, in processes that share the threads of the processor; left out:
    as many as is fastest by a short measurement."""
    on: Literal["local", "ray"] = "local"
    """Where runs are trained: on this machine, or as tasks of a Ray cluster."""
    address: str | None = None
    """For --on ray: address of the cluster; left out: a running one, or a new one on this machine."""
    cpus: Positive = 1
    """For --on ray: cores per run."""
    gpus: AtLeastZero = 0.0
    """For --on ray: GPUs per run; 0.25 lets four runs share one."""
    max_seeds: Positive = 20
    """Add seeds up to this many at most. Every look that it leaves room for widens all intervals, so set
    it no higher than you would go."""

    @property
    def rule(self) -> StoppingRule | None:
        """When to add seeds, if at all."""
        if self.stop_width is None and self.budget_minutes is None:
            return None
        from isthmus.study.stopping_rule import StoppingRule

        return StoppingRule(self.stop_width, self.budget_minutes, self.max_seeds)

    @property
    def executor(self) -> Executor | None:
        """How the runs are trained; None: as is fastest."""
        if self.on == "ray":
            from isthmus.study.on_ray import RayTasks

            return RayTasks(self.address, self.cpus, self.gpus)
        from isthmus.study.executors import Processes, one_by_one

        if self.jobs is None:
            return None
        return one_by_one if self.jobs == 1 else Processes(self.jobs)


def study(words: Sequence[str]) -> int:
    """Run the study that the words describe, or print what it will cost."""
    plan, options = parse_plan("study", words, StudyOptions())
    if options.seeds is not None:
        plan = dataclasses.replace(plan, seeds=tuple(range(options.seeds)))
    if not options.dry_run:
        return run_plan(plan, options, ["study", *words], options.rule, executor=options.executor)
    from isthmus.study.claim import claimed_plan
    from isthmus.study.forecast import print_forecast
    from isthmus.study.study_folder import StudyFolder

    folder, rule = options.folder(plan), options.rule
    plan = claimed_plan(plan, StudyFolder(folder))
    print_forecast(rule.looked_at(plan) if rule else plan, folder, options.data_root)
    return 0
