"""Image files: found, decoded, brought to 8 bits, and stamped."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from isthmus.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def image_files(folder: Path) -> list[Path]:
    """The images right in a folder, by name; hidden files and other kinds are passed over."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]


def no_image_in(folder: Path, remedy: str) -> UserError:
    """The error of a folder without images."""
    return UserError(
        f"{folder}: no image in it: it must hold {', '.join(IMAGE_SUFFIXES)} files; {remedy}"
    )


def decoded(path: Path, content: bytes | None = None) -> Image.Image:
    """The image of a file, all of it decoded, not yet turned as its EXIF tag says.

    Args:
        path: The file.
        content: What it holds, where it is no file of its own but lies in an archive.

    Raises:
        UserError: If the file is missing, is no image or is cut short.
    """
    try:
        # by content always: mapped from its file, Pillow scrambles a turned, grey, oblong TIFF
        with Image.open(BytesIO(path.read_bytes() if content is None else content)) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise undecodable(path, error) from None


def undecodable(path: Path, error: object) -> UserError:
    """The error of a file that holds no whole image."""
    if isinstance(error, UnidentifiedImageError):
        error = "no kind of image that is known"  # its own words name a buffer in memory
    return UserError(
        f"{path}: cannot be decoded ({error}): every file must hold a whole image; "
        "fetch it again or take it out"
    )


def read_image(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """The image of a file as 8-bit RGB, turned as its EXIF tag says.

    Grey becomes RGB, 16 bits become 8 (65535 becomes 255), what is transparent lies on white.

    Raises:
        UserError: If the file cannot be decoded, or its values have no range of their own.
    """
    image = ImageOps.exif_transpose(decoded(path))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path}: holds 32-bit values, of which nobody knows the white: images have 8 or "
            "16 bits a channel; export it so"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def size_in_words(pixels: np.ndarray) -> str:
    """Width and height as people say them.

    >>> size_in_words(np.zeros((2, 3)))
    '3 x 2 px'
    """
    return f"{pixels.shape[1]} x {pixels.shape[0]} px"


def file_stamps(paths: Iterable[Path], root: Path) -> list[tuple[str, int, int]]:
    """Name below ``root``, bytes and time of change of each file: tells when one changed."""
    stats = ((path.relative_to(root).as_posix(), path.stat()) for path in paths)
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
