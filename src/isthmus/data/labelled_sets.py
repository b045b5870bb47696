"""Labelled data sets by name: MNIST, Fashion-MNIST, KMNIST and CIFAR-10, read by torchvision."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Int64, UInt8

from isthmus.data.class_folder import ClassFolder
from isthmus.data.images import file_stamps
from isthmus.data.store import Item, Part, Source
from isthmus.errors import UserError

_Images = UInt8[np.ndarray, "n height width channel"]
_Labels = Int64[np.ndarray, " n"]

_VERSION = 1
_MNIST_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
# What torchvision raises on truncated or changed files, or without a network.
_DAMAGED = (RuntimeError, OSError, ValueError, TypeError, AssertionError, KeyError)


@dataclass(frozen=True)
class LabelledSet:
    """The files of a data set and the names of its classes."""

    title: str
    reader: str
    """The class in ``torchvision.datasets`` that reads the data set."""
    folder: str
    """The folder, below the root, in which torchvision stores the data set."""
    files: tuple[str, ...]
    class_names: tuple[str, ...]

    def read(self, root: Path, **options: bool) -> Any:
        """The data set as torchvision reads it."""
        from torchvision import datasets

        return getattr(datasets, self.reader)(root, **options)


def _mnist_like(title: str, reader: str, class_names: str) -> LabelledSet:
    return LabelledSet(title, reader, f"{reader}/raw", _MNIST_FILES, tuple(class_names.split()))


SETS: dict[str, LabelledSet] = {
    # LeCun, Cortes and Burges 1998
    "mnist": _mnist_like("MNIST", "MNIST", "0 1 2 3 4 5 6 7 8 9"),
    # Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747)
    "fashion-mnist": _mnist_like(
        "Fashion-MNIST",
        "FashionMNIST",
        "t-shirt trouser pullover dress coat sandal shirt sneaker bag boot",
    ),
    # Clanuwat et al. 2018 (arXiv:1812.01718)
    "kmnist": _mnist_like("KMNIST", "KMNIST", "o ki su tsu na ha ma ya re wo"),
    # Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images
    "cifar10": LabelledSet(
        "CIFAR-10",
        "CIFAR10",
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        tuple(_CIFAR10_CLASSES.split()),
    ),
}
"""Labelled data sets by their names in recipes."""


def labelled_set(name: str, root: Path, download: bool) -> Source:
    """A data set with its official training and test sets; a group is a class.

    If CIFAR-10 itself is missing but its JPEG copy exists, the copy is read (``CifarJpegs``).

    Args:
        name: A key of ``SETS``.
        root: The folder that contains the folder of the data set.
        download: Download missing files into ``root``.

    Raises:
        UserError: If the data are missing.
    """
    known = SETS[name]
    folder = root / known.folder
    copies = (root / "cifar10.zip", root / "cifar10")
    copy = next((path for path in copies if path.exists()), None)
    if name == "cifar10" and copy is not None and not folder.is_dir():
        return CifarJpegs(copy)
    if download and _missing(known, folder) is not None:
        _download(known, root)
    missing = _missing(known, folder)
    if missing is not None:
        instead = ", or the JPEG copy cifar10.zip" if name == "cifar10" else ""
        raise UserError(
            f"no {known.title} in {root}: expected {missing}{instead}; name the right folder with "
            "--data-root or ISTHMUS_DATA, or set neither to download the data set"
        )
    return TorchvisionSet(name, root)


class TorchvisionSet:
    """A data set in torchvision's own files.

    Args:
        name: A key of ``SETS``.
        root: The folder that contains the folder of the data set.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.label_scheme = name
        self._set = SETS[name]
        self._root = root

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return self._set.class_names

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items."""
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
            read = self._set.read(self._root, train=part == "train")
            images, labels = np.asarray(read.data), np.asarray(read.targets, np.int64)
            if len(images) != len(labels):
                raise ValueError(f"{len(images)} images but {len(labels)} labels")
        except _DAMAGED as error:
            raise UserError(
                f"{self._root / self._set.folder}: the {part} set cannot be read ({error}): "
                "the data set must be complete; get it again"
            ) from None
        return (images if images.ndim == 4 else images[..., None]), labels


class CifarJpegs:
    """CIFAR-10 as JPEG files in ``cifar10/{train,test}/CLASS``, or in ``cifar10.zip``.

    JPEG changes pixels, so metrics on this copy are not comparable with published metrics; the label
    scheme says that the data set is the JPEG copy.

    Args:
        place: The folder ``cifar10`` or the zip file.

    Raises:
        UserError: On iteration, if the class folders are not those of the ten classes.
    """

    class_names = SETS["cifar10"].class_names
    label_scheme = "cifar10 (JPEG copy)"

    def __init__(self, place: Path) -> None:
        self._place = place
        self._folder = ClassFolder(place, test_share=None)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items."""
        return {**self._folder.fingerprint(), "source": self.label_scheme}

    def __len__(self) -> int:
        return len(self._folder)

    def __iter__(self) -> Iterator[Item]:
        if self._folder.class_names != self.class_names:
            raise UserError(
                f"{self._place}: has the classes {', '.join(self._folder.class_names)}: the JPEG copy "
                f"of CIFAR-10 has {', '.join(self.class_names)}; get it again or remove it"
            )
        for item in self._folder:
            yield replace(item, name=item.name.rpartition(".")[0])


def _missing(known: LabelledSet, folder: Path) -> Path | None:
    """The first missing file."""
    return next((folder / name for name in known.files if not (folder / name).is_file()), None)


def _download(known: LabelledSet, root: Path) -> None:
    try:
        known.read(root, download=True)
    except _DAMAGED as error:
        raise UserError(
            f"cannot download {known.title} into {root} ({error}): the data set must be downloaded once; "
            "try again, or name a folder that contains it with --data-root or ISTHMUS_DATA"
        ) from None
