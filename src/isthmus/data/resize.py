"""Images and masks at another size, and with another number of channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from isthmus.errors import UserError
from isthmus.recipe import IGNORE_INDEX

MaskResize = Literal["nearest", "bilinear"]


def with_channels(
    image: UInt8[np.ndarray, "height width channel"], channels: int
) -> UInt8[np.ndarray, "height width wanted"]:
    """An image in grey or in colour: luma as PIL's "L" has it (ITU-R BT.601), or grey repeated."""
    if image.shape[-1] == channels:
        return image
    if channels == 1:
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return np.repeat(image, channels, axis=-1)


def resized_image(
    image: UInt8[np.ndarray, "height width channel"], size_px: int
) -> UInt8[np.ndarray, "size size channel"]:
    """An image at another size: bilinear, each new pixel averaging all that it covers."""
    if image.shape[:2] == (size_px, size_px):
        return image
    plane_or_rgb = image[..., 0] if image.shape[-1] == 1 else image
    resized = Image.fromarray(plane_or_rgb).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size_px, size_px, -1)


def resized_mask(
    mask: UInt8[np.ndarray, "height width"], size_px: int, how: MaskResize
) -> UInt8[np.ndarray, "size size"]:
    """A mask at another size; "bilinear" averages class indices and rounds, as the reference did.

    Averaging invents: between classes 0 and 2 lies a seam of class 1, which is not there.

    Raises:
        UserError: If ``how`` is "bilinear" and a pixel is ``IGNORE_INDEX``, which has no average.

    >>> resized_mask(np.array([[0, 2]] * 2, np.uint8), 3, "bilinear")[0].tolist()
    [0, 1, 2]
    """
    if how == "bilinear" and (mask == IGNORE_INDEX).any():
        raise UserError(
            'data.mask_resize = "bilinear" cannot average pixels to be ignored: '
            'use "nearest", or a label scheme without them'
        )
    filter_ = Image.Resampling.NEAREST if how == "nearest" else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(mask).resize((size_px, size_px), filter_))
