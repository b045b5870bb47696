"""Find image files, decode them to 8 bits, and resize images and masks."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MaskResize = Literal["nearest", "bilinear"]


def is_image_name(name: str) -> bool:
    """Whether a file name has an image suffix and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, by name; hidden files and other kinds are ignored."""
    return [path for path in sorted(folder.iterdir()) if is_image_name(path.name)]


def no_image_in(folder: Path, remedy: str) -> UserError:
    """The error for a folder without images."""
    return UserError(
        f"{folder}: contains no image: it must have {', '.join(IMAGE_SUFFIXES)} files; {remedy}"
    )


def decoded(path: Path, content: bytes | None = None) -> Image.Image:
    """The decoded image of a file, before its EXIF orientation is applied.

    Args:
        path: The file.
        content: The content of the file, if it has already been read, for instance from a zip file.

    Raises:
        UserError: If the file is missing, is not an image or is truncated.
    """
    try:
        # Always from memory: memory-mapped, Pillow scrambles rotated grey TIFFs that are not square.
        with Image.open(BytesIO(path.read_bytes() if content is None else content)) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise undecodable(path, error) from None


def undecodable(path: Path, error: object) -> UserError:
    """The error for a file without a complete image."""
    if isinstance(error, UnidentifiedImageError):
        error = "not a known image format"  # its own message names a buffer in memory
    return UserError(
        f"{path}: cannot be decoded ({error}): every file must hold a complete image; "
        "get it again or remove it"
    )


def read_image(path: Path, content: bytes | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """The image of a file as 8-bit RGB, with its EXIF orientation applied.

    Grey becomes RGB, 16 bits become 8 (65535 becomes 255), and transparent images are shown on white.

    Args:
        path: The file.
        content: The content of the file, as for ``decoded``.

    Raises:
        UserError: If the file cannot be decoded, or its values have no defined range.
    """
    image = ImageOps.exif_transpose(decoded(path, content))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path}: has 32-bit values, whose maximum is unknown: images have 8 or 16 bits per "
            "channel; export the image again with 8 or 16 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def size_in_words(pixels: np.ndarray) -> str:
    """Width and height.

    >>> size_in_words(np.zeros((2, 3)))
    '3 x 2 px'
    """
    return f"{pixels.shape[1]} x {pixels.shape[0]} px"


def file_stamps(paths: Iterable[Path], root: Path) -> list[tuple[str, int, int]]:
    """Name below ``root``, size in bytes and modification time in ns of each file."""
    stats = ((path.relative_to(root).as_posix(), path.stat()) for path in paths)
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def with_channels(
    image: UInt8[np.ndarray, "height width channel"], channels: int
) -> UInt8[np.ndarray, "height width wanted"]:
    """The image with one channel (ITU-R BT.601 luma, as PIL's "L") or three (grey is repeated)."""
    if image.shape[-1] == channels:
        return image
    if channels == 1:
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return np.repeat(image, channels, axis=-1)


def resized_image(
    image: UInt8[np.ndarray, "height width channel"], size_px: int
) -> UInt8[np.ndarray, "size size channel"]:
    """The image at another size: bilinear with anti-aliasing."""
    if image.shape[:2] == (size_px, size_px):
        return image
    plane_or_rgb = image[..., 0] if image.shape[-1] == 1 else image
    resized = Image.fromarray(plane_or_rgb).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size_px, size_px, -1)


def resized_mask(
    mask: UInt8[np.ndarray, "height width"], size_px: int, how: MaskResize
) -> UInt8[np.ndarray, "size size"]:
    """The mask at another size; "bilinear" averages class indices and rounds, as the reference study did.

    Averaging creates classes that are not in the mask: a seam of class 1 between classes 0 and 2.

    Raises:
        UserError: If ``how`` is "bilinear" and a pixel is ``IGNORE_INDEX``, which has no average.

    >>> resized_mask(np.array([[0, 2]] * 2, np.uint8), 3, "bilinear")[0].tolist()
    [0, 1, 2]
    """
    if how == "bilinear" and (mask == IGNORE_INDEX).any():
        raise UserError(
            'data.mask_resize = "bilinear" cannot average ignored pixels: set it to "nearest", or '
            "choose a label scheme without them"
        )
    filter_ = Image.Resampling.NEAREST if how == "nearest" else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(mask).resize((size_px, size_px), filter_))
