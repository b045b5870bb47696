"""The split of a store, and batches of its rows: shuffled and augmented, or in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Sampler

from isthmus.data.batches import Rows
from isthmus.data.splits import Split, split_of
from isthmus.data.store import Store
from isthmus.engine.seeds import numpy_draws, torch_seed
from isthmus.engine.task import task_of
from isthmus.recipe import Recipe


class EpochOrder(Sampler[int]):
    """A new order of the training images for each epoch, drawn from seed and epoch alone."""

    def __init__(self, images: Rows, seed: int) -> None:
        self.images = images
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of order and augmentation; called by Lightning, also after a resume."""
        self.epoch = self.images.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[int]:
        rng = numpy_draws(self.seed, "order", self.epoch)
        yield from rng.permutation(len(self.images)).tolist()


def split_for(recipe: Recipe, store: Store, seed: int) -> Split:
    """The rows of training, validation and test; the test rows are the same for every seed."""
    data = recipe.data
    validation = data.validation if data.has_validation else None
    return split_of(store, validation, data.limit, numpy_draws(seed, "split"))


def training_batches(
    recipe: Recipe, store: Store, rows: Int[np.ndarray, " n"], seed: int
) -> DataLoader[Any]:
    """Shuffled, augmented batches of these rows.

    A last batch of a single image is left out, because batch norm cannot train on one image.
    """
    augmentation = torch_seed(seed, "augmentation")
    images = task_of(recipe).training_rows(recipe, store, rows, augmentation)
    return DataLoader(
        images,
        recipe.train.batch,
        sampler=EpochOrder(images, seed),
        collate_fn=images.collate,
        drop_last=leaves_one_over(len(images), recipe.train.batch),
        generator=torch.Generator(),  # the default is the global generator, which dropout uses
    )


def batches_in_order(recipe: Recipe, store: Store, rows: Int[np.ndarray, " n"]) -> DataLoader[Any]:
    """Batches of these rows in order, without augmentation."""
    images = task_of(recipe).plain_rows(store, rows)
    return DataLoader(images, recipe.train.batch, collate_fn=images.collate)


def leaves_one_over(images: int, batch: int) -> bool:
    """Whether the last batch of an epoch would be a single image, and not the only batch.

    >>> leaves_one_over(17, 8), leaves_one_over(1, 8)
    (True, False)
    """
    return images > batch and images % batch == 1
