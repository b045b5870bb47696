"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from isthmus.recipe import Train


def optimiser_for(train: Train, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimiser over these weights."""
    if train.optimiser == "rmsprop":
        return torch.optim.RMSprop(
            weights, lr=train.lr, weight_decay=train.weight_decay, momentum=train.momentum or 0.0
        )
    return torch.optim.AdamW(weights, lr=train.lr, weight_decay=train.weight_decay, fused=True)


def schedule_for(
    train: Train, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's learning-rate schedule over all ``steps`` of a run."""
    climbing = max(train.warmup * steps, 2)  # torch divides by the steps between its two ends
    if train.schedule == "constant" or steps <= climbing:
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=train.lr,
        total_steps=steps,
        pct_start=climbing / steps,
        cycle_momentum=train.optimiser == "adamw",
    )
