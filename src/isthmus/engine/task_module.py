"""What all tasks share in training: the module with its loss and sums, its optimiser and schedule."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from isthmus.data.batches import Batch
from isthmus.recipe import Train

PARTS = ("train", "validation")
"""The parts of the data on which every epoch is measured."""

Part = Literal["train", "validation"]
Sums = dict[str, Tensor]
"""Quantity -> its sum over the images of a batch, on the batch's device; "loss" is one of them."""


class TaskModule(nn.Module):
    """A network with its loss; a task adds ``forward``.

    Args:
        network: What is trained and saved.
        train: The recipe's table.
        steps: Training steps of the whole run, for schedules.
    """

    selection_metric: str
    """The metric on validation images by which the epoch is selected."""
    direction: ClassVar[Literal["min", "max"]] = "max"
    """Whether the smallest or the largest value of that metric is best."""

    def __init__(self, network: nn.Module, train: Train, steps: int) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.train_recipe = train
        self.steps = steps
        self.steps_done = steps
        """Training steps before this one, for schedules; the training loop counts them."""

    @abstractmethod
    def forward(self, batch: Batch, part: Part) -> tuple[Tensor, Sums]:
        """The mean loss of a batch, and sums over its images; does not wait for the device."""

    @abstractmethod
    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the network for one image."""

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value of the selection metric is better than the best so far; any is than NaN."""
        return math.isnan(best) or (value > best if self.direction == "max" else value < best)

    def metrics(self, sums: Sums, images: int) -> dict[str, float]:
        """The metrics of an epoch from its sums: by default the mean of each over the images."""
        names, values = tuple(sums), torch.stack([of.double() for of in sums.values()])
        return dict(zip(names, (values / images).tolist(), strict=True))


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
    warmup = max(train.warmup * steps, 2)  # with fewer steps OneCycleLR would divide by zero
    if train.schedule == "constant" or steps <= warmup:
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=train.lr,
        total_steps=steps,
        pct_start=warmup / steps,
        cycle_momentum=train.optimiser == "adamw",
    )
