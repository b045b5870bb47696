"""The split of a store for one seed, and batches of its rows: shuffled and augmented, or in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.batches import Augmentation, Batch, Batches
from isthmus.data.splits import Split, split_of
from isthmus.data.store import Store
from isthmus.engine.seeds import numpy_draws, torch_seed
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe


def split_for(recipe: Recipe, store: Store, seed: int) -> Split:
    """The rows of training, validation and test; the test rows are the same for every seed."""
    data = recipe.data
    validation = data.validation if data.has_validation else None
    return split_of(store, validation, data.limit, numpy_draws(seed, "split"))


class TrainingBatches:
    """Shuffled, augmented batches of some rows, in an order that depends on seed and epoch alone.

    A last batch of a single image is left out, because batch norm cannot train on one image.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        rows: Int[np.ndarray, " n"],
        seed: int,
        device: torch.device,
    ) -> None:
        change = task_of(recipe).augmentation(recipe)
        self.seed = seed
        self.size = recipe.train.batch
        self.images = len(rows)
        augmentation = change and Augmentation(
            torch_seed(seed, "augmentation"), len(store.names), change
        )
        self.batches = Batches(store.columns, rows, device, augmentation)

    def __len__(self) -> int:
        return steps_per_epoch(self.images, self.size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, which is counted from 0."""
        order = numpy_draws(self.seed, "order", epoch).permutation(self.images)
        return self.batches(self.size, order[: len(self) * self.size], epoch)


def steps_per_epoch(images: int, batch: int) -> int:
    """Training steps per epoch: the last batch may be smaller, but is left out if it is one image.

    >>> steps_per_epoch(17, 8), steps_per_epoch(18, 8), steps_per_epoch(1, 8), steps_per_epoch(1, 1)
    (2, 3, 1, 1)
    """
    complete, left = divmod(images, batch)
    return complete + (left > 1 or left == images)
