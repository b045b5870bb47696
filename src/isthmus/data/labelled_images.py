"""Labelled images of a store as a torch data set that is read a whole batch at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8

from isthmus.data.rows import Rows
from isthmus.data.store import LabelledStore, as_float
from isthmus.errors import UserError

Batch = dict[str, Any]
Moves = Int[np.ndarray, "n 2"]


def batch_as_it_is(batch: Batch) -> Batch:
    """The batch, which ``__getitems__`` has made already: the ``collate_fn`` of a ``DataLoader``."""
    return batch


class LabelledImages(Rows):
    """Some rows of a store, as ``{"image": float32, "label": int64, "index": row}``.

    A ``DataLoader`` reads a batch in one call and takes it as it is::

        DataLoader(images, batch_size=256, shuffle=True, collate_fn=images.collate)

    What happens to row i in epoch e is drawn from (seed, e, i) alone: neither order, nor batch,
    nor the number of workers, nor what the network draws can change it, and drawing it changes
    nothing outside.

    Args:
        store: The images.
        indices: The rows that belong to this set, in the order of its positions.
        flip: Probability of a left-right flip.
        shift_px: Move by up to so many whole pixels either way along both axes, each move
            equally likely; what comes into sight repeats the edge.
        seed: First part of every draw's seed.

    Raises:
        UserError: If ``flip`` or ``shift_px`` is out of its range.
    """

    def __init__(
        self,
        store: LabelledStore,
        indices: Int[np.ndarray, " n"],
        flip: float,
        shift_px: int,
        seed: int,
    ) -> None:
        super().__init__(indices, seed, batch_as_it_is)
        if not 0 <= flip <= 1:
            raise UserError(f"flip = {flip}: a probability lies in [0, 1]; 0 is off")
        if shift_px < 0:
            raise UserError(f"shift_px = {shift_px}: must be 0 or more; 0 is off")
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


@functools.lru_cache(maxsize=4)
def _changes(
    seed: int, epoch: int, count: int, flip: float, shift_px: int
) -> tuple[Bool[np.ndarray, " n"], Moves]:
    """Whether each row of a store is flipped, and how far it moves down and right."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    # Row after row, so that a row's draw does not depend on how many there are.
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
    """Each image moved down and right by its own whole pixels, at most ``most_px`` either way.

    What comes into sight repeats the edge.
    """
    _, height, width, _ = images.shape
    around = ((0, 0), (most_px, most_px), (most_px, most_px), (0, 0))
    padded = np.pad(images, around, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = (most_px - moves_px).T
    channels_first = windows[np.arange(len(images)), top, left]
    return np.moveaxis(channels_first, 1, -1)
