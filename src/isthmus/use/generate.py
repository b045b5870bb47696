"""Pictures drawn from the prior, by label."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

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
