"""One's own images drawn again: under other labels, under their own, and between each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.data.images import read_image, resized_image, size_in_words, with_channels
from isthmus.data.store import as_float
from isthmus.errors import UserError
from isthmus.tasks.generate.label_swap import wrong_labels_of
from isthmus.tasks.generate.sample_grids import (
    UNKNOWN_LABEL,
    Arrays,
    Sources,
    conditioned_sides,
    interpolations,
    reconstructions,
    shown,
    swaps,
    traversals,
)
from isthmus.tasks.generate.trained_vae import NO_LABEL, TrainedVAE
from isthmus.tasks.generate.vae_on_arrays import Images, Labels

_MOST_SQUEEZED = 1.1
"""The longer side over the shorter one: beyond it, what a square holds no longer looks the same."""


@dataclass(frozen=True)
class OwnImages:
    """Image files at a model's size and in its colours, with what they show."""

    files: tuple[Path, ...]
    images: Images
    """Values in [0, 1]."""
    true: Labels
    """``UNKNOWN_LABEL`` where nobody said what an image shows."""

    def row_names(self, model: TrainedVAE) -> list[str]:
        """Each file's stem, with what the image shows where that is said."""
        known = (*model.class_names, NO_LABEL)
        pairs = zip(self.files, self.true, strict=True)
        return [
            f"{f.stem} ({known[true]})" if true != UNKNOWN_LABEL else f.stem for f, true in pairs
        ]


def read_images(model: TrainedVAE, files: Sequence[Path], true: Sequence[str] = ()) -> OwnImages:
    """Image files as the model takes them.

    Args:
        model: Says size, colours and labels.
        files: Of images that are square, or nearly so.
        true: What they show: one label for all or one for each; without any, the name of a
            image's folder, where the model has a label of that name.

    Raises:
        UserError: If a file holds no image or is far from square, or labels do not fit.
    """
    labels = _true_labels(model, files, true)
    data = model.recipe.data
    pixels = [
        resized_image(with_channels(_nearly_square(file), data.channels), data.size_px)
        for file in files
    ]
    return OwnImages(tuple(files), as_float(torch.from_numpy(np.stack(pixels))).numpy(), labels)


def swapped_images(
    model: TrainedVAE, images: OwnImages, labels: Sequence[int], seed: int
) -> Float[np.ndarray, "image label channel height width"]:
    """Every image encoded with what it shows and decoded under every label.

    Args:
        model: The trained VAE.
        images: What to draw again.
        labels: What to draw them as.
        seed: Draws the binarisation where the likelihood has one.

    Raises:
        UserError: If the encoder is told what they show and nobody said it.
    """
    sources = _sources(model, images, model.label_to_encode_with, seed)
    mu, _ = model.vae.encoded(sources.target, sources.condition)
    columns = [model.vae.images(mu, np.full(len(mu), label)) for label in labels]
    return np.stack(columns, axis=1)


def redrawn_sample_grid(
    model: TrainedVAE,
    sample_grid: Literal["swap", "swap_wrong", "reconstruction", "interpolation", "traversal"],
    images: OwnImages,
    seed: int,
) -> Arrays:
    """The arrays of a sample grid of one's own images.

    Args:
        model: The trained VAE.
        sample_grid: swap: under one wrong label each; swap_wrong: that told to the encoder too;
            interpolation: from each to the next; traversal: the first.
        images: What to draw again.
        seed: Draws the wrong labels, and the binarisation where the likelihood has one.

    Raises:
        UserError: If a label is needed that nobody said, or a second image, or an encoder that is
            told the label.
    """
    vae, settings = model.vae, model.recipe.model
    if sample_grid == "swap_wrong" and not settings.encoder_is_conditioned:
        raise UserError(
            f"--grid swap_wrong: the encoder of this model (model.condition_on = {settings.condition_on!r}) is not told "
            "a label, so both protocols are one; use --grid swap"
        )
    sources = _sources(model, images, model.label_to_redraw_with, seed)
    match sample_grid:
        case "swap" | "swap_wrong":
            given = _wrong_labels(model, images, seed)
            made = swaps(
                vae, sources, given, encoder_is_conditioned=settings.encoder_is_conditioned
            )
        case "reconstruction":
            made = reconstructions(vae, sources)
        case "interpolation":
            made = interpolations(vae, sources, _neighbours(images))
        case "traversal":
            made = traversals(vae, sources)
    own = {"source_word": np.array("image")}  # and no test image
    return own | conditioned_sides(settings) | shown(sources) | made


def _true_labels(model: TrainedVAE, files: Sequence[Path], names: Sequence[str]) -> Labels:
    if not names:
        known = model.class_names
        folders = [file.parent.resolve().name for file in files]
        return np.array([known.index(name) if name in known else UNKNOWN_LABEL for name in folders])
    if len(names) not in (1, len(files)):
        raise UserError(
            f"--true has {len(names)} labels, which fit {len(names)} images, not {len(files)}: it "
            "takes one label for all or one for each; name as many"
        )
    labels = model.labels_named(tuple(names))
    return np.array(labels * len(files) if len(names) == 1 else labels)


def _nearly_square(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    pixels = read_image(file)
    shorter, longer = sorted(pixels.shape[:2])
    if longer > _MOST_SQUEEZED * shorter:
        raise UserError(
            f"{file}: {size_in_words(pixels)}: the model draws squares, and an image whose sides "
            f"differ by more than a factor of {_MOST_SQUEEZED} would be squeezed; crop it square"
        )
    return pixels


def _sources(
    model: TrainedVAE, images: OwnImages, stand_in: Callable[[], int], seed: int
) -> Sources:
    """What sample grids start from; ``stand_in`` gives the label to tell where nobody said it."""
    target = model.vae.target(images.images, torch.Generator().manual_seed(seed))
    condition = images.true.copy()
    if (condition == UNKNOWN_LABEL).any():
        condition[condition == UNKNOWN_LABEL] = stand_in()
    return Sources(images.images, target, images.true, condition)


def _wrong_labels(model: TrainedVAE, images: OwnImages, seed: int) -> Labels:
    num_labels = model.vae.network.num_labels
    for file, label in zip(images.files, images.true, strict=True):
        if not 0 <= label < num_labels:
            raise UserError(
                f"{file}: nobody said what it shows: a wrong label is any but its own; name its "
                "own with --true, or put it into a folder of that name"
            )
    return wrong_labels_of(images.true, num_labels, seed)


def _neighbours(images: OwnImages) -> Int[np.ndarray, "pair 2"]:
    """Each image with the next."""
    count = len(images.files)
    if count < 2:
        raise UserError(
            f"--grid interpolation: {images.files[0]} is the only image, and a row leads from "
            "each to the next one; name two or more"
        )
    return np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
