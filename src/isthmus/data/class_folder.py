"""Labelled images from a folder, or a zip file, that has one folder per class."""

from __future__ import annotations

import contextlib
import functools
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from isthmus.data.images import file_stamps, is_image_name, no_image_in, read_image, undecodable
from isthmus.data.splits import drawn_parts
from isthmus.data.store import Item, Part
from isthmus.errors import UserError

_VERSION = 1
_MOST_LISTED = 12


@dataclass(frozen=True)
class _Labelled:
    """The name of an image within the folder, its label and its split."""

    name: str
    label: str
    part: Part


class ClassFolder:
    """Images in FOLDER/CLASS, or in FOLDER/train/CLASS and FOLDER/test/CLASS.

    Classes are in alphabetical order, and a group is a class. Without train/ and test/, the test set
    is drawn stratified by class, and is always the same for the same files. Images in subfolders of a
    class folder, at any depth, belong to this class. Hidden files and folders, and files without an
    image suffix, are ignored.

    Args:
        place: A folder as torchvision's ``ImageFolder`` expects it, or NAME.zip with the same
            contents at its top or in its folder NAME.
        test_share: Fraction of the images in the test set, if there are no folders train/ and test/. If
            None, these two folders are required.

    Raises:
        UserError: On first use, if the folder is invalid. Images are decoded only when iterated.
    """

    def __init__(self, place: Path, test_share: float | None) -> None:
        self._place = place
        self._test_share = test_share

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return tuple(sorted({image.label for image in self._images}))

    @property
    def label_scheme(self) -> str:
        """The classes, in one line."""
        names = self.class_names
        listed = ", ".join(names[:_MOST_LISTED])
        more = f" ... ({len(names)} classes)" if len(names) > _MOST_LISTED else ""
        return f"classes {self._name}: {listed}{more}"

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items, except the folder's location; a zip file is one file."""
        place = self._place
        if place.is_file():
            stamps = file_stamps([place], place.parent)
        else:
            stamps = file_stamps([place / image.name for image in self._images], place)
        return {
            "source": "classes",
            "version": _VERSION,
            "name": self._name,
            "test_share": self._test_share,
            "files": stamps,
        }

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Item]:
        with self._tree.reader() as read:
            for image in self._images:
                pixels = read_image(self._tree.path(image.name), read(image.name))
                yield Item(image.name, image.label, image.part, pixels)

    @property
    def _name(self) -> str:
        return self._place.stem if self._place.is_file() else self._place.name

    @functools.cached_property
    def _tree(self) -> _Tree:
        return _tree(self._place)

    @functools.cached_property
    def _images(self) -> list[_Labelled]:
        return _labelled(self._tree, self._test_share)


@dataclass(frozen=True)
class _Tree:
    """The names of all folders and images in a folder or zip file, relative to it, except hidden ones."""

    place: Path
    is_zip: bool
    root: str
    """Prefix of the names in a zip file: empty, or "NAME/" if the contents are in a folder NAME."""
    folders: frozenset[str]
    images: tuple[str, ...]
    """In the order of ``ImageFolder``: by folder, then by name."""

    def path(self, name: str) -> Path:
        """The path of a file; if the file is in a zip file, the path is for messages only."""
        return self.place / (self.root + name)

    def folders_in(self, folder: str) -> list[str]:
        """The folders directly in a folder, by name."""
        parents = ((name, name.rpartition("/")) for name in self.folders)
        return sorted(name for name, (parent, _, _) in parents if parent == folder)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[str], bytes]]:
        """A function that takes the name of an image and returns the content of the file."""

        def read(name: str) -> bytes:
            try:
                return archive.read(self.root + name) if archive else self.path(name).read_bytes()
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise undecodable(self.path(name), error) from None

        with _opened(self.place) if self.is_zip else contextlib.nullcontext() as archive:
            yield read


def _tree(place: Path) -> _Tree:
    if is_zip := place.is_file():
        with _opened(place) as archive:
            entries = archive.namelist()
    elif place.is_dir():
        entries = _walked(place)
    else:
        raise UserError(
            f"{place}: no such folder: it must hold one folder per class; set data.folder"
        )
    top = f"{place.stem}/" if is_zip else ""
    root = top if any(entry.startswith(top) for entry in entries) else ""
    folders: set[str] = set()
    images = []
    for entry in (name.removeprefix(root) for name in entries if name.startswith(root)):
        if "/." in f"/{entry}" or entry.startswith("__MACOSX/"):
            continue
        folder, _, name = entry.rpartition("/")
        if is_image_name(name):
            images.append(entry)
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    images.sort(key=lambda name: name.rpartition("/")[::2])
    return _Tree(place, is_zip, root, frozenset(folders), tuple(images))


def _walked(folder: Path) -> list[str]:
    """Names of all files and folders below a folder; names of folders end with a slash."""
    names = []
    for at, folders, files in os.walk(folder, followlinks=True):
        above = Path(at).relative_to(folder)
        names += [(above / name).as_posix() for name in files]
        names += [(above / name).as_posix() + "/" for name in folders]
    return names


def _opened(place: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{place}: cannot be opened ({error}): it must be a folder or a complete zip file; "
            "get it again or remove it"
        ) from None


def _labelled(tree: _Tree, test_share: float | None) -> list[_Labelled]:
    """All images with label and split, in the order of split, class and name."""
    parts: tuple[Part, ...] = get_args(Part)
    # A folder named train that holds images is a class of trains.
    if test_share is None or any(tree.folders_in(part) for part in parts):
        found = [image for part in parts for image in _of_part(tree, part)]
    else:
        files = _by_label(tree, "")
        drawn = drawn_parts([label for _, label in files], test_share)
        found = [_Labelled(*file, part) for file, part in zip(files, drawn, strict=True)]
    trained = {image.label for image in found if image.part == "train"}
    untrained = sorted({image.label for image in found} - trained)
    if untrained:
        raise UserError(
            f"{tree.place}: class {untrained[0]} has test images but no training images: every class "
            "that is tested must be trained on; add training images of it, or remove it"
        )
    return found


def _of_part(tree: _Tree, part: Part) -> list[_Labelled]:
    if part not in tree.folders:
        raise UserError(
            f"{tree.path(part)}: no such folder: train/ and test/ must both exist, each with one "
            "folder per class; add the missing folder"
        )
    return [_Labelled(name, label, part) for name, label in _by_label(tree, part)]


def _by_label(tree: _Tree, folder: str) -> list[tuple[str, str]]:
    """The images below a folder, each with the name of its class."""
    classes = [name.rpartition("/")[2] for name in tree.folders_in(folder)]
    if len(classes) < 2:
        found = f"only one class folder ({classes[0]})" if classes else "no class folders"
        raise UserError(
            f"{tree.path(folder)}: {found}: at least two classes are needed, each a folder of "
            "images; add class folders, or set data.folder"
        )
    above = f"{folder}/" if folder else ""
    images: dict[str, list[str]] = {label: [] for label in classes}
    for name in tree.images:
        label, is_in_class, _ = name.removeprefix(above).partition("/")
        if name.startswith(above) and is_in_class:
            images[label].append(name)
    for label, names in images.items():
        if not names:
            raise no_image_in(tree.path(above + label), "add some, or remove the folder")
    return [(name, label) for label, names in images.items() for name in names]
