"""The datasets that a recipe can name: functions of its data table and of the folder of the datasets.

The folder is the value of ``--data-root``; None stands for the default, as in ``data_set_folder``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.data.class_folder import ClassFolder
from isthmus.data.demo_digits import DemoDigits
from isthmus.data.demo_scenes import DemoScenes
from isthmus.data.folder import Folder
from isthmus.data.labelled_sets import labelled_set
from isthmus.data.oxford_pets import OxfordPets
from isthmus.data.places import data_set_folder
from isthmus.data.store import MaskedSource, Source


def demo_scenes(data: Any, data_root: Path | None) -> MaskedSource:  # noqa: ARG001
    """Digits in photographs."""
    return DemoScenes(data.count)


def folder(data: Any, data_root: Path | None) -> MaskedSource:  # noqa: ARG001
    """A user's own images and masks."""
    return Folder(data.folder, data.classes, data.mask_values, data.test)


def oxford_pets(data: Any, data_root: Path | None) -> MaskedSource:
    """Oxford-IIIT Pet."""
    root, download = data_set_folder(data_root)
    return OxfordPets(root, data.trimap, data.split, download)


def demo_digits(data: Any, data_root: Path | None) -> Source:  # noqa: ARG001
    """Handwritten digits from an installed package."""
    return DemoDigits()


def classes(data: Any, data_root: Path | None) -> Source:  # noqa: ARG001
    """A user's own images, one folder per class."""
    return ClassFolder(data.folder, data.test)


def labelled_set_of(data: Any, data_root: Path | None) -> Source:
    """The key of ``labelled_sets.SETS`` that the table names."""
    return labelled_set(data.name, *data_set_folder(data_root))
