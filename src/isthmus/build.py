"""Names in a recipe become objects: the one place where they do."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn

from isthmus import recipe as r
from isthmus.data.augment import Augmentation, augmentation
from isthmus.data.demo_scenes import DemoScenes
from isthmus.data.folder import Folder
from isthmus.data.oxford_pets import OxfordPets
from isthmus.data.splits import Split, split_of
from isthmus.data.store import Source, Store, open_store
from isthmus.models.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS, PartMaker
from isthmus.models.unet import UNet
from isthmus.refusal import Refusal
from isthmus.scoring.losses import loss_named

LossFunction = Callable[[Tensor, Tensor], Tensor]


def cache_folder() -> Path:
    """Where decoded pictures and downloads are kept: ISTHMUS_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ISTHMUS_CACHE") or platformdirs.user_cache_dir("isthmus"))


def source_for(data: r.Data, data_root: Path | None) -> Source:
    """The pictures that a recipe names, not yet decoded.

    Args:
        data: The recipe's data table.
        data_root: Where data sets lie; None: ISTHMUS_DATA, or the cache folder, into which
            a missing data set is then downloaded.

    Raises:
        Refusal: If the data are not there or break a rule.
    """
    if data.name == "demo-scenes":
        return DemoScenes(data.count)
    if data.name == "folder":
        assert data.folder is not None  # the recipe has checked it
        return Folder(data.folder, data.classes, data.mask_values, data.test)
    named = data_root or (Path(text) if (text := os.environ.get("ISTHMUS_DATA")) else None)
    if named is not None and not named.is_dir():
        raise Refusal(
            f"data root {named} is not a folder: it must hold the data sets; "
            "name another with --data-root or ISTHMUS_DATA, or leave it out to download"
        )
    return OxfordPets(named or cache_folder(), data.trimap, data.split, download=named is None)


def store_for(
    data: r.Data,
    data_root: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Store:
    """The pictures and masks that a recipe names, decoded once and memory-mapped."""
    source = source_for(data, data_root)
    return open_store(source, data.size_px, data.mask_resize, cache_folder(), on_progress)


def split_for(data: r.Data, store: Store, rng: np.random.Generator) -> Split:
    """Which pictures train, choose the epoch, and score; the test part never depends on ``rng``."""
    validation = None if data.split == "reference" else data.validation
    return split_of(store, validation, data.limit, rng)


def augmentation_for(augment: r.Augment) -> Augmentation | None:
    """The random changes of a recipe, or None where every one is off."""
    if augment == r.Augment(flip=0.0, rotate_deg=0.0, scale=0.0, shift=0.0, colour=0.0):
        return None
    return augmentation(
        augment.flip, augment.rotate_deg, augment.scale, augment.shift, augment.colour
    )


def network_for(model: r.Model, channels_in: int, num_classes: int) -> UNet:
    """The network of a recipe, with fresh weights from torch's global generator."""
    return UNet(
        channels_in=channels_in,
        num_classes=num_classes,
        width=model.width,
        depth=model.depth,
        down=DOWN_SAMPLERS[model.down],
        up=UP_SAMPLERS[model.up],
        make=PartMaker(
            norm=NORMS[model.norm],
            dropout=functools.partial(DROPOUTS[model.dropout], model.dropout_rate),
        ),
    )


def loss_for(loss: r.Loss) -> LossFunction:
    """The loss of a recipe, as a function of logits and target."""
    return loss_named(loss.name, **loss.options)


def optimiser_for(train: r.Train, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over these weights."""
    if train.optimiser == "rmsprop":
        return torch.optim.RMSprop(
            weights, lr=train.lr, weight_decay=train.weight_decay, momentum=train.momentum or 0.0
        )
    return torch.optim.AdamW(weights, lr=train.lr, weight_decay=train.weight_decay)


def schedule_for(
    train: r.Train, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning-rate schedule of a recipe over all its steps."""
    if train.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=train.lr, total_steps=steps, pct_start=train.warmup
    )
