"""Learning curves as numbers: a panel for every variant and quantity, a line for every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from isthmus.study.folder import StudyFolder

PARTS = ("train", "validation")
"""What a curve is measured on, as columns of metrics.csv begin."""

PART_WORDS = {"train": "training", "validation": "validation"}


@dataclass(frozen=True)
class Line:
    """One run's values by epoch, measured on one part."""

    part: str
    seed: int
    is_failed: bool
    values: pd.Series


@dataclass(frozen=True)
class Panel:
    """One quantity of one variant; ``loss`` tells its loss from those it does not compare with."""

    variant: str
    quantity: str
    loss: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def scale(self) -> tuple[str, ...]:
        """Panels that say the same here share their height."""
        return (self.quantity, *self.loss)

    @property
    def loss_words(self) -> str:
        """The loss that its own values belong to; empty where all share one."""
        return ", ".join(value for value in self.loss if value not in ("", "none"))

    @cached_property
    def sound(self) -> dict[str, pd.DataFrame]:
        """Part -> the runs that did not fail, a row an epoch, a column a seed."""
        return {
            part: pd.DataFrame({line.seed: line.values for line in lines})
            for part in PARTS
            if (lines := [x for x in self.lines if x.part == part and not x.is_failed])
        }


def panels(study: StudyFolder) -> tuple[Panel, ...]:
    """Loss, then the study's curve, of every variant; none if no run wrote its epochs."""
    if study.epochs.empty:
        return ()
    return tuple(
        Panel(variant, quantity, own, tuple(_lines(study, variant, quantity)))
        for variant in study.record.variants
        for quantity in ("loss", study.record.curve)
        for own in [_loss_of(study, variant) if quantity == "loss" else ()]
    )


def _lines(study: StudyFolder, variant: str, quantity: str) -> Iterator[Line]:
    of_variant = study.epochs[study.epochs["variant"] == variant]
    runs = study.runs[study.runs["variant"] == variant]
    failed = set(runs.loc[runs["status"] == "failed", "seed"])
    for part in PARTS:
        column = f"{part}_{quantity}"
        if column not in of_variant:
            continue
        by_seed = of_variant.pivot_table(index="epoch", columns="seed", values=column)
        by_seed = by_seed.where(np.isfinite(by_seed))
        for seed in by_seed.columns:
            yield Line(part, int(seed), seed in failed, by_seed[seed])


def _loss_of(study: StudyFolder, variant: str) -> tuple[str, ...]:
    """What tells this variant's loss from others; nothing if all minimise the same one."""
    if not study.record.loss_differs:
        return ()
    return study.settings_of(variant, f"{study.record.loss_table}.") or (variant,)
