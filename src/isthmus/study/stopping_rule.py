"""Add seeds to a study until its intervals are narrow enough or its budget is spent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from isthmus.errors import UserError
from isthmus.metrics.wording import counted
from isthmus.study.claim import leave_out
from isthmus.study.differences import is_complete
from isthmus.study.plan import StudyPlan
from isthmus.study.records import Verdict
from isthmus.study.schedule import Schedule
from isthmus.study.study_folder import StudyFolder


@dataclass(frozen=True)
class StoppingRule:
    """When to stop adding seeds to a study; seeds are run and added one at a time."""

    width: float | None
    """Stop when no interval of a factor's effect on the primary metric is wider than this, in the unit
    of the metric; None for no such limit."""
    budget_minutes: float | None
    """Largest training time of all runs together; None for no limit."""
    max_seeds: int

    def looked_at(self, plan: StudyPlan) -> StudyPlan:
        """The plan with an interim look at every number of seeds at which this rule may stop.

        Verdicts are corrected for all of these looks, even if the study stops early. A budget alone does
        not depend on any metric, so it adds no look.

        Raises:
            UserError: If the study already has more seeds than allowed, or cannot have an interval.
        """
        first = len(plan.seeds)
        if first > self.max_seeds:
            raise UserError(
                f"--max-seeds {self.max_seeds} is less than the {first} seeds that the study already has: "
                "no seed could be added; raise --max-seeds"
            )
        if self.width is None:
            return plan
        if len(plan.variants) < 2:
            raise UserError(
                "--stop-width needs two or more variants to compare, and this study has one; add a variant, "
                "or use --budget-minutes"
            )
        if first < 2:
            raise UserError(
                "--stop-width needs two or more seeds to start from, because one seed has no interval; "
                "give --seeds 2 or more"
            )
        looks = tuple(sorted({*plan.looks, *range(first, self.max_seeds + 1)}))
        return dataclasses.replace(plan, looks=looks)

    def stops(self, plan: StudyPlan, folder: StudyFolder) -> str:
        """Why no seed is added to a plan that has been run; empty if a seed is added."""
        folder = StudyFolder(folder.path)  # reads what was written since
        results = folder.results
        if not is_complete(results):
            return "not every run is done, and there are no verdicts until then"
        if not (results["status"] == "finished").any():
            return "every run has failed, and more seeds would not change that"
        if self.width is not None:
            widest = widest_interval(folder.verdicts)
            finished = results.loc[results["status"] == "finished", "variant"]
            if math.isnan(widest) and finished.nunique() < 2:
                return "fewer than two variants have a finished run, and more seeds would hardly change that"
            if widest <= self.width:
                return f"the widest interval has width {widest:.3g}, which is within {self.width:g}"
        if len(plan.seeds) >= self.max_seeds:
            return f"{self.max_seeds} seeds are the maximum allowed"
        return ""

    def overspends(self, schedule: Schedule, seed: int) -> str:
        """Why training this seed would exceed the budget; empty if it would not.

        The cost of the seed is estimated from the finished runs. Before any run has started, no seed
        exceeds the budget.
        """
        runs = schedule.runs()
        if self.budget_minutes is None or not any(run.folder.is_claimed for run in runs):
            return ""
        spent = sum(run.folder.train_seconds() for run in (*schedule.tuning_runs(), *runs)) / 60
        finished = [run.folder for run in runs if run.folder.is_finished]
        of_run = sum(folder.train_seconds() for folder in finished) / max(1, len(finished)) / 60
        cost = of_run * sum(run.seed == seed for run in schedule.to_come())
        if spent + cost <= self.budget_minutes:
            return ""
        return (
            f"{spent:.3g} minutes of training are spent, and another seed would take {cost:.3g} more, "
            f"which exceeds the budget of {self.budget_minutes:g}"
        )


Run = Callable[[StudyPlan, Collection[int]], StudyPlan]
"""Trains some seeds of a plan, and returns the plan that the folder has afterwards."""


def run_with_rule(
    plan: StudyPlan, folder: StudyFolder, rule: StoppingRule, run: Run
) -> tuple[StudyPlan, str]:
    """Run the plan seed by seed, then add seeds one at a time until the rule stops.

    If a planned seed would exceed the budget, the planned seeds of which no run has started are removed
    from the plan.

    Args:
        plan: The plan returned by ``claimed_plan``. Seeds added here do not count as additional looks.
        folder: The study.
        rule: When to stop.
        run: Trains seeds.

    Returns:
        The last plan, and why no more seeds are run.
    """
    plan = rule.looked_at(plan)
    to_come = {of.seed for of in Schedule(plan, folder).to_come()}
    for seed in [seed for seed in plan.seeds if seed in to_come]:
        if reason := rule.overspends(Schedule(plan, folder), seed):
            return _stopped_early(Schedule(plan, folder), reason, run)
        plan = run(plan, (seed,))
    if not to_come:
        plan = run(plan, ())
    while not (reason := rule.stops(plan, folder)):
        seed = max(plan.seeds) + 1
        more = dataclasses.replace(plan, seeds=(*plan.seeds, seed))
        if reason := rule.overspends(Schedule(more, folder), seed):
            break
        plan = run(more, (seed,))
    return plan, reason


def widest_interval(verdicts: Sequence[Verdict]) -> float:
    """Width of the widest interval on the primary metric, of factors or, if there are none, of pairs.

    NaN if no comparison has a seed; infinite if a comparison with seeds has no interval, or if there are
    no verdicts.
    """
    if not verdicts:
        return math.inf
    known = [v for v in verdicts if v.metric == verdicts[0].metric and v.n > 0]
    factors = [v for v in known if v.kind == "factor"]
    widths = [v.high - v.low for v in factors or known if v.kind in ("factor", "pair")]
    if not widths:
        return math.nan
    return max(widths) if all(map(math.isfinite, widths)) else math.inf


def _stopped_early(schedule: Schedule, reason: str, run: Run) -> tuple[StudyPlan, str]:
    """The plan without the seeds that have not started, and the reason, which says what was left out."""
    begun = {of.seed for of in schedule.runs() if of.folder.is_claimed}
    left = [seed for seed in schedule.plan.seeds if seed not in begun]
    verb = "are" if len(left) > 1 else "is"
    what = f"{counted(len(left), 'planned seed')} {verb} left out"
    said = what if left else "the seeds that have started need a larger budget"
    return run(leave_out(left, schedule.folder), ()), f"{reason}; {said}"
