"""Add seeds to a study until it knows enough, or has spent enough."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import UserError
from isthmus.study.claim import leave_out
from isthmus.study.differences import is_complete
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import StudyPlan
from isthmus.study.planned_runs import planned_runs, runs_to_come, tuning_runs
from isthmus.study.records import Verdict


@dataclass(frozen=True)
class StoppingRule:
    """When a study has seeds enough; seeds are run, and added, one at a time."""

    width: float | None
    """Width of the widest interval of a factor's effect on the first metric, in its unit."""
    budget_minutes: float | None
    """Training time of all runs together."""
    max_seeds: int

    def looked_at(self, plan: StudyPlan) -> StudyPlan:
        """The plan with every count of seeds after which this rule may look at the metrics.

        All of them are corrected for, those too that an early end will spare. A budget alone
        looks at no metric, so it costs nothing.

        Raises:
            UserError: If no seed can be added, or no look can come.
        """
        first = len(plan.seeds)
        if first > self.max_seeds:
            raise UserError(
                f"--max-seeds {self.max_seeds} is less than the {first} seeds of the study: "
                "there would be none to add; give more"
            )
        if self.width is None:
            return plan
        if len(plan.variants) < 2:
            raise UserError(
                "--stop-width with one variant: there is no difference to be sure of; add a variant, "
                "or use --budget-minutes"
            )
        if first < 2:
            raise UserError(
                "--stop-width with one seed: an interval needs two or more to start from; "
                "give --seeds 2 or more"
            )
        looks = tuple(sorted({*plan.looks, *range(first, self.max_seeds + 1)}))
        return dataclasses.replace(plan, looks=looks)

    def stops(self, plan: StudyPlan, study: Path) -> str:
        """Why no seed is added to a plan that was run, in words; nothing if one is."""
        folder = StudyFolder(study)
        results = folder.results
        if not is_complete(results):
            return "not every run is done, and before that there is no verdict"
        if not (results["status"] == "finished").any():
            return "every run has failed, and more seeds would not mend that"
        if self.width is not None:
            widest = _widest(folder.verdicts)
            finished = results.loc[results["status"] == "finished", "variant"]
            if math.isnan(widest) and finished.nunique() < 2:
                return "fewer than two variants have a finished run, and more seeds would hardly mend that"
            if widest <= self.width:
                return f"the widest interval is {widest:.3g}, within {self.width:g}"
        if len(plan.seeds) >= self.max_seeds:
            return f"{self.max_seeds} seeds are the most that were allowed"
        return ""

    def overspends(self, plan: StudyPlan, study: Path, seed: int) -> str:
        """Why a seed of the plan would cost too much, in words; nothing if it would not.

        What it will cost is told by the runs that have finished; before one has begun, it may.
        """
        runs = planned_runs(plan, study)
        if self.budget_minutes is None or not any(run.folder.is_claimed for run in runs):
            return ""
        all_runs = (*tuning_runs(plan, study), *runs)
        spent = sum(run.folder.train_seconds() for run in all_runs) / 60
        finished = [run.folder for run in runs if run.folder.is_finished]
        of_run = sum(folder.train_seconds() for folder in finished) / max(1, len(finished)) / 60
        cost = of_run * sum(run.seed == seed for run in runs_to_come(plan, study))
        if spent + cost <= self.budget_minutes:
            return ""
        return (
            f"{spent:.3g} minutes of training are spent, and another seed of {cost:.3g} "
            f"would go beyond {self.budget_minutes:g}"
        )


Run = Callable[[StudyPlan, Collection[int]], StudyPlan]
"""Runs some seeds of a claimed plan."""


def run_with_rule(
    plan: StudyPlan, study: Path, rule: StoppingRule, run: Run
) -> tuple[StudyPlan, str]:
    """Run the plan seed by seed, then with one more at a time; return the last plan and why it ended.

    A planned seed that would go beyond the budget is left out of the plan, unless a run of it has
    begun: what is there is not hidden.

    Args:
        plan: What ``claimed_plan`` has given; seeds that are added here are no looks of their own.
        study: Its folder.
        rule: When there are seeds enough.
        run: Runs some seeds of a claimed plan.
    """
    plan = rule.looked_at(plan)
    to_come = {of.seed for of in runs_to_come(plan, study)}
    for seed in [seed for seed in plan.seeds if seed in to_come]:
        if reason := rule.overspends(plan, study, seed):
            return _stopped_early(plan, study, reason, run)
        plan = run(plan, (seed,))
    if not to_come:
        plan = run(plan, ())
    while not (reason := rule.stops(plan, study)):
        seed = max(plan.seeds) + 1
        more = dataclasses.replace(plan, seeds=(*plan.seeds, seed))
        if reason := rule.overspends(more, study, seed):
            break
        plan = run(more, (seed,))
    return plan, reason


def _stopped_early(plan: StudyPlan, study: Path, reason: str, run: Run) -> tuple[StudyPlan, str]:
    """The plan without the seeds of which nothing is there, and the reason with what it means."""
    begun = {of.seed for of in planned_runs(plan, study) if of.folder.is_claimed}
    not_begun = [seed for seed in plan.seeds if seed not in begun]
    left = len(not_begun)
    what = (
        f"{left} planned {'seeds are' if left > 1 else 'seed is'} left out"
        if left
        else ("seeds that have begun wait for more")
    )
    return run(leave_out(not_begun, study), ()), f"{reason}; {what}"


def _widest(verdicts: Sequence[Verdict]) -> float:
    """Width of the widest interval of the factors, or of the pairs where no factor is, by the first metric.

    NaN where no comparison has a seed; infinite where one that has seeds has no interval.
    """
    if not verdicts:
        return math.inf
    known = [v for v in verdicts if v.metric == verdicts[0].metric and v.n > 0]
    factors = [v for v in known if v.kind == "factor"]
    widths = [v.high - v.low for v in factors or known if v.kind in ("factor", "pair")]
    if not widths:
        return math.nan
    return max(widths) if all(map(math.isfinite, widths)) else math.inf
