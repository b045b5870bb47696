"""Images of a store as torch datasets, with reproducible random changes (augmentation).

The changes of row i in epoch e are drawn from (seed, e, i) alone. They do not depend on the order of
rows, the batch size, the number of workers or the random draws of the network, and drawing them does
not change the state of the global generators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from isthmus.data.store import LabelledStore, MaskedStore
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

Batch = dict[str, Any]
Collate = Callable[[Any], Batch]
Moves = Int[np.ndarray, "n 2"]
Augmentation = Callable[
    [tv_tensors.Image, tv_tensors.Mask], tuple[tv_tensors.Image, tv_tensors.Mask]
]
"""Changes a uint8 image and its mask together; draws from torch's global generator."""

_GREY = 128


def as_float(
    images_u8: UInt8[Tensor, "*n height width channel"],
) -> Float[Tensor, "*n channel height width"]:
    """Images as float32 in [0, 1], channels first.

    >>> as_float(torch.full((1, 1, 3), 255, dtype=torch.uint8)).tolist()
    [[[1.0]], [[1.0]], [[1.0]]]
    """
    return images_u8.movedim(-1, -3).contiguous().to(torch.float32) / 255


class Rows(Dataset[Batch]):
    """Rows of a store, with the seed and epoch of their random changes.

    Args:
        indices: The rows, in the order of the dataset's positions.
        seed: First part of the seed of every draw.
        collate: A function that makes a batch of items; pass it to a ``DataLoader`` as ``collate_fn``.
    """

    def __init__(self, indices: Int[np.ndarray, " n"], seed: int, collate: Collate) -> None:
        self.indices = indices
        self.seed = seed
        self.collate = collate
        # In shared memory, so that persistent workers see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch for which changes are drawn; the training loop sets it before each pass."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.indices)


class MaskedImages(Rows):
    """Rows of a store as ``{"image": float32, "mask": int64, "index": row}``.

    Args:
        store: The images and masks.
        indices: The rows, in the order of the dataset's positions.
        augmentation: Random changes. If None, images are not changed.
        seed: First part of the seed of every draw.
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

    def __getitem__(self, position: int) -> Batch:
        row = int(self.indices[position])
        # Copies, because torch warns about read-only arrays.
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
            # torch.manual_seed would also seed the GPUs, which the fork does not restore.
            torch.default_generator.manual_seed(int(words[0]))
            changed, changed_mask = augmentation(channels_first, tv_tensors.Mask(mask))
        return changed.as_subclass(Tensor).movedim(-3, -1), changed_mask.as_subclass(Tensor)


def augmentation(
    flip: float, rotate_deg: float, scale: float, shift: float, colour: float
) -> Augmentation:
    """Random changes of an image and its mask: colour, flip, one affine map; identity if all are 0.

    The affine map interpolates images bilinearly and masks by nearest neighbour. Corners without
    content become grey in the image and ``IGNORE_INDEX`` in the mask, so that losses ignore them.

    Args:
        flip: Probability of a left-right flip.
        rotate_deg: Largest rotation in degrees, either way.
        scale: Largest relative change of size, either way.
        shift: Largest shift, as a fraction of the height and width.
        colour: Largest relative change of brightness, contrast and saturation; never of hue.
    """
    steps: list[v2.Transform] = []
    if colour:
        steps.append(v2.ColorJitter(brightness=colour, contrast=colour, saturation=colour))
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if rotate_deg or scale or shift:
        steps.append(
            v2.RandomAffine(
                degrees=rotate_deg,
                translate=(shift, shift),
                scale=(1 - scale, 1 + scale),
                interpolation=InterpolationMode.BILINEAR,
                fill={tv_tensors.Image: _GREY, tv_tensors.Mask: IGNORE_INDEX},
            )
        )
    chain: Augmentation = v2.Compose(steps) if steps else v2.Identity()
    return chain


class LabelledImages(Rows):
    """Rows of a store as ``{"image": float32, "label": int64, "index": row}``.

    A ``DataLoader`` reads a complete batch in one call::

        DataLoader(images, batch_size=256, shuffle=True, collate_fn=images.collate)

    Args:
        store: The images and labels.
        indices: The rows, in the order of the dataset's positions.
        flip: Probability of a left-right flip.
        shift_px: Largest shift in whole pixels along both axes, either way; all shifts are equally
            likely, and the edge is repeated.
        seed: First part of the seed of every draw.

    Raises:
        UserError: If ``flip`` or ``shift_px`` is out of range.
    """

    def __init__(
        self,
        store: LabelledStore,
        indices: Int[np.ndarray, " n"],
        flip: float,
        shift_px: int,
        seed: int,
    ) -> None:
        super().__init__(indices, seed, complete_batch)
        if not 0 <= flip <= 1:
            raise UserError(f"flip = {flip}: a probability lies in [0, 1]; 0 is off")
        if shift_px < 0:
            raise UserError(f"shift_px = {shift_px}: a shift is 0 or more; 0 is off")
        self.store = store
        self.flip = flip
        self.shift_px = shift_px

    def __getitem__(self, position: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([position]).items()}

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """The batch of these positions, in their order."""
        rows = self.indices[np.asarray(positions)]
        images = self._changed(np.take(self.store.images, rows, axis=0), rows)
        return {
            "image": as_float(torch.from_numpy(images)),
            "label": torch.from_numpy(self.store.labels[rows]),
            "index": torch.from_numpy(rows.astype(np.int64)),
        }

    def _changed(
        self,
        images: UInt8[np.ndarray, "n height width channel"],
        rows: Int[np.ndarray, " n"],
    ) -> UInt8[np.ndarray, "n height width channel"]:
        is_flipped, moves_px = _changes(
            self.seed, self.epoch, len(self.store.names), self.flip, self.shift_px
        )
        if self.flip:
            images = flipped(images, is_flipped[rows])
        if self.shift_px:
            images = shifted(images, moves_px[rows], self.shift_px)
        return images


def complete_batch(batch: Batch) -> Batch:
    """The batch itself, because ``__getitems__`` has already assembled it."""
    return batch


@functools.lru_cache(maxsize=4)
def _changes(
    seed: int, epoch: int, count: int, flip: float, shift_px: int
) -> tuple[Bool[np.ndarray, " n"], Moves]:
    """Whether each row of a store is flipped, and its shift down and right."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    # One row of numbers per image, so that the draw of an image does not depend on their number.
    uniform = rng.random((count, 3))
    moves_px = np.floor(uniform[:, 1:] * (2 * shift_px + 1)).astype(np.int64) - shift_px
    return uniform[:, 0] < flip, moves_px


def flipped(
    images: UInt8[np.ndarray, "n height width channel"], is_flipped: Bool[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n height width channel"]:
    """The images, some of them mirrored left to right."""
    changed = images.copy()
    changed[is_flipped] = images[is_flipped, :, ::-1]
    return changed


def shifted(
    images: UInt8[np.ndarray, "n height width channel"], moves_px: Moves, most_px: int
) -> UInt8[np.ndarray, "n height width channel"]:
    """Each image shifted down and right by its own whole pixels, at most ``most_px`` either way.

    The edge is repeated.
    """
    _, height, width, _ = images.shape
    around = ((0, 0), (most_px, most_px), (most_px, most_px), (0, 0))
    padded = np.pad(images, around, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = (most_px - moves_px).T
    channels_first = windows[np.arange(len(images)), top, left]
    return np.moveaxis(channels_first, 1, -1)
