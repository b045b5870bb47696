"""Images that a trained VAE makes on request: draws from its prior, and one's own images again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.data.batches import as_float
from isthmus.data.images import read_image, resized_image, size_in_words, with_channels
from isthmus.errors import UserError
from isthmus.tasks.generate import sample_grids as grids
from isthmus.tasks.generate.label_swap import wrong_labels_of
from isthmus.tasks.generate.sample_grids import UNKNOWN_LABEL, Arrays, Sources
from isthmus.tasks.generate.trained_vae import NO_LABEL, TrainedVAE
from isthmus.tasks.generate.vae_on_arrays import Images, Labels

_MOST_ELONGATED = 1.1
"""Largest ratio of an image's sides: it is resized to a square, which must not distort it."""


def generated(model: TrainedVAE, labels: Labels, seed: int) -> Images:
    """One image for each label, drawn from the prior; the unconditional label is allowed.

    The noise of a draw depends on the seed and its position, not on its label: two calls with
    different labels draw the same styles.
    """
    draws = torch.Generator().manual_seed(seed)
    return model.vae.images(model.vae.prior_draws(labels, draws), labels)


def drawn_sample_grid(
    model: TrainedVAE,
    sample_grid: Literal["random", "unconditional"],
    labels: Int[np.ndarray, " label"],
    seed: int,
) -> Arrays:
    """The arrays of a sample grid of 25 draws: each with one of the labels, or all with none.

    Both kinds have the same noise, for one seed.

    Raises:
        UserError: If "unconditional" is asked of a model without an unconditional label.
    """
    if sample_grid == "unconditional" and not model.knows_unconditional:
        raise UserError(
            "--grid unconditional: this model has no unconditional label, because it was trained without "
            "label dropout (model.label_dropout = 0); use --grid random"
        )
    vae, draws = model.vae, torch.Generator().manual_seed(seed)
    noise, sides = grids.sample_grid_noise(vae, draws), grids.conditioned_sides(model.recipe.model)
    if sample_grid == "random":
        return sides | grids.random_draws(vae, labels, noise, draws)
    return sides | grids.unconditional_draws(vae, noise)


@dataclass(frozen=True)
class OwnImages:
    """Image files at a model's size and with its channels, and their labels."""

    files: tuple[Path, ...]
    images: Images
    """Values in [0, 1]."""
    true: Labels
    """``UNKNOWN_LABEL`` where the label is not known."""

    def row_names(self, model: TrainedVAE) -> list[str]:
        """The stem of each file, and the name of its label if that is known."""
        names = (*model.class_names, NO_LABEL)
        stems = [file.stem for file in self.files]
        pairs = zip(stems, self.true, strict=True)
        return [stem if of == UNKNOWN_LABEL else f"{stem} ({names[of]})" for stem, of in pairs]


def read_images(model: TrainedVAE, files: Sequence[Path], true: Sequence[str] = ()) -> OwnImages:
    """Image files resized for the model.

    Args:
        model: Has size, channels and names of labels.
        files: Images with sides of nearly the same length.
        true: The name of their label: one for all or one for each. If it is left out, an image's
            label is the name of its folder, if the model has a label of that name.

    Raises:
        UserError: If a file holds no image, or one far from square, or labels do not fit.
    """
    labels, data = _true_labels(model, files, true), model.recipe.data
    pixels = [
        resized_image(with_channels(_nearly_square(file), data.channels), data.size_px)
        for file in files
    ]
    return OwnImages(tuple(files), as_float(torch.from_numpy(np.stack(pixels))).numpy(), labels)


def swapped_images(
    model: TrainedVAE, images: OwnImages, labels: Sequence[int], seed: int
) -> Float[np.ndarray, "image label channel height width"]:
    """Every image encoded with its own label and decoded with each of these labels.

    Args:
        model: The trained VAE.
        images: The images to encode.
        labels: The labels to decode with.
        seed: Decides the binarisation, if the likelihood has one.

    Raises:
        UserError: If the encoder is conditioned on a label that is not known.
    """
    sources = _sources(model, images, seed, is_decoded_with=False)
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
        sample_grid: "swap": each decoded with a random wrong label; "swap_wrong": encoded with it
            too; "interpolation": from each to the next; "traversal": of the first.
        images: The images to encode.
        seed: Decides the wrong labels, and the binarisation if the likelihood has one.

    Raises:
        UserError: If a label is needed that is not known, or a second image, or an encoder that is
            conditioned on the label.
    """
    vae, settings = model.vae, model.recipe.model
    encoder_too = settings.encoder_is_conditioned
    if sample_grid == "swap_wrong" and not encoder_too:
        raise UserError(
            f"--grid swap_wrong: the encoder of this model (model.condition_on = {settings.condition_on!r}) "
            "is not conditioned on the given label, so both protocols are the same; use --grid swap"
        )
    sources = _sources(model, images, seed, is_decoded_with=True)
    match sample_grid:
        case "swap" | "swap_wrong":
            given = _wrong_labels(model, images, seed)
            arrays = grids.swaps(vae, sources, given, encoder_too=encoder_too)
        case "reconstruction":
            arrays = grids.reconstructions(vae, sources)
        case "interpolation":
            arrays = grids.interpolations(vae, sources, _neighbours(images))
        case "traversal":
            arrays = grids.traversals(vae, sources)
    source_word = {"source_word": np.array("image")}  # the captions' default is "test image"
    return source_word | grids.conditioned_sides(settings) | grids.shown(sources) | arrays


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
    labels = model.labels_named(names)
    return np.array(labels * len(files) if len(names) == 1 else labels)


def _nearly_square(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    pixels = read_image(file)
    shorter, longer = sorted(pixels.shape[:2])
    if longer > _MOST_ELONGATED * shorter:
        raise UserError(
            f"{file}: {size_in_words(pixels)}: the model draws squares, and an image whose sides "
            f"differ by more than a factor of {_MOST_ELONGATED} would be distorted; crop it square"
        )
    return pixels


def _sources(model: TrainedVAE, images: OwnImages, seed: int, *, is_decoded_with: bool) -> Sources:
    """The images as sources of a sample grid, with a label to condition on for each."""
    target = model.vae.target(images.images, torch.Generator().manual_seed(seed))
    condition = images.true.copy()
    if (condition == UNKNOWN_LABEL).any():
        substitute = model.label_if_unknown(is_decoded_with=is_decoded_with)
        condition[condition == UNKNOWN_LABEL] = substitute
    return Sources(images.images, target, images.true, condition)


def _wrong_labels(model: TrainedVAE, images: OwnImages, seed: int) -> Labels:
    num_labels = model.vae.network.num_labels
    for file, label in zip(images.files, images.true, strict=True):
        if not 0 <= label < num_labels:
            raise UserError(
                f"{file}: its label is not known: a wrong label is any but its own; name its own "
                "with --true, or put it into a folder of that name"
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
