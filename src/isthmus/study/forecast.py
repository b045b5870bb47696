"""What a study will run and what it will cost, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from isthmus import build
from isthmus.data.store import Store
from isthmus.engine.cost import Cost, cost_of, seconds_per_step
from isthmus.engine.seeds import numpy_draws
from isthmus.recipe import AnyRecipe, GenerateRecipe, StudyPlan, settings_of, with_settings
from isthmus.study.analysis import factor_settings, looks_of, metrics_of
from isthmus.study.comparisons import comparisons_of
from isthmus.study.differences import read_results
from isthmus.study.plan import DATA_THAT_MAY_DIFFER
from isthmus.study.planned_runs import planned_runs, runs_to_come, tuning_runs
from isthmus.study.power import POWER, visible_differences
from isthmus.study.verdicts import ALPHA
from isthmus.tasks.task import module_for

_MOST_TIMINGS = 12
"""Kinds of step that are timed, one for each objective at least; of further ones the time is told by the
operations of a forward pass, which know nothing of further samples of z or of what reads and hides labels."""

_SAME_STEP = (
    *("train.epochs", "train.lr", "train.weight_decay", "train.momentum", "train.schedule"),
    *("train.warmup", "train.keep", "model.dropout_rate", *DATA_THAT_MAY_DIFFER),
    *("loss.smooth", "loss.gamma", "loss.alpha", "loss.beta", "objective.beta"),
    *("objective.kl_warmup", "objective.free_bits_nats", "objective.invariance_weight"),
    *("objective.importance_from", "objective.label_consistency_weight", "augment.", "measure."),
)
"""Fields, and tables, whose value does not change what a timed step costs, once there is one."""


def print_forecast(plan: StudyPlan, study: Path, data_root: Path | None) -> None:
    """Print what a study will cost and what it can see.

    The cost of a run is the median of three training steps times the number of steps.

    Args:
        plan: The study.
        study: Its folder; runs that it holds say how much seeds scatter.
        data_root: Where data sets lie.
    """
    console = Console()
    _print_cost(plan, study, data_root, console)
    _print_visible(plan, study, console)
    console.print("nothing was trained")


@dataclass(frozen=True)
class _Step:
    """What a training step costs here."""

    network: Cost
    work: float
    """Operations of a forward pass of the batch, in billions."""
    objective: str
    """Its settings of ``objective``; none for other tasks."""
    seconds: float


@dataclass(frozen=True)
class _Run:
    """What a run costs here."""

    network: Cost
    steps: int
    minutes: float


class _Clock:
    """Tells what a run will cost; a step is timed once for all recipes in which it costs the same."""

    def __init__(self, seed: int, data_root: Path | None) -> None:
        self._seed = seed
        self._data_root = data_root
        self._stores: dict[object, Store] = {}
        self._steps: dict[str, _Step] = {}
        self.timed: list[_Step] = []
        """Those whose steps were timed."""

    def run_of(self, recipe: AnyRecipe) -> _Run:
        """The cost of one run of a recipe."""
        if recipe.data not in self._stores:
            self._stores[recipe.data] = build.store_for(recipe.data, self._data_root)
        store = self._stores[recipe.data]
        split = build.split_for(recipe.data, store, numpy_draws(self._seed, "split"))
        images, batch = len(split.train), recipe.train.batch
        batches = math.ceil(images / batch) - build.leaves_one_over(images, batch)
        steps = recipe.train.epochs * batches
        phases = [(share, self._step_like(of, store)) for share, of in _phases(recipe)]
        seconds = sum(share * steps * step.seconds for share, step in phases)
        return _Run(phases[0][1].network, steps, seconds / 60)

    @property
    def is_guessing(self) -> bool:
        """Whether there were more kinds of step than are timed."""
        return len(self._steps) > len(self.timed)

    def _step_like(self, recipe: AnyRecipe, store: Store) -> _Step:
        settings = {
            key: level is None if key.startswith(_SAME_STEP) else level
            for key, level in settings_of(recipe).items()
        }
        kind = str(settings)
        if kind not in self._steps:
            objective = {key: of for key, of in settings.items() if key.startswith("objective.")}
            self._steps[kind] = self._step_of(recipe, store, str(objective))
        return self._steps[kind]

    def _step_of(self, recipe: AnyRecipe, store: Store, objective: str) -> _Step:
        network = cost_of(module_for(recipe, store, steps=4))
        work = network.gflop * recipe.train.batch
        alike = [step for step in self.timed if step.objective == objective]
        if len(self.timed) < _MOST_TIMINGS or not alike:
            step = _Step(network, work, objective, seconds_per_step(recipe, store))
            self.timed.append(step)
            return step
        near = min(alike, key=lambda of: abs(math.log(of.work / work)))
        return _Step(network, work, objective, near.seconds * work / near.work)


def _phases(recipe: AnyRecipe) -> list[tuple[float, AnyRecipe]]:
    """Shares of the steps, and a recipe whose every step costs what theirs do."""
    late = recipe.objective.importance_from if isinstance(recipe, GenerateRecipe) else 0.0
    if not late:
        return [(1.0, recipe)]
    one_sample = {"objective.importance_samples": 1, "objective.importance_from": 0.0}
    return [(late, with_settings(recipe, one_sample)), (1 - late, recipe)]


def _print_cost(plan: StudyPlan, study: Path, data_root: Path | None, console: Console) -> None:
    table = Table(title=f"{plan.name}: {len(plan.variants)} variants x {len(plan.seeds)} seeds")
    for heading in ("run", "parameters", "GFLOP", "steps", "minutes a run", "to come"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    clock = _Clock(plan.seeds[0], data_root)

    def add_row(name: str, cost: _Run, count: int) -> float:
        network = (f"{cost.network.parameters:,}", f"{cost.network.gflop:.2f}")
        table.add_row(name, *network, f"{cost.steps:,}", f"{cost.minutes:.1f}", str(count))
        return cost.minutes * count

    minutes, minutes_of_seed, is_open = 0.0, 0.0, False
    runs, to_come = planned_runs(plan, study), runs_to_come(plan, study)
    for variant in plan.variants:
        tuning = [run for run in tuning_runs(plan, study) if run.variant == variant]
        tuned = [clock.run_of(run.recipe) for run in tuning]
        for run, cost in zip(tuning, tuned, strict=True):
            setting = ", ".join(f"{key} {level}" for key, level in run.setting.items())
            minutes += add_row(
                f"{variant.name}, tuning {setting}", cost, int(not run.folder.is_finished)
            )
        may_be = [clock.run_of(next(run.recipe for run in runs if run.variant == variant))]
        if any(not run.folder.is_finished for run in tuning):
            may_be, is_open = tuned, True
        cost = max(may_be, key=lambda of: of.minutes)
        minutes += add_row(variant.name, cost, sum(run.variant == variant for run in to_come))
        minutes_of_seed += cost.minutes
    console.print(table)
    most = max((len(plan.seeds), *plan.looks))
    more = minutes + (most - len(plan.seeds)) * minutes_of_seed
    up_to = f", about {more:.1f} if seeds are added up to {most}" if more > minutes else ""
    console.print(f"about {minutes:.1f} minutes of training to come on this machine{up_to}")
    if is_open:
        console.print("what tuning has not chosen yet counts as the dearest of its settings")
    if clock.is_guessing:
        console.print(
            f"{len(clock.timed)} kinds of step were timed, the others told by their GFLOP"
        )
    judge = ", and training the judge once" if plan.recipe.task == "generate" else ""
    console.print(
        "left out: random changes of training images and validation, which add about a tenth; evaluation "
        f"of the test set, once a run{judge}"
    )


def _print_visible(plan: StudyPlan, study: Path, console: Console) -> None:
    """The smallest difference that each factor's and two variants' comparison can find."""
    visible = visible_differences(
        comparisons_of(factor_settings(plan)),
        metrics_of(plan),
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
        f"({POWER:.0%} of the time, {ALPHA:.0%} false alarms in the whole study)"
    )
    for heading in ("comparison", "metric", "smallest difference", "from the scatter of"):
        table.add_column(heading, justify="right" if heading.startswith("smallest") else "left")
    for of in visible:
        unit = "" if of.source else " SD"
        table.add_row(
            of.words, of.metric.title, f"{of.smallest:.2g}{unit}", of.source or "not known"
        )
    console.print(table)
    if any(not of.source for of in visible):
        console.print(
            "SD: standard deviation over seeds of the difference of two variants; run two or three seeds "
            "in a folder of their own, set study.expected_sd by them, and this table has the metric's own unit"
        )
