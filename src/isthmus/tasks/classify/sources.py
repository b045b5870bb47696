"""Where the images of a recipe with labels come from."""

from __future__ import annotations

from pathlib import Path

from isthmus.data.class_folder import ClassFolder
from isthmus.data.demo_digits import DemoDigits
from isthmus.data.labelled_sets import labelled_set
from isthmus.data.places import data_set_folder
from isthmus.data.store import Source
from isthmus.recipe import LabelledData


def source_for(data: LabelledData, data_root: Path | None) -> Source:
    """The images with labels that a recipe names, not yet decoded.

    Raises:
        UserError: If the data are missing or break a rule.
    """
    if data.name == "demo-digits":
        return DemoDigits()
    if data.name == "classes":
        assert data.folder is not None  # the recipe has checked it
        return ClassFolder(data.folder, data.test)
    root, download = data_set_folder(data_root)
    return labelled_set(data.name, root, download)
