"""Names in a recipe become objects: the one place where they do."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

import numpy as np
import platformdirs
import torch
from jaxtyping import Int
from torch import nn
from torch.utils.data import DataLoader

from isthmus import recipe as r
from isthmus.data.batches import Augmentation, LabelledImages, MaskedImages, augmentation
from isthmus.data.class_folder import ClassFolder
from isthmus.data.demo_digits import DemoDigits
from isthmus.data.demo_scenes import DemoScenes
from isthmus.data.folder import Folder
from isthmus.data.labelled_sets import labelled_set
from isthmus.data.oxford_pets import OxfordPets
from isthmus.data.splits import Split, split_of
from isthmus.data.store import (
    LabelledStore,
    MaskedSource,
    MaskedStore,
    OnProgress,
    Source,
    Store,
    open_labelled_store,
    open_store,
)
from isthmus.errors import UserError
from isthmus.losses import LossFunction, loss_named
from isthmus.nn.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS, PartMaker
from isthmus.nn.classifier import Judge
from isthmus.nn.conditioning import CONDITION_ON, CONDITIONINGS
from isthmus.nn.cvae import PRIORS, ConditionalVAE
from isthmus.nn.likelihoods import likelihood_named
from isthmus.nn.penalties import Penalty, penalty_named
from isthmus.nn.unet import UNet
from isthmus.nn.vae_blocks import BODIES, AuxiliaryClassifier, decoder_body, encoder_body

Rows = Int[np.ndarray, " n"]


def cache_folder() -> Path:
    """Where decoded images and downloads are kept: ISTHMUS_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ISTHMUS_CACHE") or platformdirs.user_cache_dir("isthmus"))


def masked_source_for(data: r.Data, data_root: Path | None) -> MaskedSource:
    """The images with masks that a recipe names, not yet decoded.

    Raises:
        UserError: If the data are not there or break a rule.
    """
    if data.name == "demo-scenes":
        return DemoScenes(data.count)
    if data.name == "folder":
        assert data.folder is not None  # the recipe has checked it
        return Folder(data.folder, data.classes, data.mask_values, data.test)
    root, download = _root(data_root)
    return OxfordPets(root, data.trimap, data.split, download)


def labelled_source_for(data: r.LabelledData, data_root: Path | None) -> Source:
    """The images with labels that a recipe names, not yet decoded.

    Raises:
        UserError: If the data are not there or break a rule.
    """
    if data.name == "demo-digits":
        return DemoDigits()
    if data.name == "classes":
        assert data.folder is not None  # the recipe has checked it
        return ClassFolder(data.folder, data.test)
    root, download = _root(data_root)
    return labelled_set(data.name, root, download)


def _root(data_root: Path | None) -> tuple[Path, bool]:
    """Where data sets lie, and whether a missing one may be downloaded into it.

    Args:
        data_root: None: ISTHMUS_DATA, or the cache folder, into which is then downloaded.
    """
    named = data_root or (Path(text) if (text := os.environ.get("ISTHMUS_DATA")) else None)
    if named is not None and not named.is_dir():
        raise UserError(
            f"data root {named} is not a folder: it must hold the data sets; "
            "name another with --data-root or ISTHMUS_DATA, or leave it out to download"
        )
    return named or cache_folder(), named is None


@overload
def store_for(
    data: r.Data, data_root: Path | None = ..., on_progress: OnProgress | None = ...
) -> MaskedStore: ...
@overload
def store_for(
    data: r.LabelledData, data_root: Path | None = ..., on_progress: OnProgress | None = ...
) -> LabelledStore: ...
def store_for(
    data: r.Data | r.LabelledData,
    data_root: Path | None = None,
    on_progress: OnProgress | None = None,
) -> MaskedStore | LabelledStore:
    """The images that a recipe names, decoded once and memory-mapped."""
    if isinstance(data, r.LabelledData):
        labelled = labelled_source_for(data, data_root)
        return open_labelled_store(
            labelled, data.size_px, data.channels, cache_folder(), on_progress
        )
    masked = masked_source_for(data, data_root)
    return open_store(masked, data.size_px, data.mask_resize, cache_folder(), on_progress)


def split_for(data: r.Data | r.LabelledData, store: Store, rng: np.random.Generator) -> Split:
    """Which images train, choose the epoch, and metric; the test part never depends on ``rng``."""
    validation = data.validation if data.has_validation else None
    return split_of(store, validation, data.limit, rng)


