"""What a study will run and what it will cost, before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from isthmus import build
from isthmus.recipe import StudyPlan
from isthmus.runs.cost import cost_of, seconds_per_step
from isthmus.runs.seeds import numpy_draws
from isthmus.runs.tasks import module_for
from isthmus.study.analysis import factor_settings, looks_of, scores_of
from isthmus.study.comparisons import comparisons_of
from isthmus.study.differences import read_results
from isthmus.study.planned import planned_runs, tuning_runs
from isthmus.study.power import POWER, visible_differences
from isthmus.study.verdicts import ALPHA


def print_forecast(plan: StudyPlan, study: Path, data_root: Path | None) -> None:
    """Print what a study will cost and what it can see.

    The cost is the median of three training steps times the number of steps. It leaves out
    augmentation and validation, which add about a tenth, scoring, and the judge of a VAE's pictures.

    Args:
        plan: The study.
        study: Its folder; runs that it holds say how much seeds scatter.
        data_root: Where data sets lie.
    """
    console = Console()
    _print_cost(plan, study, data_root, console)
    _print_visible(plan, study, console)
    console.print("nothing was trained")


def _print_cost(plan: StudyPlan, study: Path, data_root: Path | None, console: Console) -> None:
    table = Table(title=f"{plan.name}: {len(plan.variants)} variants x {len(plan.seeds)} seeds")
    for heading in ("variant", "parameters", "GFLOP", "steps", "minutes a run"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    minutes_all = 0.0
    planned = (*tuning_runs(plan, study), *planned_runs(plan, study))
    to_come = [run for run in planned if not run.folder.is_finished]
    for variant in plan.variants:
        recipe = plan.recipe_of(variant)
        store = build.store_for(recipe.data, data_root)
        rng = numpy_draws(plan.seeds[0], "split")
        pictures = len(build.split_for(recipe.data, store, rng).train)
        steps = recipe.train.epochs * math.ceil(pictures / recipe.train.batch)
        minutes = steps * seconds_per_step(recipe, store) / 60
        cost = cost_of(module_for(recipe, store, steps))
        table.add_row(
            variant.name,
            f"{cost.parameters:,}",
            f"{cost.gflop:.2f}",
            f"{steps:,}",
            f"{minutes:.1f}",
        )
        minutes_all += minutes * sum(run.variant == variant for run in to_come)
    console.print(table)
    console.print(
        f"about {minutes_all:.0f} minutes of training to come on this machine; scoring comes on top"
    )


def _print_visible(plan: StudyPlan, study: Path, console: Console) -> None:
    """The smallest difference that each factor's and two variants' comparison can find."""
    visible = visible_differences(
        comparisons_of(factor_settings(plan)),
        scores_of(plan),
        len(plan.seeds),
        looks_of(plan),
        plan.expected_sd,
        read_results(study) if (study / "results.csv").exists() else None,
    )
    if not visible:
        return
    if len(plan.seeds) < 2:
        console.print("one seed shows no difference, however large: its scatter is unknown")
        return
    table = Table(
        title=f"the smallest difference that {len(plan.seeds)} seeds can see "
        f"({POWER:.0%} of the time, {ALPHA:.0%} false alarms in a family)"
    )
    for heading in ("comparison", "score", "smallest difference", "from the scatter of"):
        table.add_column(heading, justify="right" if heading.startswith("smallest") else "left")
    for of in visible:
        unit = "" if of.source else " SD"
        table.add_row(
            of.words, of.score.title, f"{of.smallest:.2g}{unit}", of.source or "not known"
        )
    console.print(table)
    if any(not of.source for of in visible):
        console.print(
            "SD: standard deviation over seeds of the difference of two variants; run two or three "
            "seeds first, or set study.expected_sd, and this table has the score's own unit"
        )
