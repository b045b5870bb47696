"""Images and masks from a folder of your own."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import ImageOps

from isthmus.data.images import (
    decoded,
    file_stamps,
    image_files,
    no_image_in,
    read_image,
    size_in_words,
)
from isthmus.data.splits import drawn_parts
from isthmus.data.store import MaskedItem, Part
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

_VERSION = 2
_FEWEST_IMAGES = 5
_MOST_LISTED = 8
_MOST_UNNAMED = 50


@dataclass(frozen=True)
class _Pair:
    """The paths of an image and its mask."""

    name: str
    image: Path
    mask: Path
    part: Part | None
    """None if there are no folders train/ and test/."""


class Folder:
    """Images in PATH/images and masks in PATH/masks, matched by name without suffix.

    There may instead be PATH/train/ and PATH/test/, each with images/ and masks/. Without these two
    folders, the test set is drawn stratified by group; the draw depends on the masks alone, not on the
    names of classes. A group is the set of classes in a mask.

    Args:
        path: The folder.
        classes: Class names. If empty, class-0, class-1, ...
        mask_values: The mask value of each class. If empty and masks have only the values 0 and 255,
            these are two classes; otherwise mask values are class indices 0, 1, 2, ..., and 255 is
            ignored.
        test_share: Fraction of the images in the test set, if there are no folders train/ and test/.

    Raises:
        UserError: If the folder is invalid; masks are decoded only when they are needed.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        mask_values: Sequence[int],
        test_share: float,
    ) -> None:
        _check_classes(classes, mask_values)
        self._path = path
        self._classes = tuple(classes)
        self._mask_values = tuple(mask_values)
        self._test_share = test_share
        self._pairs = _pairs(path)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self._classes or tuple(f"class-{i}" for i in range(len(self._values)))

    @property
    def label_scheme(self) -> str:
        """The mask value of each class, in one line."""
        pairs = zip(self._values, self.class_names, strict=True)
        return f"folder {self._path.name}, " + " ".join(f"{v}={name}" for v, name in pairs)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items, except the location of the folder."""
        return {
            "source": "folder",
            "version": _VERSION,
            "name": self._path.name,
            "classes": self._classes,
            "mask_values": self._mask_values,
            "test_share": self._test_share,
            "files": file_stamps([f for p in self._pairs for f in (p.image, p.mask)], self._path),
        }

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[MaskedItem]:
        shown = [self._classes_in(values) for values in self._values_of_each]
        for pair, classes, part in zip(self._pairs, shown, self._parts(shown), strict=True):
            image, mask = read_image(pair.image), read_mask(pair.mask)
            if image.shape[:2] != mask.shape:
                raise UserError(
                    f"{pair.image}: {size_in_words(image)}, but its mask {pair.mask.name} is "
                    f"{size_in_words(mask)}: both must have the same size after their EXIF orientation; "
                    "export the mask again at the image's size"
                )
            group = "+".join(self.class_names[index] for index in classes)
            yield MaskedItem(pair.name, group, part, image, self._class_indices(mask))

    @functools.cached_property
    def _values_of_each(self) -> list[tuple[int, ...]]:
        """The values in each mask; decodes every mask once."""
        return [tuple(np.unique(read_mask(pair.mask)).tolist()) for pair in self._pairs]

    @functools.cached_property
    def _values(self) -> tuple[int, ...]:
        """The mask value of each class, in the order of the class indices."""
        first_with: dict[int, Path] = {}
        for pair, values in zip(self._pairs, self._values_of_each, strict=True):
            for value in values:
                first_with.setdefault(value, pair.mask)
        return _class_values(first_with, self._mask_values, len(self._classes))

    def _classes_in(self, values: tuple[int, ...]) -> list[int]:
        return [index for index, value in enumerate(self._values) if value in values]

    def _parts(self, shown: list[list[int]]) -> list[Part]:
        given = [pair.part for pair in self._pairs if pair.part is not None]
        if given:
            return given
        groups = ["+".join(f"{index:03}" for index in classes) for classes in shown]
        return drawn_parts(groups, self._test_share)

    def _class_indices(
        self, mask: Integer[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width"]:
        indices = np.full(mask.shape, IGNORE_INDEX, np.uint8)
        for index, value in enumerate(self._values):
            indices[mask == value] = index
        return indices


def read_mask(path: Path) -> Integer[np.ndarray, "height width"]:
    """The values of a mask file, or the indices of a palette mask, with the EXIF orientation applied.

    Raises:
        UserError: If the file cannot be decoded, is a JPEG, or does not have one integer per pixel.
    """
    image = decoded(path)
    if image.format == "JPEG":
        raise UserError(
            f"{path}: is a JPEG file, whose compression changes values: masks need a lossless format; "
            "export them again as PNG"
        )
    pixels = np.asarray(ImageOps.exif_transpose(image))
    if pixels.ndim == 3:
        return _one_channel(pixels, image.getbands(), path)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise UserError(
            f"{path}: has fractional values: a mask has one class index per pixel; "
            "save it as a grey PNG with class indices"
        )
    return pixels


def _one_channel(
    pixels: UInt8[np.ndarray, "height width channel"], bands: tuple[str, ...], path: Path
) -> UInt8[np.ndarray, "height width"]:
    """The values of a mask with several channels, if the channels are equal and the mask is opaque."""
    has_alpha = bands[-1] == "A"
    colours = pixels[..., :-1] if has_alpha else pixels
    if (has_alpha and pixels[..., -1].min() < 255) or (colours != colours[..., :1]).any():
        raise UserError(
            f"{path}: has colours or transparency: a mask has one class index per pixel; save it as "
            "a palette PNG or a grey PNG with class indices"
        )
    return colours[..., 0]


def _check_classes(classes: Sequence[str], mask_values: Sequence[int]) -> None:
    """Reject inconsistent class names and mask values, before any file is read."""
    for key, given in (("data.classes", classes), ("data.mask_values", mask_values)):
        if len(given) == 1 or len(given) > IGNORE_INDEX:
            raise UserError(
                f"{key} has {len(given)} entries: there must be 2 to {IGNORE_INDEX} classes; list them "
                "all, including the background"
            )
        twice = next((entry for entry in given if list(given).count(entry) > 1), None)
        if twice is not None:
            raise UserError(f"{key} has {twice} twice: each entry must be unique; remove one")
    if classes and mask_values and len(classes) != len(mask_values):
        raise UserError(
            f"data.classes has {len(classes)} entries but data.mask_values has {len(mask_values)}: "
            "each class has one mask value; make the two lists equally long"
        )


def _class_values(
    first_with: Mapping[int, Path], mask_values: tuple[int, ...], num_named: int
) -> tuple[int, ...]:
    """The mask value of each class: as listed in the recipe, or as found in the masks.

    ``first_with`` is the first mask with each value; ``num_named`` is the number of classes that
    the recipe names, 0 if none.
    """
    values = sorted(first_with)
    if mask_values:
        outside = next((value for value in values if value not in mask_values), None)
        if outside is not None:
            raise UserError(
                f"{first_with[outside]}: has the value {outside}: data.mask_values allows only "
                f"{_listed(mask_values)}; add the value and its class there, or correct the mask"
            )
        return mask_values
    if values == [0, 255] and num_named in (0, 2):
        return (0, 255)
    indices = [value for value in values if value != IGNORE_INDEX]
    num_classes = num_named or min(len(indices), _MOST_UNNAMED)
    outside = next((value for value in indices if not 0 <= value < num_classes), None)
    if outside is not None:
        raise UserError(
            f"{first_with[outside]}: has the value {outside}: class indices run from 0 to "
            f"{num_classes - 1} without a gap, and 255 is ignored, but the masks have "
            f"{_listed(values)}; {_remedy(values, num_named)}"
        )
    if len(indices) < 2:
        raise UserError(
            f"{first_with[values[0]]} and all other masks have only {_listed(values)}: at least two "
            "classes are needed; check that the masks are not empty"
        )
    return tuple(range(num_classes))


def _remedy(values: list[int], num_named: int) -> str:
    if len(values) <= _MOST_LISTED:
        names = f" and name {len(values)} classes" if num_named not in (0, len(values)) else ""
        return f"set data.mask_values = {values}{names}"
    indices = [value for value in values if value != IGNORE_INDEX]
    has_gap = indices[-1] >= len(indices)
    all_of_them = (
        "list all values in data.mask_values" if has_gap else "name all classes in data.classes"
    )
    return f"save the masks without smoothing, or {all_of_them}"


def _listed(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:_MOST_LISTED])
    return shown if len(values) <= _MOST_LISTED else f"{shown} ... ({len(values)} values)"


def _pairs(path: Path) -> list[_Pair]:
    """All images with their masks, in the order of split and name."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder: it must have images/ and masks/; set data.folder")
    if (path / "train").is_dir() or (path / "test").is_dir():
        pairs = _pairs_of(path / "train", "train") + _pairs_of(path / "test", "test")
    else:
        pairs = _pairs_of(path, None)
    if len(pairs) < _FEWEST_IMAGES:
        rule = f"training, validation and test sets need at least {_FEWEST_IMAGES} images together"
        raise UserError(f"{path}: {len(pairs)} images: {rule}; add images")
    return pairs


def _pairs_of(folder: Path, part: Part | None) -> list[_Pair]:
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    if not images:
        raise no_image_in(folder / "images", "add some, or set data.folder")
    unmatched = sorted(images.keys() ^ masks.keys())
    if unmatched:
        stem = unmatched[0]
        path = images.get(stem) or masks[stem]
        what, where = ("mask", "masks") if stem in images else ("image", "images")
        raise UserError(
            f"{path}: has no {what}: expected one of the same name, such as "
            f"{folder / where / stem}.png; add the {what} or remove the file"
        )
    prefix = "" if part is None else f"{part}-"
    return [_Pair(prefix + stem, images[stem], masks[stem], part) for stem in images]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Name without suffix -> image file, for the files of a folder, in the order of names."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder: a data folder has images/ and masks/, or train/ and test/, "
            "each with images/ and masks/; set data.folder"
        )
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if path.stem in found:
            raise UserError(
                f"{path}: has the same name as {found[path.stem].name} except for the suffix: masks are "
                "matched by name without suffix; remove one of the two"
            )
        found[path.stem] = path
    return found
