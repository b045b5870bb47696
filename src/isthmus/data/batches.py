"""Batches of a store's rows on a device: uint8 until they are there, then augmented and float32.

The augmentation of row i in epoch e depends on (seed, e, i) alone, not on the order of the rows, the
batch size or the device: each epoch has one table of uniform numbers with a line per row of the store.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the conventional alias)
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8
from torch import Tensor

from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

Batch = dict[str, Tensor]
"""Column of the store -> its values; "image" is float32 [n, channel, height, width] in [0, 1]."""

Change = Callable[[Batch, Tensor], Batch]
"""(batch, uniform numbers [n, ``DRAWS``]) -> changed batch."""
DRAWS = 8
"""Uniform numbers per row and epoch; a change may use fewer."""

_RESIDENT_SHARE = 0.5
"""Rows are copied to a GPU once if they take at most this fraction of its free memory."""
_GREY = 128 / 255
_LUMA = (0.2989, 0.587, 0.114)


def as_float(
    images_u8: UInt8[Tensor, "*n height width channel"],
) -> Float[Tensor, "*n channel height width"]:
    """Images as float32 in [0, 1] with the channel axis before height; not copied into another order.

    >>> as_float(torch.full((1, 1, 3), 255, dtype=torch.uint8)).tolist()
    [[[1.0]], [[1.0]], [[1.0]]]
    """
    return images_u8.movedim(-1, -3).to(torch.float32).div_(255)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a batch."""

    seed: int
    """First part of the seed of every draw."""
    rows: int
    """Number of rows of the store."""
    change: Change

    def uniforms(self, epoch: int) -> Float32[Tensor, "row 8"]:
        """Uniform numbers in [0, 1) of every row of the store in an epoch (counted from 0)."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        # Row by row, so that the numbers of a row do not depend on the number of rows.
        return torch.from_numpy(rng.random((self.rows, DRAWS), dtype=np.float32))


class Batches:
    """Batches of some rows of a store, on a device.

    On the CPU each batch is read from the arrays, which may be memory-mapped. On another device the
    rows are copied once if they fit into half of its free memory; else each batch is copied from
    pinned memory while the one before it is in use.

    Args:
        arrays: Columns of the store, such as "image" (uint8, channels last) and "mask" or "label".
        rows: The rows, in the order of the positions below.
        device: Where the batches are.
        augmentation: Random changes; None: no changes.
    """

    def __init__(
        self,
        arrays: Mapping[str, Shaped[np.ndarray, "row ..."]],
        rows: Int[np.ndarray, " n"],
        device: torch.device,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.arrays = arrays
        self.rows = rows
        self.device = device
        self.augmentation = augmentation
        self._resident = self._copied() if device.type != "cpu" and self._fits() else None

    def __call__(
        self, size: int, order: Int[np.ndarray, " m"] | None = None, epoch: int = 0
    ) -> Iterator[Batch]:
        """Batches of ``size`` rows, also with "index", the row in the store.

        Args:
            size: Rows per batch; the last one may have fewer.
            order: Positions in ``rows``; None: all of them in order.
            epoch: Of the augmentation.
        """
        positions = np.arange(len(self.rows)) if order is None else order
        parts = [positions[first : first + size] for first in range(0, len(positions), size)]
        uniforms = None
        if self.augmentation is not None:
            uniforms = self.augmentation.uniforms(epoch).to(self.device)
        for batch in self._read(parts):
            batch["image"] = as_float(batch["image"])
            if self.augmentation is not None and uniforms is not None:
                batch = self.augmentation.change(batch, uniforms[batch["index"]])
            yield batch

    def _read(self, parts: Sequence[Int[np.ndarray, " _"]]) -> Iterator[Batch]:
        """The rows at these positions, uint8 and on the device."""
        if self._resident is not None:
            everything = torch.from_numpy(np.concatenate(parts)).to(self.device)
            for chosen in everything.split([len(part) for part in parts]):
                yield {name: column[chosen] for name, column in self._resident.items()}
        elif self.device.type == "cpu":
            for part in parts:
                yield self._on_host(part)
        else:
            yield from self._prefetched(parts)

    def _prefetched(self, parts: Sequence[Int[np.ndarray, " _"]]) -> Iterator[Batch]:
        """Batches copied from pinned memory, read by a thread two batches ahead."""

        def pinned(part: Int[np.ndarray, " _"]) -> Batch:
            return {name: column.pin_memory() for name, column in self._on_host(part).items()}

        with ThreadPoolExecutor(1) as thread:
            waiting: deque[Future[Batch]] = deque()
            for part in [*parts, None, None]:
                if part is not None:
                    waiting.append(thread.submit(pinned, part))
                if waiting and (len(waiting) > 2 or part is None):
                    ready = waiting.popleft().result()
                    yield {k: v.to(self.device, non_blocking=True) for k, v in ready.items()}

    def _on_host(self, part: Int[np.ndarray, " _"]) -> Batch:
        rows = self.rows[part]
        read = {
            name: torch.from_numpy(np.take(of, rows, axis=0)) for name, of in self.arrays.items()
        }
        return read | {"index": torch.from_numpy(rows.astype(np.int64))}

    def _copied(self) -> Batch:
        return {k: v.to(self.device) for k, v in self._on_host(np.arange(len(self.rows))).items()}

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return True  # MPS shares the memory of the host
        size = sum(array[0].nbytes for array in self.arrays.values()) * len(self.rows)
        free, _ = torch.cuda.mem_get_info(self.device)
        return bool(size <= _RESIDENT_SHARE * free)


def masked_augmentation(
    flip: float, rotate_deg: float, scale: float, shift: float, colour: float
) -> Change | None:
    """Random changes of images and their masks; None if there are none.

    First brightness, contrast and saturation, then one affine map with the flip in it: bilinear for
    images, nearest neighbour for masks. Pixels that the map takes from outside the image become grey
    in the image and ``IGNORE_INDEX`` in the mask, so no loss counts them.

    Args:
        flip: Probability of a left-right flip.
        rotate_deg: Largest rotation in degrees, in either direction.
        scale: Largest relative change of size, in either direction.
        shift: Largest shift, as a fraction of the side.
        colour: Largest relative change of brightness, contrast and saturation; hue is not changed.
    """
    if not (flip or rotate_deg or scale or shift or colour):
        return None

    def change(batch: Batch, uniforms: Float32[Tensor, "n 8"]) -> Batch:
        image, mask = batch["image"], batch["mask"]
        signed = 2 * uniforms - 1  # in [-1, 1)
        if colour:
            image = coloured(image, 1 + colour * signed[:, :3])
        height, width = mask.shape[1:]
        image, mask = warped(
            image,
            mask,
            flipped=uniforms[:, 3] < flip,
            angle_deg=rotate_deg * signed[:, 4],
            shift_px=torch.stack(
                [width * shift * signed[:, 5], height * shift * signed[:, 6]], dim=1
            ),
            scale=1 + scale * signed[:, 7],
        )
        return batch | {"image": image, "mask": mask}

    return change


def coloured(
    image: Float32[Tensor, "n 3 height width"], factors: Float32[Tensor, "n 3"]
) -> Float32[Tensor, "n 3 height width"]:
    """Images with changed brightness, contrast and saturation, in this order; 1 changes nothing.

    Each is a mix with black, with the mean of the grey image, and with the grey image, as in
    torchvision's ``ColorJitter``; values are clipped to [0, 1] after each.
    """
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    image = (image * brightness).clamp_(0, 1)
    mean = _grey(image).mean(dim=(2, 3), keepdim=True)
    image.sub_(mean).mul_(contrast).add_(mean).clamp_(0, 1)
    grey = _grey(image)
    return image.sub_(grey).mul_(saturation).add_(grey).clamp_(0, 1)


def _grey(image: Float32[Tensor, "n 3 height width"]) -> Float32[Tensor, "n 1 height width"]:
    red, green, blue = image.split(1, dim=1)
    grey: Tensor = _LUMA[0] * red
    return grey.add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def warped(
    image: Float32[Tensor, "n channel height width"],
    mask: UInt8[Tensor, "n height width"],
    *,
    flipped: Bool[Tensor, " n"],
    angle_deg: Float32[Tensor, " n"],
    shift_px: Float32[Tensor, "n 2"],
    scale: Float32[Tensor, " n"],
) -> tuple[Float32[Tensor, "n channel height width"], UInt8[Tensor, "n height width"]]:
    """Images and masks flipped left to right, then rotated and scaled about the centre, then shifted.

    The map of torchvision's ``affine`` (angles clockwise, shifts right and down).
    """
    height, width = mask.shape[1:]
    angle = angle_deg * (math.pi / 180)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    dx = _centred(width, mask.device) - shift_px[:, :1]
    dy = _centred(height, mask.device) - shift_px[:, 1:]
    # Where each pixel of the output comes from, in half sides from the centre.
    x_unit, y_unit = torch.where(flipped, -2 / width, 2 / width), 2 / height
    grid = torch.empty(len(image), height, width, 2, device=mask.device)
    for axis, along_x, along_y in (
        (0, cosine * x_unit, sine * x_unit),
        (1, -sine * y_unit, cosine * y_unit),
    ):
        column, row = along_x[:, None] * dx, along_y[:, None] * dy
        torch.add(column[:, None, :], row[:, :, None], out=grid[..., axis])
    # Outside the image grid_sample reads zeros: subtracting the fill value makes that the fill.
    image = F.grid_sample(image - _GREY, grid, mode="bilinear", align_corners=False).add_(_GREY)
    ids = mask[:, None].float().sub_(IGNORE_INDEX)
    ids = F.grid_sample(ids, grid, mode="nearest", align_corners=False).add_(IGNORE_INDEX)
    return image, ids[:, 0].to(torch.uint8)


def _centred(count: int, device: torch.device) -> Float32[Tensor, " count"]:
    """Positions of pixel centres from the middle of a side, in pixels."""
    return torch.arange(count, device=device, dtype=torch.float32) - (count - 1) / 2


def labelled_augmentation(flip: float, shift_px: int) -> Change | None:
    """Random flips and shifts of images with a label; None if there are none.

    Args:
        flip: Probability of a left-right flip.
        shift_px: Largest shift in whole pixels along both axes, in either direction; all shifts are
            equally likely, and the edge is repeated.

    Raises:
        UserError: If ``flip`` or ``shift_px`` is out of range.
    """
    if not 0 <= flip <= 1:
        raise UserError(f"flip = {flip}: a probability lies in [0, 1]; 0 is off")
    if shift_px < 0:
        raise UserError(f"shift_px = {shift_px}: a shift is 0 or more; 0 is off")
    if not (flip or shift_px):
        return None

    def change(batch: Batch, uniforms: Float32[Tensor, "n 8"]) -> Batch:
        moves_px = (uniforms[:, 1:3] * (2 * shift_px + 1)).floor().long() - shift_px
        return batch | {"image": moved(batch["image"], uniforms[:, 0] < flip, moves_px)}

    return change


def moved(
    image: Float32[Tensor, "n channel height width"],
    flipped: Bool[Tensor, " n"],
    moves_px: Int[Tensor, "n 2"],
) -> Float32[Tensor, "n channel height width"]:
    """Images flipped left to right, then shifted down and right by whole pixels; the edge is repeated."""
    _, _, height, width = image.shape
    down, right = moves_px[:, :, None].unbind(dim=1)
    y = (torch.arange(height, device=image.device) - down).clamp(0, height - 1)
    x = (torch.arange(width, device=image.device) - right).clamp(0, width - 1)
    x = torch.where(flipped[:, None], width - 1 - x, x)
    n = torch.arange(len(image), device=image.device)[:, None, None]
    return image.movedim(1, -1)[n, y[:, :, None], x[:, None, :]].movedim(-1, 1)
