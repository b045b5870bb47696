"""Generate images with a trained VAE: from samples of the prior, or from the user's own images."""

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
"""Largest ratio of the sides of an image; images are resized to squares, which distorts longer images."""


def generated(model: TrainedVAE, labels: Labels, seed: int) -> Images:
    """Generate one image per label, with z sampled from the prior; the null label is allowed.

    The noise of an image depends on the seed and the position of the image, not on its label: two
    calls with different labels use the same noise.
    """
    draws = torch.Generator().manual_seed(seed)
    return model.vae.images(model.vae.prior_draws(labels, draws), labels)


def drawn_sample_grid(
    model: TrainedVAE,
    sample_grid: Literal["random", "unconditional"],
    labels: Int[np.ndarray, " label"],
    seed: int,
) -> Arrays:
    """The arrays of a sample grid of 25 generated images, with random labels or with the null label.

    With the same seed, both kinds of grid have the same noise.

    Args:
        model: The trained VAE.
        sample_grid: "random": each image has a random one of ``labels``; "unconditional": all images
            have the null label.
        labels: The labels to choose from.
        seed: Determines noise and labels.

    Raises:
        UserError: If ``sample_grid`` is "unconditional" and the model has no null label.
    """
    if sample_grid == "unconditional" and not model.knows_unconditional:
        raise UserError(
            "--grid unconditional: this model cannot generate images without a label, because it was "
            "trained without label dropout (model.label_dropout = 0); use --grid random"
        )
    vae, draws = model.vae, torch.Generator().manual_seed(seed)
    noise, sides = grids.sample_grid_noise(vae, draws), grids.conditioned_sides(model.recipe.model)
    if sample_grid == "random":
        return sides | grids.random_draws(vae, labels, noise, draws)
    return sides | grids.unconditional_draws(vae, noise)


@dataclass(frozen=True)
class OwnImages:
    """Images from files, converted to the size and the channels of a model, with their labels."""

    files: tuple[Path, ...]
    images: Images
    """Values in [0, 1]."""
    true: Labels
    """True labels; ``UNKNOWN_LABEL`` if the label of an image is not known."""

    def row_names(self, model: TrainedVAE) -> list[str]:
        """The stem of each file, followed by the name of the image's label if the label is known."""
        names = (*model.class_names, NO_LABEL)
        stems = [file.stem for file in self.files]
        pairs = zip(stems, self.true, strict=True)
        return [stem if of == UNKNOWN_LABEL else f"{stem} ({names[of]})" for stem, of in pairs]


def read_images(model: TrainedVAE, files: Sequence[Path], true: Sequence[str] = ()) -> OwnImages:
    """Read image files and resize them for the model.

    Args:
        model: Provides the size, the channels and the names of labels.
        files: Image files; the sides of an image must have nearly the same length.
        true: Names of the true labels: one name for all images or one name per image. If empty, the
            label of an image is the name of its folder, provided that the model has such a label.

    Raises:
        UserError: If a file is not an image, an image is far from square, or names do not fit.
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
    """Encode every image with its own label, and decode it with each of these labels.

    Args:
        model: The trained VAE.
        images: The images to encode.
        labels: The labels to decode with.
        seed: Determines the binarisation, if the likelihood has a random binarisation.

    Raises:
        UserError: If the encoder is conditioned on the label and the label of an image is not known.
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
    """The arrays of a sample grid of the user's own images.

    Args:
        model: The trained VAE.
        sample_grid: "swap": each image decoded with a random wrong label; "swap_wrong": also encoded
            with the wrong label; "reconstruction": encoded and decoded with the same label;
            "interpolation": from each image to the next image; "traversal": of the first image.
        images: The images to encode.
        seed: Determines the wrong labels, and the binarisation if the likelihood has a random one.

    Raises:
        UserError: If the sample grid needs a label that is not known, a second image, or an encoder
            that is conditioned on the label.
    """
    vae, settings = model.vae, model.recipe.model
    encoder_too = settings.encoder_is_conditioned
    if sample_grid == "swap_wrong" and not encoder_too:
        raise UserError(
            f"--grid swap_wrong: the encoder of this model (model.condition_on = {settings.condition_on!r}) "
            "is not conditioned on the given label, so swap_wrong would equal swap; use --grid swap"
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
            f"--true has {len(names)} labels, but there are {len(files)} images: it takes one label for "
            f"all images or one label per image; name 1 or {len(files)} labels"
        )
    labels = model.labels_named(names)
    return np.array(labels * len(files) if len(names) == 1 else labels)


def _nearly_square(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    pixels = read_image(file)
    shorter, longer = sorted(pixels.shape[:2])
    if longer > _MOST_ELONGATED * shorter:
        raise UserError(
            f"{file}: {size_in_words(pixels)}: the model generates square images, and an image whose sides "
            f"differ by more than a factor of {_MOST_ELONGATED} would be distorted; crop it to a square"
        )
    return pixels


def _sources(model: TrainedVAE, images: OwnImages, seed: int, *, is_decoded_with: bool) -> Sources:
    """The images as sources of a sample grid, each with a label that the network is conditioned on."""
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
                f"{file}: the label of this image is not known, but a wrong label must differ from it; "
                "name the true label with --true, or move the image into a folder of that name"
            )
    return wrong_labels_of(images.true, num_labels, seed)


def _neighbours(images: OwnImages) -> Int[np.ndarray, "pair 2"]:
    """Pairs of each image and the next image."""
    count = len(images.files)
    if count < 2:
        raise UserError(
            f"--grid interpolation: {images.files[0]} is the only image, but each row leads from one "
            "image to the next; name two or more images"
        )
    return np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
