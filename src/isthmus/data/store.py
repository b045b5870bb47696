"""One uint8 store: every picture and mask decoded once, resized, and memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from isthmus.recipe import IGNORE_INDEX
from isthmus.refusal import Refusal

Part = Literal["train", "test"]
MaskResize = Literal["nearest", "bilinear"]

_FORMAT_VERSION = 1
_MASK_RESIZE_IN_WORDS = {
    "nearest": "nearest masks",
    "bilinear": "bilinear masks (a fault of the reference, repeated)",
}


@dataclass(frozen=True)
class Item:
    """One picture with its mask, at the size it was found."""

    name: str
    """Unique in its source."""
    group: str
    """The stratum that splits keep in proportion, such as a breed."""
    part: Part
    image: UInt8[np.ndarray, "height width 3"]
    mask: UInt8[np.ndarray, "height width"]
    """Class index per pixel; ``IGNORE_INDEX`` where there is no truth."""


@runtime_checkable
class Source(Protocol):
    """Where pictures come from, not yet decoded."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""

    @property
    def contract(self) -> str:
        """What the masks mean, in one line: "oxford-pets, classes3"."""

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the items, ready for JSON; cheap, for it is read at every opening."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


@dataclass(frozen=True)
class Store:
    """All pictures and masks of a source at one size, in the order of the source."""

    images: UInt8[np.ndarray, "n height width 3"]
    masks: UInt8[np.ndarray, "n height width"]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    class_names: tuple[str, ...]
    contract: str
    """What the masks mean and how they reached their size; part of every table."""
    key: str
    """Hash of all that decided the content."""


def open_store(
    source: Source,
    size_px: int,
    mask_resize: MaskResize,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Store:
    """The source's pictures and masks at ``size_px``, from the cache or decoded into it.

    A store is built in a temporary folder and renamed when it is whole: a cut-short build
    leaves nothing that looks finished, and of two builds at once the first to end is kept.

    Args:
        source: Where the pictures come from.
        size_px: Height and width of every picture, in pixels.
        mask_resize: "bilinear" averages class indices and rounds, which invents classes at
            their seams; it only serves to repeat a study that did so.
        cache: Stores lie in ``cache/stores/KEY``.
        on_progress: Told after each picture: how many are done, how many there are.

    Raises:
        Refusal: If a file of the source cannot be used.
    """
    key = _key(source.fingerprint(), size_px, mask_resize)
    folder = cache / "stores" / key
    if not folder.is_dir():
        _build(source, size_px, mask_resize, folder, on_progress)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return Store(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        contract=about.pop("contract"),
        key=key,
        **{name: tuple(values) for name, values in about.items()},
    )


def as_float(images_u8: UInt8[Tensor, "*n height width 3"]) -> Float[Tensor, "*n 3 height width"]:
    """The same pictures as float32 in [0, 1], channels first: the one place where bytes turn float.

    >>> as_float(torch.full((1, 1, 3), 255, dtype=torch.uint8)).tolist()
    [[[1.0]], [[1.0]], [[1.0]]]
    """
    return images_u8.movedim(-1, -3).contiguous().to(torch.float32) / 255


def decoded(path: Path) -> Image.Image:
    """The picture of a file, all of it decoded, not yet turned as its EXIF tag says.

    Raises:
        Refusal: If the file is missing, is no picture or is cut short.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(
            f"{path}: cannot be decoded ({error}): every file must hold a whole picture; "
            "fetch it again or take it out"
        ) from None


def read_image(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a file as 8-bit RGB, turned as its EXIF tag says.

    Grey becomes RGB, 16 bits become 8 (65535 becomes 255), what is transparent lies on white.

    Raises:
        Refusal: If the file cannot be decoded, or its values have no range of their own.
    """
    image = ImageOps.exif_transpose(decoded(path))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Refusal(
            f"{path}: holds 32-bit values, of which nobody knows the white: pictures have 8 or "
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


def resized_image(
    image: UInt8[np.ndarray, "height width 3"], size_px: int
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture at another size: bilinear, each new pixel averaging all that it covers."""
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BILINEAR))


def resized_mask(
    mask: UInt8[np.ndarray, "height width"], size_px: int, how: MaskResize
) -> UInt8[np.ndarray, "size size"]:
    """A mask at another size; "bilinear" averages class indices and rounds, as the reference did.

    Averaging invents: between classes 0 and 2 lies a seam of class 1, which is not there.

    Raises:
        Refusal: If ``how`` is "bilinear" and a pixel is ``IGNORE_INDEX``, which has no average.

    >>> resized_mask(np.array([[0, 2]] * 2, np.uint8), 3, "bilinear")[0].tolist()
    [0, 1, 2]
    """
    if how == "bilinear" and (mask == IGNORE_INDEX).any():
        raise Refusal(
            'data.mask_resize = "bilinear" cannot average pixels to be ignored: '
            'use "nearest", or a label contract without them'
        )
    filter_ = Image.Resampling.NEAREST if how == "nearest" else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(mask).resize((size_px, size_px), filter_))


def file_stamps(paths: Iterable[Path], root: Path) -> list[tuple[str, int, int]]:
    """Name below ``root``, bytes and time of change of each file: tells when one changed."""
    stats = ((path.relative_to(root).as_posix(), path.stat()) for path in paths)
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _key(fingerprint: dict[str, Any], size_px: int, mask_resize: MaskResize) -> str:
    decides = [_FORMAT_VERSION, fingerprint, size_px, mask_resize]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _build(
    source: Source,
    size_px: int,
    mask_resize: MaskResize,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Decode the whole source into a temporary folder, then rename it to ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-unfinished-", dir=folder.parent))
    try:
        _write(source, size_px, mask_resize, unfinished, on_progress)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise  # not because another process finished the same store first
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(
    source: Source,
    size_px: int,
    mask_resize: MaskResize,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    total = len(source)
    images = _new_array(folder / "images.npy", (total, size_px, size_px, 3))
    masks = _new_array(folder / "masks.npy", (total, size_px, size_px))
    names, groups, parts = [], [], []
    for row, item in enumerate(source):
        images[row] = resized_image(item.image, size_px)
        masks[row] = resized_mask(item.mask, size_px, mask_resize)
        names.append(item.name)
        groups.append(item.group)
        parts.append(item.part)
        if on_progress is not None:
            on_progress(row + 1, total)
    images.flush()
    masks.flush()
    contract = f"{source.contract}, {size_px} px, {_MASK_RESIZE_IN_WORDS[mask_resize]}"
    about = {
        "names": names,
        "groups": groups,
        "parts": parts,
        "class_names": source.class_names,
        "contract": contract,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
