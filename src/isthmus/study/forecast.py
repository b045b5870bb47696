"""Forecast, before anything is trained, the runs of a study, their cost and what it can detect."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from isthmus.engine.cost import Cost, cost_of, seconds_per_step
from isthmus.engine.device import device_for
from isthmus.engine.loaders import split_for, steps_per_epoch
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe
from isthmus.study.analysis import looks_of
from isthmus.study.comparisons import comparisons_of
from isthmus.study.plan import StudyPlan, metrics_of
from isthmus.study.power import POWER, visible_differences
from isthmus.study.schedule import Schedule
from isthmus.study.study_folder import StudyFolder
from isthmus.study.verdicts import ALPHA


def print_forecast(plan: StudyPlan, study: Path, data_root: Path | None) -> None:
    """Print what a study will cost and what it can detect.

    The cost of a run is the median time of three training steps times the number of steps.

    Args:
        plan: The study.
        study: The study folder; the standard deviation over seeds is estimated from its finished runs.
        data_root: Folder that contains the data sets. If None, ISTHMUS_DATA or the cache folder.
    """
    console, schedule = Console(), Schedule(plan, StudyFolder(study))
    _print_cost(schedule, data_root, console)
    _print_visible(schedule, console)
    console.print("nothing was trained")


@dataclass(frozen=True)
class _RunCost:
    """The cost of one run on this machine."""

    network: Cost
    steps: int
    minutes: float


def _cost_of_run(recipe: Recipe, seed: int, data_root: Path | None) -> _RunCost:
    task = task_of(recipe)
    store = task.open_store(recipe.data, data_root)
    images = len(split_for(recipe, store, seed).train)
    steps = recipe.train.epochs * steps_per_epoch(images, recipe.train.batch)
    device = device_for("auto", recipe.train.precision)
    network = cost_of(task.new_module(recipe, store, steps=4))
    phases = task.phases(recipe)
    seconds = sum(fraction * steps * seconds_per_step(of, store, device) for fraction, of in phases)
    return _RunCost(network, steps, seconds / 60)


def _print_cost(schedule: Schedule, data_root: Path | None, console: Console) -> None:
    plan = schedule.plan
    table = Table(title=f"{plan.name}: {len(plan.variants)} variants x {len(plan.seeds)} seeds")
    for heading in ("run", "parameters", "GFLOP", "steps", "minutes per run", "runs to train"):
        table.add_column(heading, justify="left" if heading == "run" else "right")

    @functools.cache
    def cost_of_run(recipe: Recipe) -> _RunCost:
        return _cost_of_run(recipe, plan.seeds[0], data_root)

    def add_row(name: str, cost: _RunCost, count: int) -> float:
        network = (f"{cost.network.parameters:,}", f"{cost.network.gflop:.2f}")
        table.add_row(name, *network, f"{cost.steps:,}", f"{cost.minutes:.1f}", str(count))
        return cost.minutes * count

    minutes, minutes_of_seed = 0.0, 0.0
    runs, to_come, untuned = schedule.runs(), schedule.to_come(), schedule.untuned()
    for variant in plan.variants:
        tuning = schedule.tuning_runs(variant)
        for run in tuning:
            name, count = f"{variant.name}, tuning {run.words}", int(not run.folder.is_finished)
            minutes += add_row(name, cost_of_run(run.recipe), count)
        is_tuned = variant.name not in untuned
        may_be = [r for r in runs if r.variant == variant][:1] if is_tuned else tuning
        costs = [cost_of_run(run.recipe) for run in may_be]
        cost = max(costs, key=lambda of: of.minutes)
        minutes += add_row(variant.name, cost, sum(run.variant == variant for run in to_come))
        minutes_of_seed += cost.minutes
    console.print(table)
    most = max((len(plan.seeds), *plan.looks))
    more = minutes + (most - len(plan.seeds)) * minutes_of_seed
    up_to = f", about {more:.1f} if seeds are added up to {most}" if more > minutes else ""
    console.print(f"about {minutes:.1f} minutes of training remain on this machine{up_to}")
    if untuned:
        console.print("a variant that is not tuned yet is counted with its most expensive setting")
    note = task_of(plan.recipe).forecast_note
    console.print(
        "not included: augmentation and validation, which add about 10 %; the evaluation "
        f"on the test set, once per run{note and f'; and {note}'}"
    )


def _print_visible(schedule: Schedule, console: Console) -> None:
    """Print the smallest differences that can be detected, for each factor and between two variants."""
    plan, results = schedule.plan, schedule.folder.results
    visible = visible_differences(
        comparisons_of(plan.levels),
        metrics_of(plan),
        len(plan.seeds),
        looks_of(plan),
        plan.expected_sd,
        results if len(results) else None,
    )
    if not visible:
        return
    if len(plan.seeds) < 2:
        console.print(
            "one seed cannot detect any difference: the standard deviation over seeds is unknown"
        )
        return
    table = Table(
        title=f"the smallest difference that {len(plan.seeds)} seeds can detect (power {POWER:.0%}, "
        f"probability of any false alarm in the study {ALPHA:.0%})"
    )
    for heading in ("comparison", "metric", "smallest difference", "standard deviation from"):
        table.add_column(heading, justify="right" if heading.startswith("smallest") else "left")
    for of in visible:
        smallest = f"{of.smallest:.2g}{'' if of.source else ' SD'}"
        table.add_row(of.words, of.metric.title, smallest, of.source or "not known")
    console.print(table)
    if any(not of.source for of in visible):
        console.print(
            "SD: standard deviation over seeds of the difference between two variants; for a table in the "
            "unit of the metric, run two or three seeds in a separate folder and set study.expected_sd to "
            "the standard deviation that they have"
        )
