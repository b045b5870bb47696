"""Add seeds to a study until it knows enough, or has spent enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from isthmus.recipe import StudyPlan
from isthmus.refusal import Refusal
from isthmus.study.differences import is_whole, read_results
from isthmus.study.planned import tuning_runs


@dataclass(frozen=True)
class StoppingRule:
    """When a study has seeds enough; seeds are added one at a time."""

    width: float | None
    """Width of the widest interval of a factor's effect on the first score, in its unit."""
    budget_minutes: float | None
    """Training time of all runs together."""
    most_seeds: int

    def looked_at(self, plan: StudyPlan) -> StudyPlan:
        """The plan with every count of seeds after which this rule may look at the scores.

        All of them are corrected for, those too that an early end will spare. A budget alone
        looks at no score, so it costs nothing.

        Raises:
            Refusal: If no look can come.
        """
        first = len(plan.seeds)
        if self.width is None:
            return plan
        if len(plan.variants) < 2:
            raise Refusal(
                "--until-width with one variant: there is no difference to be sure of; add a variant, "
                "or use --budget-minutes"
            )
        if first < 2:
            raise Refusal(
                "--until-width with one seed: an interval needs two or more to start from; "
                "give --seeds 2 or more"
            )
        if first > self.most_seeds:
            raise Refusal(
                f"--most-seeds {self.most_seeds} is less than the {first} seeds of the study: "
                "there would be none to add; give more"
            )
        looks = tuple(sorted({*plan.looks, *range(first, self.most_seeds + 1)}))
        return dataclasses.replace(plan, looks=looks)

    def stops(self, plan: StudyPlan, study: Path) -> str:
        """Why no seed is added, in words; nothing if one is."""
        results = read_results(study)
        if not is_whole(results) or not (results["status"] == "finished").any():
            return "not every run is done"
        if self.width is not None and (widest := _widest(study / "verdicts.csv")) <= self.width:
            return f"the widest interval is {widest:.3g}, within {self.width:g}"
        if len(plan.seeds) >= self.most_seeds:
            return f"{self.most_seeds} seeds are the most that were allowed"
        runs = results["train_seconds"].sum() / 60
        tuning = [run.folder.result() for run in tuning_runs(plan, study)]
        spent = runs + sum(of.get("train_seconds", 0.0) for of in tuning) / 60
        next_seed = runs / len(plan.seeds)
        if self.budget_minutes is not None and spent + next_seed > self.budget_minutes:
            return (
                f"{spent:.0f} minutes of training are spent, and another seed of {next_seed:.0f} "
                f"would go beyond {self.budget_minutes:g}"
            )
        return ""


def run_until(
    plan: StudyPlan, study: Path, rule: StoppingRule, run: Callable[[StudyPlan], StudyPlan]
) -> tuple[StudyPlan, str]:
    """Run the plan, then with one seed more at a time; return the last plan and why it ended.

    Args:
        plan: What ``claimed_plan`` has given; seeds that are added here are no looks of their own.
        study: Its folder.
        rule: When there are seeds enough.
        run: Runs a claimed plan.
    """
    plan = run(rule.looked_at(plan))
    while not (reason := rule.stops(plan, study)):
        plan = run(dataclasses.replace(plan, seeds=(*plan.seeds, max(plan.seeds) + 1)))
    return plan, reason


def _widest(verdicts: Path) -> float:
    """Of the factors' intervals, or of the pairs' where no factor is, by the first score."""
    table = pd.read_csv(verdicts)
    if table.empty:
        return float("inf")
    table = table[(table["score"] == table["score"].iloc[0]) & (table["n"] > 0)]
    kind = "factor" if (table["kind"] == "factor").any() else "pair"
    widths = (table["high"] - table["low"])[table["kind"] == kind]
    return float(widths.max()) if widths.notna().all() else float("inf")
