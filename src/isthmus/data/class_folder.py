"""Your own pictures with labels, out of a folder that has a folder a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from isthmus.data.picture_files import file_stamps, no_picture_in, picture_files, read_image
from isthmus.data.splits import drawn_parts
from isthmus.data.store import Item, Part
from isthmus.refusal import Refusal

_VERSION = 1
_MOST_LISTED = 12


@dataclass(frozen=True)
class _Labelled:
    """A picture by path, with its label."""

    path: Path
    label: str
    part: Part


class ClassFolder:
    """Pictures in FOLDER/CLASS, or in FOLDER/train/CLASS and FOLDER/test/CLASS.

    Classes stand in the order of their names, and a group is a class. Where no folder says
    so, a cut that never changes for the same files, stratified by class, makes the test part.
    Folders within a class belong to it, however deep. Files that are no pictures by their suffix
    and whatever is hidden are passed over.

    Args:
        folder: The folder, as torchvision's ``ImageFolder`` expects it.
        test_share: Share of the pictures that is the test part, where no folder says so.

    Raises:
        Refusal: If the folder breaks a rule; pictures are decoded only when they are needed.
    """

    def __init__(self, folder: Path, test_share: float) -> None:
        self._folder = folder
        self._test_share = test_share
        self._pictures = _pictures(folder, test_share)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the class indices."""
        return tuple(sorted({picture.label for picture in self._pictures}))

    @property
    def contract(self) -> str:
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
            "files": file_stamps([picture.path for picture in self._pictures], self._folder),
        }

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Item]:
        for picture in self._pictures:
            name = picture.path.relative_to(self._folder).as_posix()
            yield Item(name, picture.label, picture.part, read_image(picture.path))


def _pictures(folder: Path, test_share: float) -> list[_Labelled]:
    """All pictures with label and part, by part, class and name."""
    if not folder.is_dir():
        raise Refusal(f"{folder}: no such folder: it must hold a folder a class; set data.folder")
    parts: tuple[Part, ...] = get_args(Part)
    # A folder named train that holds pictures is a class of trains.
    if any(_folders_in(folder / part) for part in parts):
        found = [picture for part in parts for picture in _of_part(folder / part, part)]
    else:
        files = _by_label(folder)
        drawn = drawn_parts([label for _, label in files], test_share)
        found = [_Labelled(*file, part) for file, part in zip(files, drawn, strict=True)]
    trained = {picture.label for picture in found if picture.part == "train"}
    untrained = sorted({picture.label for picture in found} - trained)
    if untrained:
        raise Refusal(
            f"{folder}: class {untrained[0]} is in the test part but not in the training part: "
            "every class that is scored must be learned; add training pictures of it, "
            "or take it out"
        )
    return found


def _of_part(folder: Path, part: Part) -> list[_Labelled]:
    if not folder.is_dir():
        raise Refusal(
            f"{folder}: no such folder: where there is train/ or test/, both must be there, with "
            "a folder a class in each; add it"
        )
    return [_Labelled(path, label, part) for path, label in _by_label(folder)]


def _by_label(folder: Path) -> list[tuple[Path, str]]:
    """The pictures below a folder, each with the name of its class."""
    classes = _folders_in(folder)
    if len(classes) < 2:
        found = f"only the class folder {classes[0].name}" if classes else "no class folder"
        raise Refusal(
            f"{folder}: {found} in it: labels need two classes or more, each a folder with its "
            "pictures; add them, or set data.folder"
        )
    labelled = []
    for class_folder in classes:
        paths = _pictures_below(class_folder)
        if not paths:
            raise no_picture_in(class_folder, "put them there, or take the folder out")
        labelled += [(path, class_folder.name) for path in paths]
    return labelled


def _pictures_below(folder: Path) -> list[Path]:
    """The pictures in a folder and in those within it, in the order of ``ImageFolder``."""
    found = picture_files(folder)
    for inner in _folders_in(folder):
        found += _pictures_below(inner)
    return sorted(found, key=lambda path: (str(path.parent), path.name))


def _folders_in(folder: Path) -> list[Path]:
    """The folders right in a folder, by name, but hidden ones; none if there is no such folder."""
    if not folder.is_dir():
        return []
    inside = sorted(folder.iterdir())
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
