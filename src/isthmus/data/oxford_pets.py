"""Oxford-IIIT Pet: cats and dogs with trimaps, under one of five label schemes.

Source: Parkhi, Vedaldi, Zisserman and Jawahar 2012, Cats and Dogs (CVPR).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from isthmus.data.images import decoded, file_stamps, size_in_words
from isthmus.data.store import MaskedItem, Part
from isthmus.errors import UserError
from isthmus.recipe.rules import IGNORE_INDEX

_VERSION = 1
_REFERENCE_SEED = 1234
_REFERENCE_TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class TrimapScheme:
    """A label scheme: the class of each trimap value (1 pet, 2 background, 3 border)."""

    class_names: tuple[str, ...]
    ids: tuple[int, int, int]
    """Class indices of pet, background and border."""


TRIMAP_SCHEMES = {
    "classes3": TrimapScheme(("pet", "background", "border"), (0, 1, 2)),
    "pet+border": TrimapScheme(("background", "foreground"), (1, 0, 1)),
    "pet": TrimapScheme(("background", "pet"), (1, 0, 0)),
    "ignore-border": TrimapScheme(("background", "pet"), (1, 0, IGNORE_INDEX)),
    "border": TrimapScheme(("rest", "border"), (0, 0, 1)),  # a known mistake, to reproduce results
}


class OxfordPets:
    """The data set in torchvision's files; a group is a breed.

    Args:
        root: The folder that contains ``oxford-iiit-pet``.
        trimap: Label scheme, a key of ``TRIMAP_SCHEMES``.
        split: "official": the official trainval and test sets. "reference": trainval alone, shuffled
            and split 80 / 20, as in the reference study. "sorted": trainval split 80 / 20 in the order
            of names, a mistake that was published as a random split.
        download: Download missing files into ``root``.

    Raises:
        UserError: If the data are missing.
    """

    def __init__(
        self,
        root: Path,
        trimap: Literal["classes3", "pet+border", "pet", "ignore-border", "border"],
        split: Literal["official", "reference", "sorted"],
        download: bool,
    ) -> None:
        self._root = root
        self._trimap = trimap
        self._split = split
        self._files = _files(root, split, download)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return TRIMAP_SCHEMES[self._trimap].class_names

    @property
    def label_scheme(self) -> str:
        """What the masks mean, in one line."""
        cut = "" if self._split == "official" else f", {self._split} split"
        return f"oxford-pets, {self._trimap}{cut}"

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items."""
        images = [image for image, _, _ in self._files]
        trimaps = [trimap for _, trimap, _ in self._files]
        return {
            "source": "oxford-pets",
            "version": _VERSION,
            "trimap": self._trimap,
            "parts": [part for _, _, part in self._files],
            "files": file_stamps([*images, *trimaps], self._root),
        }

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[MaskedItem]:
        ids = np.array((0, *TRIMAP_SCHEMES[self._trimap].ids), np.uint8)
        for image_path, trimap_path, part in self._files:
            image = np.asarray(decoded(image_path).convert("RGB"))
            trimap = _trimap_values(trimap_path)
            if image.shape[:2] != trimap.shape:
                raise UserError(
                    f"{image_path}: {size_in_words(image)}, but its trimap {trimap_path.name} is "
                    f"{size_in_words(trimap)}: both must have the same size; get the data set again"
                )
            breed = image_path.stem.rsplit("_", 1)[0]
            yield MaskedItem(image_path.stem, breed, part, image, ids[trimap])


def _files(root: Path, split: str, download: bool) -> list[tuple[Path, Path, Part]]:
    """Image, trimap and split of each item."""
    trainval = _listed(root, "trainval", download)
    if split != "official":
        names = [image.stem for image, _ in trainval]
        shuffled = np.random.default_rng(_REFERENCE_SEED).permutation(len(names))
        order = shuffled if split == "reference" else np.argsort(names)
        cut = int(_REFERENCE_TRAIN_SHARE * len(trainval))
        in_train = set(order[:cut].tolist())
        return [
            (*pair, "train" if row in in_train else "test") for row, pair in enumerate(trainval)
        ]
    test = _listed(root, "test", download)
    return [(*pair, "train") for pair in trainval] + [(*pair, "test") for pair in test]


def _listed(root: Path, part: str, download: bool) -> list[tuple[Path, Path]]:
    """Paths of image and trimap, in the order of the official list."""
    base = root / "oxford-iiit-pet"
    images, annotations = base / "images", base / "annotations"
    if not (images.is_dir() and annotations.is_dir()):
        if not download:
            raise UserError(
                f"no Oxford-IIIT Pet in {root}: expected {images} and .../annotations; name the right folder "
                "with --data-root or ISTHMUS_DATA, or set neither to download the data set"
            )
        _download(root)
    listing = annotations / f"{part}.txt"
    names = [line.split()[0] for line in _lines(listing)]
    pairs = [(images / f"{name}.jpg", annotations / "trimaps" / f"{name}.png") for name in names]
    missing = next((path for pair in pairs for path in pair if not path.is_file()), None)
    if missing is not None:
        raise UserError(
            f"{missing}: no such file, although {listing.name} lists it: the data set must be complete; "
            "get it again"
        )
    return pairs


def _lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"{listing}: cannot be read ({error.strerror}): the data set must be complete; get it again"
        ) from None


def _download(root: Path) -> None:
    from torchvision.datasets import OxfordIIITPet

    try:
        OxfordIIITPet(root, download=True)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"cannot download Oxford-IIIT Pet into {root} ({error}): the data set must be downloaded once; "
            "try again, or name a folder that contains it with --data-root or ISTHMUS_DATA"
        ) from None


def _trimap_values(path: Path) -> UInt8[np.ndarray, "height width"]:
    trimap = np.asarray(decoded(path))
    values = np.unique(trimap).tolist()
    if trimap.ndim != 2 or trimap.dtype != np.uint8 or not set(values) <= {1, 2, 3}:
        raise UserError(
            f"{path}: has the values {values}: a trimap has only 1 pet, 2 background and 3 border; "
            "get the data set again"
        )
    return trimap
