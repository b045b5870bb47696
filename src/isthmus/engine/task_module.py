"""What all tasks share while they train: optimiser, tallies, order of images, a line an epoch."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import lightning as L  # noqa: N812 (its own documentation's name)
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from isthmus.engine.optimiser import optimiser_for, schedule_for
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.seeds import stream, torch_seed
from isthmus.metrics.metric import in_words
from isthmus.recipe import Train

PARTS = ("train", "validation")
"""What every epoch is tallied on."""

ProgressCallback = Callable[[int, int, str], None]
"""Told after each step: steps done, steps in all, and the last epoch's metric in words."""


class Tally(Protocol):
    """Numbers of one epoch, gathered batch by batch."""

    def numbers(self) -> dict[str, float]:
        """Means over the epoch; "loss" is one of them."""


class TaskModule(L.LightningModule):
    """A network with its loss and optimiser, as Lightning wants them; a task adds ``step``.

    Args:
        network: What is trained and saved.
        train: The recipe's table.
        steps: Steps of the whole run, for the schedule.
        new_tally: Makes an empty tally.
    """

    chooses: str
    """The number of the validation tally by which the epoch is chosen."""
    direction: ClassVar[Literal["min", "max"]]
    """Whether a good epoch has little or much of it."""

    def __init__(
        self, network: nn.Module, train: Train, steps: int, new_tally: Callable[[], Tally]
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.train_recipe = train
        self.steps = steps
        self.new_tally = new_tally
        self.tallies: dict[str, Any] = {}

    @abstractmethod
    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The loss of one batch, which is also counted in ``self.tallies[part]``."""

    @abstractmethod
    def example_inputs(self) -> tuple[Tensor, ...]:
        """What the network takes for one image."""

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with its schedule stepped after every batch."""
        optimiser = optimiser_for(self.train_recipe, self.parameters())
        schedule = schedule_for(self.train_recipe, optimiser, self.steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_epoch_start(self) -> None:
        """Start both tallies of the epoch anew."""
        self.tallies = {part: self.new_tally() for part in PARTS}

    def training_step(self, batch: dict[str, Tensor], _batch_idx: int) -> Tensor:
        """The loss of one batch."""
        return self.step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], _batch_idx: int) -> None:
        """Tally one batch; the last one makes the metric that chooses the epoch."""
        self.step(batch, "validation")

    def on_validation_epoch_end(self) -> None:
        """Tell Lightning the metric that chooses the epoch."""
        self.log(f"validation_{self.chooses}", self.tallies["validation"].numbers()[self.chooses])


class EpochLines(Callback):
    """Writes a CSV line an epoch, tells the watcher, and seeds what the network draws."""

    def __init__(self, folder: RunFolder, seed: int, on_progress: ProgressCallback) -> None:
        self.folder = folder
        self.seed = seed
        self.on_progress = on_progress
        self.words = ""
        self.began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:  # noqa: ARG002
        """Seed what draws from torch's global generator: dropout, and noise in latent and image."""
        torch.manual_seed(torch_seed(stream(self.seed, "dropout", trainer.current_epoch)))
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Tell the watcher."""
        self.on_progress(trainer.global_step, int(trainer.estimated_stepping_batches), self.words)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the line; Lightning has validated by now. A loss that is not finite ends the run."""
        assert isinstance(module, TaskModule)
        numbers = {part: tally.numbers() for part, tally in module.tallies.items()}
        self.words = (
            f"validation {in_words(module.chooses)} {numbers['validation'][module.chooses]:.3f}"
        )
        self.folder.add_epoch(
            {
                "epoch": float(trainer.current_epoch + 1),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **{f"{part}_{name}": v for part, of in numbers.items() for name, v in of.items()},
                "seconds": time.monotonic() - self.began,
            }
        )
        if not np.isfinite(numbers["train"]["loss"]):
            trainer.should_stop = True
