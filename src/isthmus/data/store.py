"""The store: all images of a source at one size, decoded once, as memory-mapped uint8 arrays."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64, Shaped, UInt8

from isthmus.data.images import MaskResize, resized_image, resized_mask, with_channels
from isthmus.errors import UserError

Part = Literal["train", "test"]
OnProgress = Callable[[int, int], None]
"""(images done, images in total) -> None."""

Columns = dict[str, Shaped[np.ndarray, "n ..."]]

_FORMAT_VERSION = 3
_MASK_RESIZE_IN_WORDS = {
    "nearest": "nearest masks",
    "bilinear": "bilinear masks (a flaw of the reference study, reproduced)",
}
_CHANNELS_IN_WORDS = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Item:
    """One image at its original size."""

    name: str
    """Unique in its source."""
    group: str
    """The stratum of stratified splits: a breed, or the label."""
    part: Part
    image: UInt8[np.ndarray, "height width channel"]
    """One channel or three."""


@dataclass(frozen=True)
class MaskedItem(Item):
    """One image with its mask."""

    mask: UInt8[np.ndarray, "height width"]
    """Class index per pixel, or ``IGNORE_INDEX``."""


@runtime_checkable
class Source(Protocol):
    """Images that are decoded when iterated; if they have labels, a group is a class name."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""

    @property
    def label_scheme(self) -> str:
        """What the masks or labels mean, in one line: "oxford-pets, classes3"."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items, as JSON values; cheap, as it is computed on every opening."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


@runtime_checkable
class MaskedSource(Source, Protocol):
    """Images with masks that are decoded when iterated."""

    def __iter__(self) -> Iterator[MaskedItem]: ...


@dataclass(frozen=True, kw_only=True)
class Store:
    """All images of a source at one size, in the order of the source."""

    images: UInt8[np.ndarray, "n height width channel"]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    class_names: tuple[str, ...]
    label_scheme: str
    """What masks or labels mean and how the images were resized; part of every table."""
    content: str
    """Hash of images, masks or labels, names and splits: the same for another copy of the files."""

    @property
    def columns(self) -> Columns:
        """Name of a column of a batch -> its array, with a row per image."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MaskedStore(Store):
    """All images and masks of a source at one size."""

    masks: UInt8[np.ndarray, "n height width"]

    @property
    def columns(self) -> Columns:
        """What a batch holds."""
        return {"image": self.images, "mask": self.masks}


@dataclass(frozen=True, kw_only=True)
class LabelledStore(Store):
    """All images and labels of a source at one size."""

    labels: Int64[np.ndarray, " n"]
    """Index of each image's group in ``class_names``."""

    @property
    def columns(self) -> Columns:
        """What a batch holds."""
        return {"image": self.images, "label": self.labels}


def open_store(
    source: MaskedSource,
    size_px: int,
    mask_resize: MaskResize,
    cache: Path,
    on_progress: OnProgress | None = None,
) -> MaskedStore:
    """The source's images and masks at ``size_px``, from the cache or decoded into it.

    A store is built in a temporary folder and renamed when it is complete: an interrupted build
    leaves nothing that looks finished, and of two simultaneous builds the first to finish is kept.

    Args:
        source: The images and masks.
        size_px: Height and width of every image, in pixels.
        mask_resize: "bilinear" averages class indices and rounds, which creates classes that are not in
            the mask; only for reproducing a study that did so.
        cache: The cache folder; stores are in ``cache/stores/KEY``.
        on_progress: Called after each image.

    Raises:
        UserError: If a file of the source cannot be used.
    """
    kept = _Kept(
        shapes={"images": (size_px, size_px, 3), "masks": (size_px, size_px)},
        arrays_of=lambda item: {
            "images": resized_image(item.image, size_px),
            "masks": resized_mask(_mask_of(item), size_px, mask_resize),
        },
        in_words=f"{size_px} px, {_MASK_RESIZE_IN_WORDS[mask_resize]}",
        decided_by=(size_px, mask_resize),
    )
    return MaskedStore(**_fields(source, kept, cache, on_progress))


