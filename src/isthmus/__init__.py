"""isthmus trains encoder-decoder image models, compares them honestly and puts the winner to use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.errors import UserError as UserError
    from isthmus.losses import bce_loss as bce_loss
    from isthmus.losses import ce_loss as ce_loss
    from isthmus.losses import dice_loss as dice_loss
    from isthmus.losses import focal_loss as focal_loss
    from isthmus.losses import tversky_loss as tversky_loss
    from isthmus.metrics.segmentation import segmentation_metrics as segmentation_metrics
    from isthmus.nn.cvae import ConditionalVAE as ConditionalVAE
    from isthmus.nn.unet import UNet as UNet
    from isthmus.study.plan import StudyPlan as StudyPlan
    from isthmus.study.plan import load_plan as load_plan
    from isthmus.study.run import run_study as run_study
    from isthmus.tasks.generate.recipe import GenerateRecipe as GenerateRecipe
    from isthmus.tasks.segment.recipe import SegmentRecipe as SegmentRecipe

_HOMES = {
    "isthmus.nn.cvae": ("ConditionalVAE",),
    "isthmus.nn.unet": ("UNet",),
    "isthmus.errors": ("UserError",),
    "isthmus.losses": (
        "bce_loss",
        "ce_loss",
        "dice_loss",
        "focal_loss",
        "tversky_loss",
    ),
    "isthmus.metrics.segmentation": ("segmentation_metrics",),
    "isthmus.study.plan": ("StudyPlan", "load_plan"),
    "isthmus.study.run": ("run_study",),
    "isthmus.tasks.generate.recipe": ("GenerateRecipe",),
    "isthmus.tasks.segment.recipe": ("SegmentRecipe",),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that importing isthmus stays light."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
