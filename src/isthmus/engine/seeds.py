"""One seed, many independent streams of random numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Stream = Literal[
    "split",
    "init",
    "order",
    "augmentation",
    "dropout",
    # in evaluation a VAE:
    "wrong labels",
    "target",
    "elbo",
    "bound",
    "nll",
    "prior",
    "style",
    "probe images",
    "probe target",
    "probe training latents",
    "probe test latents",
    "probe",
    "sample_grids",
    "cas",
]
"""What a random draw is for. Split and order never depend on the variant."""


def stream(seed: int, purpose: Stream, index: int = 0) -> np.random.SeedSequence:
    """The entropy for one purpose (and one epoch, where each has its own).

    Two purposes never share numbers, so that drawing more for one cannot change another.

    >>> stream(0, "order").generate_state(1) != stream(0, "init").generate_state(1)
    array([ True])
    """
    return np.random.SeedSequence([seed, *purpose.encode(), index])


def torch_seed(entropy: np.random.SeedSequence) -> int:
    """A seed for ``torch.manual_seed``; lies in [0, 2**63)."""
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_draws(seed: int, purpose: Stream, index: int = 0) -> np.random.Generator:
    """A generator for one purpose; what it draws depends on nothing else."""
    return np.random.default_rng(stream(seed, purpose, index))


def torch_draws(seed: int, purpose: Stream) -> torch.Generator:
    """The same for torch."""
    return torch.Generator().manual_seed(torch_seed(stream(seed, purpose)))
