"""Independent streams of random numbers, all derived from one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Stream = Literal[
    "split",
    "init",
    "order",
    "augmentation",
    "dropout",
    # the others belong to the evaluation of a VAE
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
"""The purpose of a random draw. Split and order never depend on the variant."""


def stream(seed: int, purpose: Stream, index: int = 0) -> np.random.SeedSequence:
    """Entropy for one purpose (``index``: the epoch, for what is drawn anew in each).

    Streams of different purposes are independent: drawing more from one never changes another.

    >>> stream(0, "order").generate_state(1) != stream(0, "init").generate_state(1)
    array([ True])
    """
    return np.random.SeedSequence([seed, *purpose.encode(), index])


def torch_seed(seed: int, purpose: Stream, index: int = 0) -> int:
    """A seed for ``torch.manual_seed``, in [0, 2**63)."""
    return int(stream(seed, purpose, index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_draws(seed: int, purpose: Stream, index: int = 0) -> np.random.Generator:
    """A new numpy generator for one purpose."""
    return np.random.default_rng(stream(seed, purpose, index))


def torch_draws(seed: int, purpose: Stream) -> torch.Generator:
    """A new torch generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(torch_seed(seed, purpose))
