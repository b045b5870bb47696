"""How much a small network can read of the label in z."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from jaxtyping import Float, Int
from torch import nn

from isthmus.engine.seeds import stream, torch_seed

Known = tuple[Float[np.ndarray, "_ latent"], Int[np.ndarray, " _"]]
"""Latents and their labels."""


def probe_accuracy(
    training: Known, test: Known, num_labels: int, seed: int, *, epochs: int = 30
) -> float:
    """Share of test latents whose label a two-layer network says that learned from the others.

    Chance, 1 / num_labels for even labels, means that it found nothing; a better probe might.

    Source: Alain and Bengio 2016, Understanding intermediate layers using linear classifier
    probes (arXiv:1610.01644), with one hidden layer, so that a bent boundary is found too.
    """
    entropy = torch_seed(stream(seed, "probe"))
    mean, deviation = training[0].mean(axis=0), training[0].std(axis=0) + 1e-6
    z, y = (torch.from_numpy((of[0] - mean) / deviation).float() for of in (training, test))
    label = torch.from_numpy(training[1])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(entropy)
        probe = nn.Sequential(nn.Linear(z.shape[1], 128), nn.ReLU(), nn.Linear(128, num_labels))
        optimiser = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=1e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(z)).split(250):
                optimiser.zero_grad()
                F.cross_entropy(probe(z[rows]), label[rows]).backward()
                optimiser.step()
    with torch.inference_mode():
        said = probe(y).argmax(dim=1).numpy()
    return float((said == test[1]).mean())
