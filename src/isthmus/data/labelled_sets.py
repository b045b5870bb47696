"""Labelled data sets by name: MNIST, Fashion-MNIST, KMNIST and CIFAR-10, as torchvision has them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64, UInt8
from torchvision.datasets import CIFAR10, KMNIST, MNIST, FashionMNIST

from isthmus.data.cifar10_jpeg import CIFAR10_CLASSES, Cifar10Jpeg, jpeg_copy
from isthmus.data.image_files import file_stamps
from isthmus.data.store import Item, Part, Source
from isthmus.errors import UserError

SetName = Literal["mnist", "fashion-mnist", "kmnist", "cifar10"]

_Images = UInt8[np.ndarray, "n height width channel"]
_Labels = Int64[np.ndarray, " n"]

_VERSION = 1
# What torchvision raises on files that are cut short or changed, or without a network.
_DAMAGED = (RuntimeError, OSError, ValueError, TypeError, AssertionError, KeyError)


@dataclass(frozen=True)
class LabelledSet:
    """What is known of a data set before it is read."""

    title: str
    torchvision: Any
    """Class of the data set there."""
    folder: str
    """Where torchvision keeps it, below the root."""
    files: tuple[str, ...]
    class_names: tuple[str, ...]


def _mnist_like(title: str, torchvision: type[MNIST], class_names: str) -> LabelledSet:
    files = tuple(Path(url).stem for url, _ in torchvision.resources)
    folder = f"{torchvision.__name__}/raw"
    return LabelledSet(title, torchvision, folder, files, tuple(class_names.split()))


SETS: dict[str, LabelledSet] = {
    # LeCun, Cortes and Burges 1998
    "mnist": _mnist_like("MNIST", MNIST, "0 1 2 3 4 5 6 7 8 9"),
    # Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747)
    "fashion-mnist": _mnist_like(
        "Fashion-MNIST",
        FashionMNIST,
        "t-shirt trouser pullover dress coat sandal shirt sneaker bag boot",
    ),
    # Clanuwat et al. 2018 (arXiv:1812.01718)
    "kmnist": _mnist_like("KMNIST", KMNIST, "o ki su tsu na ha ma ya re wo"),
    # Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images
    "cifar10": LabelledSet(
        "CIFAR-10",
        CIFAR10,
        CIFAR10.base_folder,
        (*(name for name, _ in CIFAR10.train_list + CIFAR10.test_list), CIFAR10.meta["filename"]),
        CIFAR10_CLASSES,
    ),
}
"""The one place where a labelled data set gets the name that recipes use."""


class TorchvisionSet:
    """A data set as torchvision lays it out, in its official parts; a group is a class.

    Where CIFAR-10 itself is not there but its JPEG copy is, that is read, and the label scheme
    says so.

    Args:
        name: A key of ``SETS``.
        root: The folder that holds the data set's own.
        download: Fetch what is missing into ``root``.

    Raises:
        UserError: If the data are not there.
    """

    def __init__(self, name: SetName, root: Path, download: bool) -> None:
        self._source: Source = _found(name, root, download)
        self.class_names = SETS[name].class_names

    @property
    def label_scheme(self) -> str:
        """Which data set, in one line."""
        return self._source.label_scheme

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the items."""
        return self._source.fingerprint()

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._source)


class _Official:
    """A data set read by torchvision itself."""

    def __init__(self, name: SetName, root: Path) -> None:
        self.label_scheme = name
        self._set = SETS[name]
        self._root = root

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._set.class_names

    def fingerprint(self) -> dict[str, Any]:
        files = (self._root / self._set.folder / name for name in self._set.files)
        return {
            "source": self.label_scheme,
            "version": _VERSION,
            "files": file_stamps(files, self._root),
        }

    def __len__(self) -> int:
        return sum(len(labels) for _, labels in self._parts.values())

    def __iter__(self) -> Iterator[Item]:
        for part, (images, labels) in self._parts.items():
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield Item(f"{part}/{number:05}", self.class_names[label], part, image)

    @functools.cached_property
    def _parts(self) -> dict[Part, tuple[_Images, _Labels]]:
        parts: tuple[Part, ...] = get_args(Part)
        return {part: self._arrays(part) for part in parts}

    def _arrays(self, part: Part) -> tuple[_Images, _Labels]:
        try:
            read = self._set.torchvision(self._root, train=part == "train")
            images, labels = np.asarray(read.data), np.asarray(read.targets, np.int64)
            if len(images) != len(labels):
                raise ValueError(f"{len(images)} images but {len(labels)} labels")
        except _DAMAGED as error:
            raise UserError(
                f"{self._root / self._set.folder}: the {part} part cannot be read ({error}): "
                "the data set must be whole; fetch it again"
            ) from None
        return (images if images.ndim == 4 else images[..., None]), labels


def _found(name: SetName, root: Path, download: bool) -> Source:
    known = SETS[name]
    folder = root / known.folder
    copy = jpeg_copy(root) if name == "cifar10" and not folder.is_dir() else None
    if copy is not None:
        return Cifar10Jpeg(copy)
    if download and _missing(known, folder) is not None:
        _download(known, root)
    missing = _missing(known, folder)
    if missing is not None:
        instead = ", or the JPEG copy cifar10.zip" if name == "cifar10" else ""
        raise UserError(
            f"no {known.title} in {root}: expected {missing}{instead}; name the folder with "
            "--data-root or ISTHMUS_DATA, or leave it out to download"
        )
    return _Official(name, root)


def _missing(known: LabelledSet, folder: Path) -> Path | None:
    """The first file that is not there."""
    return next((folder / name for name in known.files if not (folder / name).is_file()), None)


def _download(known: LabelledSet, root: Path) -> None:
    try:
        known.torchvision(root, download=True)
    except _DAMAGED as error:
        raise UserError(
            f"cannot download {known.title} into {root} ({error}): it is needed once; try again, "
            "or name a folder that holds it with --data-root or ISTHMUS_DATA"
        ) from None
