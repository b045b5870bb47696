"""Where the images and masks of a segmentation recipe come from, and how they are augmented."""

from __future__ import annotations

from pathlib import Path

from isthmus.data.batches import Augmentation, augmentation
from isthmus.data.demo_scenes import DemoScenes
from isthmus.data.folder import Folder
from isthmus.data.oxford_pets import OxfordPets
from isthmus.data.places import data_set_folder
from isthmus.data.store import MaskedSource
from isthmus.tasks.segment.recipe import Augment, Data


def source_for(data: Data, data_root: Path | None) -> MaskedSource:
    """The images with masks that a recipe names, not yet decoded.

    Raises:
        UserError: If the data are missing or break a rule.
    """
    if data.name == "demo-scenes":
        return DemoScenes(data.count)
    if data.name == "folder":
        assert data.folder is not None  # the recipe has checked it
        return Folder(data.folder, data.classes, data.mask_values, data.test)
    root, download = data_set_folder(data_root)
    return OxfordPets(root, data.trimap, data.split, download)


def augmentation_for(augment: Augment) -> Augmentation | None:
    """The recipe's augmentation, or None where every part of it is off."""
    if augment == Augment(flip=0.0, rotate_deg=0.0, scale=0.0, shift=0.0, colour=0.0):
        return None
    return augmentation(
        augment.flip, augment.rotate_deg, augment.scale, augment.shift, augment.colour
    )
