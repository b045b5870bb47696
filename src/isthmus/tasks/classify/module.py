"""A classifier while it trains; trained, it is the judge of generated images."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.data.store import LabelledStore
from isthmus.engine.task_module import TaskModule
from isthmus.nn.classifier import Judge
from isthmus.tasks.classify.recipe import ClassifyRecipe


class ClassifierModule(TaskModule):
    """A classifier with cross-entropy."""

    chooses = "accuracy"
    direction: ClassVar[Literal["min", "max"]] = "max"

    def __init__(self, network: nn.Module, recipe: ClassifyRecipe, steps: int) -> None:
        super().__init__(network, recipe.train, steps, ClassificationTally)
        self.data = recipe.data

    def step(self, batch: dict[str, Tensor], part: str) -> Tensor:
        """The cross-entropy of one batch."""
        logits = self.network(batch["image"].contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), batch["label"])
        self.tallies[part].add(loss.detach(), logits.detach(), batch["label"])
        return loss

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image."""
        return (torch.zeros(1, self.data.channels, self.data.size_px, self.data.size_px),)


def judge_for(recipe: ClassifyRecipe, num_labels: int) -> Judge:
    """The classifier of a recipe, weights drawn from torch's global generator."""
    return Judge(recipe.data.channels, num_labels, recipe.model.width)


def classifier_for(recipe: ClassifyRecipe, store: LabelledStore, steps: int) -> ClassifierModule:
    """A fresh classifier of the store's labels, with weights from torch's global generator."""
    return ClassifierModule(judge_for(recipe, len(store.class_names)), recipe, steps)


class ClassificationTally:
    """Loss and hits of one epoch."""

    def __init__(self) -> None:
        self.loss_sum = 0.0
        self.right = 0
        self.images = 0

    def add(
        self,
        loss: Float[Tensor, ""],
        logits: Float[Tensor, "batch label"],
        label: Int[Tensor, " batch"],
    ) -> None:
        """Count one batch."""
        self.loss_sum += float(loss) * len(label)
        self.right += int((logits.argmax(dim=1) == label).sum())
        self.images += len(label)

    def numbers(self) -> dict[str, float]:
        """Loss an image, and the share of images that are right."""
        images = max(self.images, 1)
        return {"loss": self.loss_sum / images, "accuracy": self.right / images}
