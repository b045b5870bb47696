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


def print_forecast(plan: StudyPlan, data_root: Path | None) -> None:
    """Print a table of variants with steps, parameters and estimated minutes, and the total.

    The estimate is the median of three training steps times the number of steps. It leaves out
    augmentation and validation, which add about a tenth, scoring, and the judge of a VAE's pictures.
    """
    console = Console()
    table = Table(title=f"{plan.name}: {len(plan.variants)} variants x {len(plan.seeds)} seeds")
    for heading in ("variant", "parameters", "GFLOP", "steps", "minutes a run"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    minutes_all = 0.0
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
        minutes_all += minutes * len(plan.seeds)
    console.print(table)
    console.print(
        f"about {minutes_all:.0f} minutes of training in all on this machine\n"
        "scoring comes on top; nothing was trained"
    )
