"""A segmentation network in training: its loss and its metrics over an epoch."""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from isthmus.engine.task_module import EpochMetrics, TaskModule
from isthmus.losses import loss_named
from isthmus.metrics.segmentation import confusion, iou, pixel_accuracy
from isthmus.nn.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS, PartMaker
from isthmus.nn.unet import UNet
from isthmus.tasks.segment.recipe import Model, SegmentRecipe


class Segmenter(TaskModule):
    """A network that assigns a class to every pixel, with the recipe's loss."""

    selection_metric = "mean_iou"

    def __init__(
        self, network: nn.Module, recipe: SegmentRecipe, num_classes: int, steps: int
    ) -> None:
        super().__init__(network, recipe.train, steps)
        self.num_classes = num_classes
        self.size_px = recipe.data.size_px
        self.loss = loss_named(recipe.loss.name, **recipe.loss.options)

    def new_metrics(self) -> EpochMetrics:
        """Mean loss, and metrics of the confusion matrix."""
        return SegmentationMetrics(self.num_classes)

    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The recipe's loss of one batch."""
        image, mask = batch["image"], batch["mask"]
        logits = self.network(image.contiguous(memory_format=torch.channels_last))
        loss: Tensor = self.loss(logits, mask)
        metrics = self.epoch_metrics[part]
        metrics.add({"loss": float(loss.detach()) * len(mask)}, len(mask))
        predicted = as_u8(logits.detach().argmax(dim=1))
        metrics.confusion += confusion(as_u8(mask), predicted, self.num_classes).sum(axis=0)
        return loss

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image."""
        return (torch.zeros(1, 3, self.size_px, self.size_px),)


class SegmentationMetrics(EpochMetrics):
    """Mean loss of one epoch, and metrics of its confusion matrix."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.confusion = np.zeros((num_classes, num_classes), dtype=np.int64)

    def numbers(self) -> dict[str, float]:
        """Loss, pixel accuracy, and mean IoU over the classes in the true or predicted masks."""
        return {
            **super().numbers(),
            "pixel_accuracy": float(pixel_accuracy(self.confusion)),
            "mean_iou": float(np.nanmean(iou(self.confusion))),
        }


def as_u8(mask: Int[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Class ids as a uint8 array."""
    return mask.to("cpu", torch.uint8).numpy()


def unet_for(model: Model, channels_in: int, num_classes: int) -> UNet:
    """The U-Net of a recipe, initialised at random by torch's global generator."""
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
