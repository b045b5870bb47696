"""A network, its loss and its data as Lightning wants them, and what is noted each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L  # noqa: N812 (its own documentation's name)
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Sampler

from isthmus import build
from isthmus.data.pictures import Pictures
from isthmus.recipe import Recipe
from isthmus.runs.folder import RunFolder
from isthmus.runs.seeds import stream, torch_seed
from isthmus.scoring.segmentation import confusion, iou, pixel_accuracy

Watch = Callable[[int, int, str], None]
"""Told after each step: steps done, steps in all, and the last epoch's score in words."""


class Segmenter(L.LightningModule):
    """A network, its loss and its optimiser, as Lightning wants them."""

    def __init__(self, network: nn.Module, recipe: Recipe, num_classes: int, steps: int) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.num_classes = num_classes
        self.steps = steps
        self.loss = build.loss_for(recipe.loss)
        self.tallies: dict[str, Tally] = {}

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with its schedule stepped after every batch."""
        optimiser = build.optimiser_for(self.recipe.train, self.network.parameters())
        schedule = build.schedule_for(self.recipe.train, optimiser, self.steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_epoch_start(self) -> None:
        """Start both tallies of the epoch anew."""
        self.tallies = {part: Tally(self.num_classes) for part in ("train", "validation")}

    def training_step(self, batch: dict[str, Tensor], _batch_idx: int) -> Tensor:
        """The loss of one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], _batch_idx: int) -> None:
        """Tally one batch; the last one makes the score that chooses the epoch."""
        self._step(batch, "validation")

    def on_validation_epoch_end(self) -> None:
        """Tell Lightning the score that chooses the epoch."""
        self.log("validation_mean_iou", self.tallies["validation"].mean_iou)

    def _step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        logits = self.network(image)
        loss = self.loss(logits, batch["mask"])
        self.tallies[part].add(loss.detach(), logits.detach(), batch["mask"])
        return loss


class Tally:
    """Loss and confusion of one epoch, gathered batch by batch."""

    def __init__(self, num_classes: int) -> None:
        self.confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.loss_sum = 0.0
        self.pictures = 0

    def add(
        self,
        loss: Float[Tensor, ""],
        logits: Float[Tensor, "batch class height width"],
        mask: Int[Tensor, "batch height width"],
    ) -> None:
        """Count one batch."""
        self.loss_sum += float(loss) * len(mask)
        self.pictures += len(mask)
        self.confusion += confusion(
            as_u8(mask), as_u8(logits.argmax(dim=1)), len(self.confusion)
        ).sum(axis=0)

    @property
    def loss(self) -> float:
        """Mean over pictures."""
        return self.loss_sum / max(self.pictures, 1)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels."""
        return float(pixel_accuracy(self.confusion))

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur."""
        return float(np.nanmean(iou(self.confusion)))


class EpochOrder(Sampler[int]):
    """A fresh order of the training pictures each epoch, drawn from seed and epoch alone."""

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self.pictures = pictures
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning, also when training goes on from a checkpoint."""
        self.epoch = self.pictures.epoch = epoch

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(stream(self.seed, "order", self.epoch))
        yield from rng.permutation(len(self.pictures)).tolist()


class EpochLines(Callback):
    """Writes a CSV line an epoch, tells the watcher, and seeds dropout for each epoch."""

    def __init__(self, folder: RunFolder, seed: int, watch: Watch) -> None:
        self.folder = folder
        self.seed = seed
        self.watch = watch
        self.words = ""
        self.began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:  # noqa: ARG002
        """Seed what still draws from torch's global generator: dropout."""
        torch.manual_seed(torch_seed(stream(self.seed, "dropout", trainer.current_epoch)))
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Tell the watcher."""
        self.watch(trainer.global_step, int(trainer.estimated_stepping_batches), self.words)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the line; Lightning has validated by now. A loss that is not finite ends the run."""
        assert isinstance(module, Segmenter)
        train, validation = module.tallies["train"], module.tallies["validation"]
        self.words = f"validation mIoU {validation.mean_iou:.3f}"
        self.folder.add_epoch(
            {
                "epoch": float(trainer.current_epoch + 1),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                "train_loss": train.loss,
                "train_pixel_accuracy": train.pixel_accuracy,
                "validation_loss": validation.loss,
                "validation_pixel_accuracy": validation.pixel_accuracy,
                "validation_mean_iou": validation.mean_iou,
                "seconds": time.monotonic() - self.began,
            }
        )
        if not np.isfinite(train.loss):
            trainer.should_stop = True


def as_u8(mask: Int[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Class ids as numpy's uint8, which is what scores are computed from."""
    return mask.to("cpu", torch.uint8).numpy()
