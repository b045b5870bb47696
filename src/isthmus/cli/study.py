"""isthmus study RECIPE: train every variant with every seed, then write the report."""

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
    """Run or continue a study: train every variant with every seed, then write the report."""

    seeds: Positive | None = None
    """Number of seeds, counted from 0; if omitted, the seeds of the recipe."""
    dry_run: bool = False
    """Train nothing; print the runs, their training time (estimated from a few steps on this machine)
    and the smallest difference that the study can detect."""
    stop_width: AboveZero | None = None
    """Add seeds until no interval of a factor's effect on the primary metric is wider than this."""
    budget_minutes: AboveZero | None = None
    """Train planned and added seeds only while the training time of all runs together stays within this
    number of minutes."""
    jobs: Positive | None = None
    """Number of runs trained at a time, in processes that share the threads of the processor; if omitted,
    a short measurement decides."""
    on: Literal["local", "ray"] = "local"
    """Where runs are trained: on this machine, or as tasks of a Ray cluster."""
    address: str | None = None
    """For --on ray: address of the cluster; if omitted, a running one, or a new one here."""
    cpus: Positive = 1
    """For --on ray: cores per run."""
    gpus: AtLeastZero = 0.0
    """For --on ray: GPUs per run; 0.25 lets four runs share one."""
    max_seeds: Positive = 20
    """Largest number of seeds up to which seeds are added. With --stop-width, verdicts are corrected for
    an interim look at every number of seeds up to this one, which widens all intervals, so set it no
    higher than needed."""

    @property
    def rule(self) -> StoppingRule | None:
        """When to stop adding seeds; None if none are added."""
        if self.stop_width is None and self.budget_minutes is None:
            return None
        from isthmus.study.stopping_rule import StoppingRule

        return StoppingRule(self.stop_width, self.budget_minutes, self.max_seeds)

    @property
    def executor(self) -> Executor | None:
        """How the runs are trained; None if a measurement is to decide."""
        if self.on == "ray":
            from isthmus.study.on_ray import RayTasks

            return RayTasks(self.address, self.cpus, self.gpus)
        from isthmus.study.executors import Processes, one_by_one

        if self.jobs is None:
            return None
        return one_by_one if self.jobs == 1 else Processes(self.jobs)


def study(words: Sequence[str]) -> int:
    """Run the study that the command line describes, or print its forecast."""
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
