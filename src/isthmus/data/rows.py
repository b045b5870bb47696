"""Rows of a store as a torch data set whose random changes follow a seed and an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Dataset

Collate = Callable[[Any], dict[str, Any]]


class Rows(Dataset[dict[str, Any]]):
    """Which rows, and the seed and epoch that decide every random change of them.

    Args:
        indices: The rows that belong to this set, in the order of its positions.
        seed: First part of every draw's seed.
        collate: Makes one batch of what the set gives; a ``DataLoader`` needs it as ``collate_fn``.
    """

    def __init__(self, indices: Int[np.ndarray, " n"], seed: int, collate: Collate) -> None:
        self.indices = indices
        self.seed = seed
        self.collate = collate
        # In shared memory, so that workers which outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch whose changes are drawn; the training loop sets it before each pass."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.indices)