def augmentation_for(augment: r.Augment) -> Augmentation | None:
    """The random changes of a recipe, or None where every one is off."""
    if augment == r.Augment(flip=0.0, rotate_deg=0.0, scale=0.0, shift=0.0, colour=0.0):
        return None
    return augmentation(
        augment.flip, augment.rotate_deg, augment.scale, augment.shift, augment.colour
    )


def training_images(
    recipe: r.AnyRecipe, store: Any, rows: Rows, seed: int
) -> MaskedImages | LabelledImages:
    """Rows of a store with the recipe's random changes, drawn from the seed."""
    if isinstance(recipe, r.SegmentRecipe):
        return MaskedImages(store, rows, augmentation_for(recipe.augment), seed)
    return LabelledImages(store, rows, recipe.data.flip, recipe.data.shift_px, seed)


def leaves_one_over(images: int, batch: int) -> bool:
    """Whether the last batch of an epoch would be one image: batch norm rejects it, so it is left out."""
    return images > batch and images % batch == 1


def loader_in_order(recipe: r.AnyRecipe, store: Any, rows: Rows) -> DataLoader[Any]:
    """Batches of these rows in order, without random changes."""
    if isinstance(recipe, r.SegmentRecipe):
        images: MaskedImages | LabelledImages = MaskedImages(store, rows, None, 0)
    else:
        images = LabelledImages(store, rows, 0.0, 0, 0)
    return DataLoader(images, recipe.train.batch, collate_fn=images.collate)


def unet_for(model: r.Model, channels_in: int, num_classes: int) -> UNet:
    """The U-Net of a recipe, with fresh weights from torch's global generator."""
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


def vae_for(recipe: r.GenerateRecipe, num_labels: int) -> ConditionalVAE:
    """The VAE of a recipe, with fresh weights from torch's global generator."""
    model, data = recipe.model, recipe.data
    likelihood = likelihood_named(recipe.objective.likelihood)
    body = BODIES[model.body]
    encoder_side, decoder_side = CONDITION_ON[model.condition_on](CONDITIONINGS[model.conditioning])
    encoder = encoder_body(data.channels, data.size_px, model.width, body, encoder_side.modulate)
    auxiliary_classifier = None
    if model.condition_on == "classifier":
        auxiliary_classifier = AuxiliaryClassifier(
            encoder_body(data.channels, data.size_px, model.width, body), num_labels
        )
    maps = data.channels * likelihood.params_per_channel
    decoder = decoder_body(
        model.latent, maps, data.size_px, model.width, body, decoder_side.modulate
    )
    return ConditionalVAE(
        encoder,
        decoder,
        enter_encoder=encoder_side.enter(encoder.features, num_labels),
        enter_decoder=decoder_side.enter(model.latent, num_labels),
        prior=PRIORS[model.prior](model.latent, num_labels),
        likelihood=likelihood,
        latent=model.latent,
        num_labels=num_labels,
        auxiliary_classifier=auxiliary_classifier,
    )


def judge_for(recipe: r.ClassifyRecipe, num_labels: int) -> Judge:
    """The classifier of a recipe, with fresh weights from torch's global generator."""
    return Judge(recipe.data.channels, num_labels, recipe.model.width)


def penalty_for(objective: r.Objective, latent: int, num_labels: int) -> Penalty:
    """The penalty of a recipe; an adversary is a module with weights of its own."""
    return penalty_named(objective.invariance, objective.invariance_weight, latent, num_labels)


def loss_for(loss: r.Loss) -> LossFunction:
    """The loss of a recipe, as a function of logits and target."""
    return loss_named(loss.name, **loss.options)


def optimiser_for(train: r.Train, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over these weights."""
    if train.optimiser == "rmsprop":
        return torch.optim.RMSprop(
            weights, lr=train.lr, weight_decay=train.weight_decay, momentum=train.momentum or 0.0
        )
    return torch.optim.AdamW(weights, lr=train.lr, weight_decay=train.weight_decay, fused=True)


def schedule_for(
    train: r.Train, optimiser: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning-rate schedule of a recipe over all its steps."""
    climbing = max(train.warmup * steps, 2)  # torch divides by the steps between its two ends
    if train.schedule == "constant" or steps <= climbing:
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=train.lr,
        total_steps=steps,
        pct_start=climbing / steps,
        cycle_momentum=train.optimiser == "adamw",
    )
