"""Images drawn from the prior, by label."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.errors import UserError
from isthmus.tasks.generate.sample_grids import (
    Arrays,
    conditioned_sides,
    random_draws,
    sample_grid_noise,
    unconditional_draws,
)
from isthmus.tasks.generate.trained_vae import TrainedVAE


def generated(
    model: TrainedVAE, labels: Int[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, "n channel height width"]:
    """One image for each label, values in [0, 1]; the model's unconditional label is allowed.

    The noise depends on the seed and on the place in ``labels``, not on the label: two calls
    with other labels draw the same style.
    """
    draws = torch.Generator().manual_seed(seed)
    return model.vae.images(model.vae.prior_draws(labels, draws), labels)


def drawn_sample_grid(
    model: TrainedVAE,
    sample_grid: Literal["random", "unconditional"],
    labels: Int[np.ndarray, " n"],
    seed: int,
) -> Arrays:
    """The arrays of a sample grid of 25 draws: each with one of the labels, or all without.

    A seed draws the same noise for either.

    Raises:
        UserError: If they shall be without and the model does not know what that is.
    """
    if sample_grid == "unconditional" and not model.knows_unconditional:
        raise UserError(
            "--grid unconditional: this model has no unconditional label (model.label_dropout = 0): only one that was "
            "trained without labels now and then can draw without; use --grid random"
        )
    vae, draws = model.vae, torch.Generator().manual_seed(seed)
    noise = sample_grid_noise(vae, draws)
    made = (
        random_draws(vae, labels, noise, draws)
        if sample_grid == "random"
        else unconditional_draws(vae, noise)
    )
    return conditioned_sides(model.recipe.model) | made
