"""One's own pictures drawn again: under other labels, under their own, and between each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.data.picture_files import read_image, size_in_words
from isthmus.data.resize import resized_image, with_channels
from isthmus.data.store import as_float
from isthmus.refusal import Refusal
from isthmus.runs.listening import wrong_labels_of
from isthmus.runs.sheets import (
    UNSAID,
    Arrays,
    Sources,
    interpolations,
    reconstructions,
    shown,
    swaps,
    told_sides,
    traversals,
)
from isthmus.runs.vae_on_arrays import Images, Labels
from isthmus.use.vae import NO_LABEL, TrainedVAE

_MOST_SQUEEZED = 1.1
"""The longer side over the shorter one: beyond it, what a square holds no longer looks the same."""


@dataclass(frozen=True)
class OwnPictures:
    """Picture files at a model's size and in its colours, with what they show."""

    files: tuple[Path, ...]
    images: Images
    """Values in [0, 1]."""
    true: Labels
    """``UNSAID`` where nobody said what a picture shows."""

    def row_names(self, model: TrainedVAE) -> list[str]:
        """Each file's stem, with what the picture shows where that is said."""
        known = (*model.class_names, NO_LABEL)
        pairs = zip(self.files, self.true, strict=True)
        return [f"{f.stem} ({known[true]})" if true != UNSAID else f.stem for f, true in pairs]


def read_pictures(
    model: TrainedVAE, files: Sequence[Path], true: Sequence[str] = ()
) -> OwnPictures:
    """Picture files as the model takes them.

    Args:
        model: Says size, colours and labels.
        files: Of pictures that are square, or nearly so.
        true: What they show: one label for all or one for each; without any, the name of a
            picture's folder, where the model has a label of that name.

    Raises:
        Refusal: If a file holds no picture or is far from square, or labels do not fit.
    """
    labels = _true_labels(model, files, true)
    data = model.recipe.data
    pixels = [
        resized_image(with_channels(_nearly_square(file), data.channels), data.size_px)
        for file in files
    ]
    return OwnPictures(tuple(files), as_float(torch.from_numpy(np.stack(pixels))).numpy(), labels)


def swapped_pictures(
    model: TrainedVAE, pictures: OwnPictures, labels: Sequence[int], seed: int
) -> Float[np.ndarray, "picture label channel height width"]:
    """Every picture encoded with what it shows and decoded under every label.

    Args:
        model: The trained VAE.
        pictures: What to draw again.
        labels: What to draw them as.
        seed: Draws the binarisation where the likelihood has one.

    Raises:
        Refusal: If the encoder is told what they show and nobody said it.
    """
    sources = _sources(model, pictures, model.label_to_encode_with, seed)
    mu, _ = model.vae.encoded(sources.target, sources.told)
    columns = [model.vae.pictures(mu, np.full(len(mu), label)) for label in labels]
    return np.stack(columns, axis=1)


def redrawn_sheet(
    model: TrainedVAE,
    sheet: Literal["swap", "swap_wrong", "reconstruction", "interpolation", "traversal"],
    pictures: OwnPictures,
    seed: int,
) -> Arrays:
    """The arrays of a sheet of one's own pictures.

    Args:
        model: The trained VAE.
        sheet: swap: under one wrong label each; swap_wrong: that told to the encoder too;
            interpolation: from each to the next; traversal: the first.
        pictures: What to draw again.
        seed: Draws the wrong labels, and the binarisation where the likelihood has one.

    Raises:
        Refusal: If a label is needed that nobody said, or a second picture, or an encoder that is
            told the label.
    """
    vae, settings = model.vae, model.recipe.model
    if sheet == "swap_wrong" and not settings.encoder_is_told:
        raise Refusal(
            f"--sheet swap_wrong: the encoder of this model (model.where = {settings.where!r}) is not told "
            "a label, so both protocols are one; use --sheet swap"
        )
    sources = _sources(model, pictures, model.label_to_redraw_with, seed)
    match sheet:
        case "swap" | "swap_wrong":
            given = _wrong_labels(model, pictures, seed)
            made = swaps(vae, sources, given, encoder_is_told=settings.encoder_is_told)
        case "reconstruction":
            made = reconstructions(vae, sources)
        case "interpolation":
            made = interpolations(vae, sources, _neighbours(pictures))
        case "traversal":
            made = traversals(vae, sources)
    own = {"source_word": np.array("picture")}  # and no test picture
    return own | told_sides(settings) | shown(sources) | made


def _true_labels(model: TrainedVAE, files: Sequence[Path], names: Sequence[str]) -> Labels:
    if not names:
        known = model.class_names
        folders = [file.parent.resolve().name for file in files]
        return np.array([known.index(name) if name in known else UNSAID for name in folders])
    if len(names) not in (1, len(files)):
        raise Refusal(
            f"--true has {len(names)} labels, which fit {len(names)} pictures, not {len(files)}: it "
            "takes one label for all or one for each; name as many"
        )
    labels = model.labels_named(tuple(names))
    return np.array(labels * len(files) if len(names) == 1 else labels)


def _nearly_square(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    pixels = read_image(file)
    shorter, longer = sorted(pixels.shape[:2])
    if longer > _MOST_SQUEEZED * shorter:
        raise Refusal(
            f"{file}: {size_in_words(pixels)}: the model draws squares, and a picture whose sides "
            f"differ by more than a factor of {_MOST_SQUEEZED} would be squeezed; crop it square"
        )
    return pixels


def _sources(
    model: TrainedVAE, pictures: OwnPictures, stand_in: Callable[[], int], seed: int
) -> Sources:
    """What sheets start from; ``stand_in`` gives the label to tell where nobody said it."""
    target = model.vae.target(pictures.images, torch.Generator().manual_seed(seed))
    told = pictures.true.copy()
    if (told == UNSAID).any():
        told[told == UNSAID] = stand_in()
    return Sources(pictures.images, target, pictures.true, told)


def _wrong_labels(model: TrainedVAE, pictures: OwnPictures, seed: int) -> Labels:
    num_labels = model.vae.network.num_labels
    for file, label in zip(pictures.files, pictures.true, strict=True):
        if not 0 <= label < num_labels:
            raise Refusal(
                f"{file}: nobody said what it shows: a wrong label is any but its own; name its "
                "own with --true, or put it into a folder of that name"
            )
    return wrong_labels_of(pictures.true, num_labels, seed)


def _neighbours(pictures: OwnPictures) -> Int[np.ndarray, "pair 2"]:
    """Each picture with the next."""
    count = len(pictures.files)
    if count < 2:
        raise Refusal(
            f"--sheet interpolation: {pictures.files[0]} is the only picture, and a row leads from "
            "each to the next one; name two or more"
        )
    return np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
