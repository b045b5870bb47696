"""A segmentation network while it trains: its loss, and what is counted in an epoch."""

from __future__ import annotations

import functools
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from isthmus.engine.task_module import TaskModule
from isthmus.losses import loss_named
from isthmus.metrics.segmentation import confusion, iou, pixel_accuracy
from isthmus.nn.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS, PartMaker
from isthmus.nn.unet import UNet
from isthmus.tasks.segment.recipe import Model, SegmentRecipe


class Segmenter(TaskModule):
    """A network that gives every pixel a class, with the recipe's loss."""

    chooses = "mean_iou"
    direction: ClassVar[Literal["min", "max"]] = "max"

    def __init__(
        self, network: nn.Module, recipe: SegmentRecipe, num_classes: int, steps: int
    ) -> None:
        super().__init__(
            network, recipe.train, steps, functools.partial(SegmentationTally, num_classes)
        )
        self.size_px = recipe.data.size_px
        self.loss = loss_named(recipe.loss.name, **recipe.loss.options)

    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The recipe's loss of one batch."""
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        logits = self.network(image)
        loss: Tensor = self.loss(logits, batch["mask"])
        self.tallies[part].add(loss.detach(), logits.detach(), batch["mask"])
        return loss

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image."""
        return (torch.zeros(1, 3, self.size_px, self.size_px),)


class SegmentationTally:
    """Loss and confusion of one epoch, gathered batch by batch."""

    def __init__(self, num_classes: int) -> None:
        self.confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.loss_sum = 0.0
        self.images = 0

    def add(
        self,
        loss: Float[Tensor, ""],
        logits: Float[Tensor, "batch class height width"],
        mask: Int[Tensor, "batch height width"],
    ) -> None:
        """Count one batch."""
        self.loss_sum += float(loss) * len(mask)
        self.images += len(mask)
        self.confusion += confusion(
            as_u8(mask), as_u8(logits.argmax(dim=1)), len(self.confusion)
        ).sum(axis=0)

    def numbers(self) -> dict[str, float]:
        """Loss an image, share of pixels that are right, mean IoU of the classes that occur."""
        return {
            "loss": self.loss_sum / max(self.images, 1),
            "pixel_accuracy": float(pixel_accuracy(self.confusion)),
            "mean_iou": float(np.nanmean(iou(self.confusion))),
        }


def as_u8(mask: Int[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Class ids as numpy's uint8, which is what metrics are computed from."""
    return mask.to("cpu", torch.uint8).numpy()


def unet_for(model: Model, channels_in: int, num_classes: int) -> UNet:
    """The U-Net of a recipe, weights drawn from torch's global generator."""
    return UNet(
        channels_in=channels_in,
        num_classes=num_classes,
        width=model.width,
        depth=model.depth,
        down=DOWN_SAMPLERS[model.down],
        up=UP_SAMPLERS[model.up],
        make=PartMaker(
            norm=NORMS[model.norm],
            dropout=functools.partial(DROPOUTS[model.dropout], model.dropout_rate),
        ),
    )


def segmenter_for(recipe: SegmentRecipe, num_classes: int, steps: int) -> Segmenter:
    """A fresh U-Net for colour images with the recipe's loss."""
    return Segmenter(unet_for(recipe.model, 3, num_classes), recipe, num_classes, steps)
