"""Your own images with labels, out of a folder that has a folder a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from isthmus.data.image_files import file_stamps, image_files, no_image_in, read_image
from isthmus.data.splits import drawn_parts
from isthmus.data.store import Item, Part
from isthmus.errors import UserError

_VERSION = 1
_MOST_LISTED = 12


@dataclass(frozen=True)
class _Labelled:
    """An image by path, with its label."""

    path: Path
    label: str
    part: Part


class ClassFolder:
    """Images in FOLDER/CLASS, or in FOLDER/train/CLASS and FOLDER/test/CLASS.

    Classes stand in the order of their names, and a group is a class. Where no folder says
    so, a cut that never changes for the same files, stratified by class, makes the test part.
    Folders within a class belong to it, however deep. Files that are no images by their suffix
    and whatever is hidden are passed over.

    Args:
        folder: The folder, as torchvision's ``ImageFolder`` expects it.
        test_share: Share of the images that is the test part, where no folder says so.

    Raises:
        UserError: If the folder breaks a rule; images are decoded only when they are needed.
    """

    def __init__(self, folder: Path, test_share: float) -> None:
        self._folder = folder
        self._test_share = test_share
        self._images = _images(folder, test_share)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return tuple(sorted({image.label for image in self._images}))

    @property
    def label_scheme(self) -> str:
        """Which labels there are, in one line."""
        names = self.class_names
        listed = ", ".join(names[:_MOST_LISTED])
        more = f" ... ({len(names)} classes)" if len(names) > _MOST_LISTED else ""
        return f"classes {self._folder.name}: {listed}{more}"

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the items; where the folder lies does not."""
        return {
            "source": "classes",
            "version": _VERSION,
            "name": self._folder.name,
            "test_share": self._test_share,
            "files": file_stamps([image.path for image in self._images], self._folder),
        }

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Item]:
        for image in self._images:
            name = image.path.relative_to(self._folder).as_posix()
            yield Item(name, image.label, image.part, read_image(image.path))


def _images(folder: Path, test_share: float) -> list[_Labelled]:
    """All images with label and part, by part, class and name."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: it must hold a folder a class; set data.folder")
    parts: tuple[Part, ...] = get_args(Part)
    # A folder named train that holds images is a class of trains.
    if any(_folders_in(folder / part) for part in parts):
        found = [image for part in parts for image in _of_part(folder / part, part)]
    else:
        files = _by_label(folder)
        drawn = drawn_parts([label for _, label in files], test_share)
        found = [_Labelled(*file, part) for file, part in zip(files, drawn, strict=True)]
    trained = {image.label for image in found if image.part == "train"}
    untrained = sorted({image.label for image in found} - trained)
    if untrained:
        raise UserError(
            f"{folder}: class {untrained[0]} is in the test part but not in the training part: "
            "every class that is evaluated must be learned; add training images of it, "
            "or take it out"
        )
    return found


def _of_part(folder: Path, part: Part) -> list[_Labelled]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder: where there is train/ or test/, both must be there, with "
            "a folder a class in each; add it"
        )
    return [_Labelled(path, label, part) for path, label in _by_label(folder)]


def _by_label(folder: Path) -> list[tuple[Path, str]]:
    """The images below a folder, each with the name of its class."""
    classes = _folders_in(folder)
    if len(classes) < 2:
        found = f"only the class folder {classes[0].name}" if classes else "no class folder"
        raise UserError(
            f"{folder}: {found} in it: labels need two classes or more, each a folder with its "
            "images; add them, or set data.folder"
        )
    labelled = []
    for class_folder in classes:
        paths = _images_below(class_folder)
        if not paths:
            raise no_image_in(class_folder, "put them there, or take the folder out")
        labelled += [(path, class_folder.name) for path in paths]
    return labelled


def _images_below(folder: Path) -> list[Path]:
    """The images in a folder and in those within it, in the order of ``ImageFolder``."""
    found = image_files(folder)
    for inner in _folders_in(folder):
        found += _images_below(inner)
    return sorted(found, key=lambda path: (str(path.parent), path.name))


def _folders_in(folder: Path) -> list[Path]:
    """The folders right in a folder, by name, but hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return []
    inside = sorted(folder.iterdir())
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
