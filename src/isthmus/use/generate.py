"""Pictures drawn from the prior, by label."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.refusal import Refusal
from isthmus.runs.sheets import Arrays, null_draws, random_draws, sheet_noise, told_sides
from isthmus.use.vae import TrainedVAE


def generated(
    model: TrainedVAE, labels: Int[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, "n channel height width"]:
    """One picture for each label, values in [0, 1]; the model's null label is allowed.

    The noise depends on the seed and on the place in ``labels``, not on the label: two calls
    with other labels draw the same style.
    """
    draws = torch.Generator().manual_seed(seed)
    return model.vae.pictures(model.vae.prior_draws(labels, draws), labels)


def drawn_sheet(
    model: TrainedVAE, sheet: Literal["random", "null"], labels: Int[np.ndarray, " n"], seed: int
) -> Arrays:
    """The arrays of a sheet of 25 draws: each with one of the labels, or all without.

    A seed draws the same noise for either.

    Raises:
        Refusal: If they shall be without and the model does not know what that is.
    """
    if sheet == "null" and not model.knows_null:
        raise Refusal(
            "--sheet null: this model has no null label (model.null_rate = 0): only one that was "
            "trained without labels now and then can draw without; use --sheet random"
        )
    vae, draws = model.vae, torch.Generator().manual_seed(seed)
    noise = sheet_noise(vae, draws)
    made = random_draws(vae, labels, noise, draws) if sheet == "random" else null_draws(vae, noise)
    return told_sides(model.recipe.model) | made
