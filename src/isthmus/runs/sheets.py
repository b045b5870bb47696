"""What a trained VAE shows: arrays of pictures with the labels that went in, ready to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.data.store import as_bytes
from isthmus.runs.listening import Images, Labels, TestPart, evenly_from_labels
from isthmus.runs.vae_on_arrays import VAEOnArrays

_SHEET = 25
_STEPS = 10
_ROWS = 5


def sheets_of(
    vae: VAEOnArrays, test: TestPart, draws: torch.Generator, *, knows_null: bool
) -> dict[str, Any]:
    """All sheets of one run, as uint8 [n, channel, height, width] and labels [n].

    ``swap_*``: 25 test pictures, encoded with their true label and decoded with a wrong one.
    ``random_*``: 25 draws from the prior with random labels; ``null_*``: 25 without a label, if
    the network ``knows_null``.
    ``style_*``: one z a row, one label a column. ``reconstruction_*``; ``interpolation_*``: ten
    steps between two pictures of a label, a row each; ``traversal_*``: one unit of z a row.
    """
    target, labels, given = test.target, test.labels, test.given
    num_labels, null = vae.network.num_labels, vae.network.null_label
    rows = evenly_from_labels(labels, _SHEET)
    mu, _ = vae.encoded(target[rows], labels[rows])
    every = np.arange(num_labels)
    random = torch.randint(num_labels, (_SHEET,), generator=draws).numpy()
    nulls = np.full(_SHEET, null)
    unlabelled = vae.pictures(vae.prior_draws(nulls, draws), nulls)
    per_row = min(_STEPS, num_labels)
    return {
        "swap_source": as_bytes(test.images[rows]),
        "swap_true": labels[rows],
        "swap_given": given[rows],
        "swap_output": as_bytes(vae.pictures(mu, given[rows])),
        "reconstruction_output": as_bytes(vae.pictures(mu, labels[rows])),
        "random_given": random,
        "random_output": as_bytes(vae.pictures(vae.prior_draws(random, draws), random)),
        **({"null_output": as_bytes(unlabelled)} if knows_null else {}),
        "style_output": as_bytes(_styles(vae, every[:per_row], draws)),
        "interpolation_label": np.unique(labels)[:_ROWS],
        "interpolation_output": as_bytes(_interpolations(vae, target, labels)),
        "traversal_output": as_bytes(_traversals(vae, mu, labels[rows])),
        "traversal_unit": _busiest_units(mu),
    }


def _styles(vae: VAEOnArrays, labels: Labels, draws: torch.Generator) -> Images:
    """Ten z from the standard normal, each under every label."""
    noise = torch.randn(_STEPS, vae.network.latent, generator=draws)
    label = np.tile(labels, _STEPS)
    with torch.inference_mode():
        mu, log_sigma = (t.numpy() for t in vae.network.prior(torch.from_numpy(label)))
    z = mu + np.exp(log_sigma) * np.repeat(noise.numpy(), len(labels), axis=0)
    return vae.pictures(z, label)


def _interpolations(vae: VAEOnArrays, target: Images, labels: Labels) -> Images:
    """For five labels: from the mean z of one test picture to that of the next, in a line."""
    pairs = []
    for label in np.unique(labels)[:_ROWS]:
        rows = np.flatnonzero(labels == label)[:2]
        mu, _ = vae.encoded(target[rows], labels[rows])
        share = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
        z = (1 - share) * mu[0] + share * mu[-1]
        pairs.append(vae.pictures(z, np.full(_STEPS, label)))
    return np.concatenate(pairs)


def _traversals(vae: VAEOnArrays, mu: Float[np.ndarray, "n latent"], labels: Labels) -> Images:
    """The first picture with one unit of z moved over 3 sigma of the prior, for the five busiest units."""
    z = np.repeat(mu[:1], _ROWS * _STEPS, axis=0)
    with torch.inference_mode():
        centre, log_sigma = (of[0].numpy() for of in vae.network.prior(torch.from_numpy(labels)))
    sigmas = np.linspace(-3, 3, _STEPS, dtype=np.float32)
    for row, unit in enumerate(_busiest_units(mu)):
        moved = centre[unit] + np.exp(log_sigma[unit]) * sigmas
        z[row * _STEPS : (row + 1) * _STEPS, unit] = moved
    return vae.pictures(z, np.full(len(z), labels[0]))


def _busiest_units(mu: Float[np.ndarray, "n latent"]) -> Int[np.ndarray, " unit"]:
    """The five units whose posterior means vary most."""
    return np.argsort(-mu.var(axis=0), kind="stable")[:_ROWS]
