"""A segmentation network in training: its loss and its metrics over an epoch."""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Int, Int64, Integer, UInt8
from torch import Tensor, nn

from isthmus.data.batches import Batch
from isthmus.engine.task_module import Part, Sums, TaskModule
from isthmus.losses import loss_named
from isthmus.metrics.segmentation import iou, pixel_accuracy
from isthmus.nn.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS, PartMaker
from isthmus.nn.unet import UNet
from isthmus.recipe import IGNORE_INDEX
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

    def forward(self, batch: Batch, part: Part) -> tuple[Tensor, Sums]:  # noqa: ARG002
        """The recipe's loss of one batch, and its confusion matrix."""
        image, mask = batch["image"], batch["mask"].long()
        logits = self.network(image.contiguous(memory_format=torch.channels_last))
        loss: Tensor = self.loss(logits, mask)
        counts = confusion_of(mask, logits.detach().argmax(dim=1), self.num_classes).sum(dim=0)
        return loss, {"loss": loss.detach() * len(mask), "confusion": counts}

    def metrics(self, sums: Sums, images: int) -> dict[str, float]:
        """Mean loss, pixel accuracy, and mean IoU over the classes in the true or predicted masks."""
        counts = sums["confusion"].cpu().numpy()
        return {
            "loss": float(sums["loss"]) / images,
            "pixel_accuracy": float(pixel_accuracy(counts)),
            "mean_iou": float(np.nanmean(iou(counts))),
        }

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image."""
        return (torch.zeros(1, 3, self.size_px, self.size_px),)


def confusion_of(
    truth: Integer[Tensor, "image height width"],
    predicted: Int[Tensor, "image height width"],
    num_classes: int,
) -> Int64[Tensor, "image class class"]:
    """Confusion matrix of each image: pixels by true class (rows) and predicted class (columns).

    Pixels whose truth is ``IGNORE_INDEX`` are not counted. Does not wait for the device.

    >>> confusion_of(torch.tensor([[[0, 1, 255]]], dtype=torch.uint8), torch.tensor([[[1, 1, 0]]]), 2)
    tensor([[[0, 1],
             [0, 1]]])
    """
    images, cells = len(truth), num_classes**2
    cell = torch.where(truth == IGNORE_INDEX, cells, truth.long() * num_classes + predicted)
    first = torch.arange(images, device=truth.device)[:, None, None] * (cells + 1)
    counts = torch.zeros(images * (cells + 1), dtype=torch.int64, device=truth.device)
    flat = (cell + first).flatten()
    counts.scatter_add_(0, flat, torch.ones_like(flat))
    return counts.view(images, -1)[:, :cells].view(images, num_classes, num_classes)


def as_u8(mask: Integer[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
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