def open_labelled_store(
    source: Source,
    size_px: int,
    channels: int,
    cache: Path,
    on_progress: OnProgress | None = None,
) -> LabelledStore:
    """The source's images at ``size_px`` with their labels; built as in ``open_store``.

    Args:
        source: The images; the group of each image is one of the class names.
        size_px: Height and width of every image, in pixels; images of this size are not changed.
        channels: 1 converts every image to grey; 3 repeats the channel of a grey image.
        cache: The cache folder; stores are in ``cache/stores/KEY``.
        on_progress: Called after each image.

    Raises:
        UserError: If a file of the source cannot be used, or ``channels`` is neither 1 nor 3.
    """
    if channels not in _CHANNELS_IN_WORDS:
        raise UserError(f"{channels} channels: a store has 1 (grey) or 3 (colour); choose one")
    kept = _Kept(
        shapes={"images": (size_px, size_px, channels)},
        arrays_of=lambda item: {
            "images": resized_image(with_channels(item.image, channels), size_px)
        },
        in_words=f"{size_px} px, {_CHANNELS_IN_WORDS[channels]}",
        decided_by=(size_px, channels),
    )
    fields = _fields(source, kept, cache, on_progress)
    return LabelledStore(labels=_labels(fields["groups"], fields["class_names"]), **fields)


def as_bytes(images: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Images with values in [0, 1] as bytes, rounded; values out of this range are clipped.

    >>> as_bytes(np.array([-0.1, 0.5, 2.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    return np.asarray(np.round(np.clip(images, 0, 1) * 255), dtype=np.uint8)


@dataclass(frozen=True)
class _Kept:
    """The arrays that a kind of store keeps for each item."""

    shapes: dict[str, tuple[int, ...]]
    """Shape of one item's array, by field of the store."""
    arrays_of: Callable[[Any], dict[str, np.ndarray]]
    """Item -> arrays, by field of the store."""
    in_words: str
    """How the arrays are made, for the label scheme."""
    decided_by: tuple[int | str, ...]
    """Values that the key of the store depends on, besides the source."""


def _fields(
    source: Source, kept: _Kept, cache: Path, on_progress: OnProgress | None
) -> dict[str, Any]:
    """The fields of a store, read from the cache after building it if necessary."""
    key = _key(source.fingerprint(), kept)
    folder = cache / "stores" / key
    if not folder.is_dir():
        _build(source, kept, folder, on_progress)
    about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    arrays = {field: np.load(folder / f"{field}.npy", mmap_mode="r") for field in kept.shapes}
    label_scheme, content = about.pop("label_scheme"), about.pop("content")
    lists = {field: tuple(values) for field, values in about.items()}
    return {**arrays, **lists, "label_scheme": label_scheme, "content": content}


def _key(fingerprint: dict[str, Any], kept: _Kept) -> str:
    decides = [_FORMAT_VERSION, fingerprint, *kept.decided_by]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _mask_of(item: Item) -> UInt8[np.ndarray, "height width"]:
    if not isinstance(item, MaskedItem):
        raise UserError(
            f"{item.name}: this image has no mask: segmentation needs a dataset of MaskedItem; choose "
            "another data.name"
        )
    return item.mask


def _labels(groups: Sequence[str], class_names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    index_of = {name: index for index, name in enumerate(class_names)}
    if unknown := set(groups) - set(class_names):
        raise UserError(
            f"group {min(unknown)} is not a class of this dataset: the group of a labelled image is its "
            "class name; choose another data.name"
        )
    return np.array([index_of[group] for group in groups], np.int64)


def _build(source: Source, kept: _Kept, folder: Path, on_progress: OnProgress | None) -> None:
    """Decode the whole source into a temporary folder, then rename it to ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-unfinished-", dir=folder.parent))
    try:
        _write(source, kept, unfinished, on_progress)
        unfinished.chmod(0o755)  # others may share the cache
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise  # else another process finished the same store first
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(source: Source, kept: _Kept, folder: Path, on_progress: OnProgress | None) -> None:
    total = len(source)
    arrays = {
        field: _new_array(folder / f"{field}.npy", (total, *shape))
        for field, shape in kept.shapes.items()
    }
    names, groups, parts = [], [], []
    for row, item in enumerate(source):
        for field, value in kept.arrays_of(item).items():
            arrays[field][row] = value
        names.append(item.name)
        groups.append(item.group)
        parts.append(item.part)
        if on_progress is not None:
            on_progress(row + 1, total)
    for array in arrays.values():
        array.flush()
    lists = {
        "names": names,
        "groups": groups,
        "parts": parts,
        "class_names": source.class_names,
    }
    label_scheme = f"{source.label_scheme}, {kept.in_words}"
    digest = hashlib.sha256(json.dumps(lists).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    about = {**lists, "label_scheme": label_scheme, "content": digest.hexdigest()[:16]}
    (folder / "store.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
