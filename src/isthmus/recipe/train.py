"""How a network is trained: the table that all recipes share."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from isthmus.recipe.rules import STRICT, AboveZero, AtLeastZero, Fraction, Positive, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """How long and how the network is trained."""

    epochs: Positive = 40
    """Passes over the training images."""
    batch: Positive = 16
    """Images per step."""
    optimiser: Literal["adamw", "rmsprop"] = "adamw"
    """Optimiser; rmsprop is the reference study's."""
    lr: AboveZero = 2e-3
    """Learning rate; the peak, where the schedule is one-cycle."""
    weight_decay: AtLeastZero = 1e-2
    """Weight decay."""
    momentum: Fraction | None = None
    """For rmsprop: momentum."""
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """Learning-rate schedule over all steps; one-cycle moves the first beta of adamw too, from .95 down to
    .85 and back."""
    warmup: Share = 0.1
    """For one-cycle: share of the steps in which the learning rate climbs to its peak."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 autocast where the processor has it, else float32; the run writes down which."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are evaluated: the best by the validation metric, or the last."""

    def __post_init__(self) -> None:
        """Reject momentum where nothing reads it."""
        if self.momentum is not None and self.optimiser != "rmsprop":
            raise ValueError(
                f"train.momentum does nothing for {self.optimiser}: only rmsprop can read it; "
                "take the key out"
            )
