"""One's own pictures drawn again under other labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from isthmus.data.picture_files import read_image
from isthmus.data.resize import resized_image, with_channels
from isthmus.data.store import as_float
from isthmus.use.vae import TrainedVAE

Images = Float[np.ndarray, "n channel height width"]


def read_pictures(model: TrainedVAE, files: Sequence[Path]) -> Images:
    """Picture files at the model's size and in its colours.

    Raises:
        Refusal: If a file holds no picture.
    """
    data = model.recipe.data
    pixels = [
        resized_image(with_channels(read_image(file), data.channels), data.size_px)
        for file in files
    ]
    return as_float(torch.from_numpy(np.stack(pixels))).numpy()


def swapped_pictures(
    model: TrainedVAE, images: Images, true: int, labels: Sequence[int], seed: int
) -> Float[np.ndarray, "picture label channel height width"]:
    """Every picture encoded with ``true`` and decoded under every label.

    Args:
        model: The trained VAE.
        images: Values in [0, 1].
        true: What the pictures show; any label where the encoder is not told.
        labels: What to draw them as.
        seed: Draws the binarisation where the likelihood has one.
    """
    target = model.vae.target(images, torch.Generator().manual_seed(seed))
    mu, _ = model.vae.encoded(target, np.full(len(images), true))
    columns = [model.vae.pictures(mu, np.full(len(images), label)) for label in labels]
    return np.stack(columns, axis=1)
