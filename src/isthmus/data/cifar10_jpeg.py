"""CIFAR-10 as JPEG files, in a folder or in a zip that is read where it lies.

JPEG changes pixels, so what is measured on this copy is not comparable with published numbers.
"""

from __future__ import annotations

import contextlib
import functools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from isthmus.data.image_files import decoded, file_stamps, undecodable
from isthmus.data.store import Item, Part
from isthmus.errors import UserError

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_VERSION = 1
_ENTRY = re.compile(rf"cifar10/(train|test)/({'|'.join(CIFAR10_CLASSES)})/([^/]+)\.jpe?g")


def jpeg_copy(root: Path) -> Path | None:
    """``cifar10.zip`` in ``root``, or the folder ``cifar10``, whichever is there."""
    if (root / "cifar10.zip").is_file():
        return root / "cifar10.zip"
    return root / "cifar10" if (root / "cifar10").is_dir() else None


class Cifar10Jpeg:
    """The JPEG copy, in its official parts, class after class; a group is a class.

    Args:
        place: A zip of ``cifar10/{train,test}/CLASS/*.jpg``, or the folder ``cifar10`` itself.
    """

    class_names = CIFAR10_CLASSES
    label_scheme = "cifar10 (JPEG copy)"

    def __init__(self, place: Path) -> None:
        self._place = place
        self._is_zip = place.is_file()

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the items: of a zip, its stamp as a whole."""
        files = [self._place] if self._is_zip else [self._path(entry) for entry in self._entries]
        return {
            "source": self.label_scheme,
            "version": _VERSION,
            "files": file_stamps(files, self._place.parent),
        }

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Item]:
        with self._auxiliary_classifier() as read:
            for entry, (part, label, stem) in self._entries.items():
                try:
                    content = read(entry)
                except (zipfile.BadZipFile, OSError, ValueError) as error:
                    raise undecodable(self._path(entry), error) from None
                image = decoded(self._path(entry), content).convert("RGB")
                yield Item(f"{part}/{label}/{stem}", label, cast(Part, part), np.asarray(image))

    @functools.cached_property
    def _entries(self) -> dict[str, tuple[str, str, str]]:
        """Part, label and stem of each image by its name, training first."""
        found = ((name, _ENTRY.fullmatch(name)) for name in sorted(self._names()))
        entries = {name: (match[1], match[2], match[3]) for name, match in found if match}
        if not entries:
            raise UserError(
                f"{self._place}: no image named like cifar10/train/frog/0001.jpg in it: the JPEG "
                "copy of CIFAR-10 has a folder a class; fetch it again or take it out"
            )
        return dict(sorted(entries.items(), key=lambda entry: entry[1][0] == "test"))

    def _names(self) -> list[str]:
        if self._is_zip:
            with self._archive() as archive:
                return archive.namelist()
        above = self._place.parent
        return [path.relative_to(above).as_posix() for path in self._place.glob("*/*/*.*")]

    @contextlib.contextmanager
    def _auxiliary_classifier(self) -> Iterator[Callable[[str], bytes]]:
        if self._is_zip:
            with self._archive() as archive:
                yield archive.read
        else:
            yield lambda entry: self._path(entry).read_bytes()

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._place)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f"{self._place}: cannot be opened ({error}): it must be a whole zip file; "
                "fetch it again or take it out"
            ) from None

    def _path(self, entry: str) -> Path:
        """Where an image is, in words that a user can follow."""
        return (self._place if self._is_zip else self._place.parent) / entry
