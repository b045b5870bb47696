"""A classifier in training; the trained classifier can be the judge of generated images."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from torch import Tensor, nn

from isthmus.data.batches import Batch
from isthmus.engine.task_module import Part, Sums, TaskModule
from isthmus.nn.classifier import Judge
from isthmus.tasks.classify.recipe import ClassifyRecipe


class ClassifierModule(TaskModule):
    """A classifier with cross-entropy."""

    selection_metric = "accuracy"

    def __init__(self, network: nn.Module, recipe: ClassifyRecipe, steps: int) -> None:
        super().__init__(network, recipe.train, steps)
        self.data = recipe.data

    def forward(self, batch: Batch, part: Part) -> tuple[Tensor, Sums]:  # noqa: ARG002
        """The cross-entropy of one batch."""
        label = batch["label"]
        logits = self.network(batch["image"].contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), label)
        correct = (logits.argmax(dim=1) == label).sum()
        return loss, {"loss": loss.detach() * len(label), "accuracy": correct}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """One image."""
        return (torch.zeros(1, self.data.channels, self.data.size_px, self.data.size_px),)


def judge_for(recipe: ClassifyRecipe, num_labels: int) -> Judge:
    """The classifier of a recipe, initialised at random by torch's global generator."""
    return Judge(recipe.data.channels, num_labels, recipe.model.width)
