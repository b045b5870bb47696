"""What all tasks share in training: the Lightning module, its optimiser, and means over an epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import lightning as L  # noqa: N812 (its own documentation's name)
import torch
from torch import Tensor, nn

from isthmus.recipe import Train

PARTS = ("train", "validation")
"""The parts of the data on which every epoch is measured."""


class EpochMetrics:
    """Means over the images of one epoch, summed batch by batch."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.images = 0

    def add(self, sums: Mapping[str, float], images: int) -> None:
        """Add the sums over one batch of so many images; "loss" is one of them."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.images += images

    def numbers(self) -> dict[str, float]:
        """The mean of each quantity over the images so far."""
        return {name: value / self.images for name, value in self.sums.items()}


class TaskModule(L.LightningModule):
    """A network with its loss and optimiser; a task adds ``step``.

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
        self.epoch_metrics: dict[str, Any] = {}

    @abstractmethod
    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The loss of one batch, which is also added to ``self.epoch_metrics[part]``."""

    @abstractmethod
    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the network for one image."""

    def new_metrics(self) -> EpochMetrics:
        """An empty accumulator of an epoch's metrics."""
        return EpochMetrics()

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, which is stepped after every batch."""
        optimiser = optimiser_for(self.train_recipe, self.parameters())
        schedule = schedule_for(self.train_recipe, optimiser, self.steps)
        scheduler = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}

    def on_train_epoch_start(self) -> None:
        """Forget the metrics of the epoch before."""
        self.epoch_metrics = {part: self.new_metrics() for part in PARTS}

    def training_step(self, batch: dict[str, Tensor], _batch_idx: int) -> Tensor:
        """The loss of one batch."""
        return self.step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], _batch_idx: int) -> None:
        """Measure one batch of validation images."""
        self.step(batch, "validation")

    def on_validation_epoch_end(self) -> None:
        """Log the metric that selects the epoch, for Lightning's checkpoints."""
        value = self.epoch_metrics["validation"].numbers()[self.selection_metric]
        self.log(f"validation_{self.selection_metric}", value)


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
