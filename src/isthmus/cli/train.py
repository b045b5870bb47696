"""isthmus train RECIPE: train one variant with one seed, then write the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.cli.plans import RunOptions, parse_plan, run_plan
from isthmus.errors import UserError, nearest_name
from isthmus.recipe.rules import STRICT
from isthmus.study.plan import StudyPlan, Variant


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainOptions(RunOptions):
    """Train one variant with one seed, then write the report."""

    variant: tyro.conf.DisallowNone[str | None] = None
    """Name of the variant; may be omitted if the recipe has only one variant."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of the run."""


def train(words: Sequence[str]) -> int:
    """Train the run that the command line describes."""
    plan, options = parse_plan("train", words, TrainOptions())
    chosen = (_variant_named(options.variant, plan),)
    plan = dataclasses.replace(plan, variants=chosen, seeds=(options.seed,))
    return run_plan(plan, options, ["train", *words], only=True)


def _variant_named(name: str | None, plan: StudyPlan) -> Variant:
    variants = {variant.name: variant for variant in plan.variants}
    if name is None and len(variants) == 1:
        return plan.variants[0]
    if name is None:
        raise UserError(
            f"this recipe has {len(variants)} variants, and train trains only one: "
            f"name it with --variant ({', '.join(variants)}), or use isthmus study"
        )
    if name not in variants:
        raise UserError(f"--variant {name}: unknown; {nearest_name(name, variants)}")
    return variants[name]
