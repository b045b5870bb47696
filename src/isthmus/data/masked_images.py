"""Images of a store as a torch data set, each with its own reproducible augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import tv_tensors

from isthmus.data.augment import Augmentation
from isthmus.data.rows import Rows
from isthmus.data.store import MaskedStore, as_float


class MaskedImages(Rows):
    """Some rows of a store, as ``{"image": float32, "mask": int64, "index": row}``.

    The augmentation of row i in epoch e is drawn from (seed, e, i) alone: neither the order,
    nor the number of workers, nor what the network draws can change it, and drawing it
    changes nothing outside.

    Args:
        store: The images.
        indices: The rows that belong to this set, in the order of its positions.
        augmentation: Random changes; None leaves the images as they are.
        seed: First part of every draw's seed.
    """

    def __init__(
        self,
        store: MaskedStore,
        indices: Int[np.ndarray, " n"],
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        super().__init__(indices, seed, default_collate)
        self.store = store
        self.augmentation = augmentation

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = int(self.indices[position])
        # Copies, because torch does not take arrays that it must not write to.
        image = torch.from_numpy(np.array(self.store.images[row]))
        mask = torch.from_numpy(np.array(self.store.masks[row]))
        if self.augmentation is not None:
            image, mask = self._augmented(self.augmentation, image, mask, row)
        return {"image": as_float(image), "mask": mask.to(torch.int64), "index": row}

    def _augmented(
        self, augmentation: Augmentation, image: Tensor, mask: Tensor, row: int
    ) -> tuple[Tensor, Tensor]:
        words = np.random.SeedSequence([self.seed, self.epoch, row]).generate_state(1, np.uint64)
        channels_first = tv_tensors.Image(image.movedim(-1, -3).contiguous())
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: it would reseed the GPUs too, which the fork does not restore.
            torch.default_generator.manual_seed(int(words[0]))
            changed, changed_mask = augmentation(channels_first, tv_tensors.Mask(mask))
        return changed.as_subclass(Tensor).movedim(-3, -1), changed_mask.as_subclass(Tensor)
