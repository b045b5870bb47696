"""What a trained VAE shows: arrays of images with the labels that went in, ready to be drawn.

Each sample grid is a function, for a run's test images and anybody's own. Images are uint8
[n, channel, height, width], labels [n]; an array's name starts with that of its sample grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.store import as_bytes
from isthmus.metrics.generation import kl_nats
from isthmus.tasks.generate.label_swap import Images, Labels, TestPart, evenly_from_labels
from isthmus.tasks.generate.recipe import VAE
from isthmus.tasks.generate.vae_on_arrays import Latents, Posterior, VAEOnArrays

Arrays = dict[str, Any]

UNKNOWN_LABEL = -1
"""Stands for the label of an image where nobody said it."""

_SAMPLE_GRID = 25
_STEPS = 10
_ROWS = 5


@dataclass(frozen=True)
class Sources:
    """The images that sample grids start from."""

    images: Images
    target: Images
    """What the encoder reads of them."""
    true: Labels
    """What they show, or ``UNKNOWN_LABEL``."""
    condition: Labels
    """What the network is told that they show: the true label, or what stands in for it."""

    def at(self, rows: Int[np.ndarray, " chosen"]) -> Sources:
        """Some of them."""
        return Sources(self.images[rows], self.target[rows], self.true[rows], self.condition[rows])


def sample_grids_of(vae: VAEOnArrays, test: TestPart, draws: torch.Generator, model: VAE) -> Arrays:
    """All sample grids of one run: 25 test images, evenly from all labels, and what the prior gives.

    Lines of z lead from the first test image of a label to the second, for five labels that have two.
    """
    tests = Sources(test.images, test.target, test.labels, test.labels)
    rows = evenly_from_labels(test.labels, _SAMPLE_GRID)
    sources = tests.at(rows)
    firsts = [np.flatnonzero(test.labels == label)[:2] for label in np.unique(test.labels)]
    pairs = [pair for pair in firsts if len(pair) == 2][:_ROWS]
    every, noise = np.arange(vae.network.num_labels), sample_grid_noise(vae, draws)
    return {
        **conditioned_sides(model),
        **shown(sources),
        **swaps(
            vae, sources, test.given[rows], encoder_is_conditioned=model.encoder_is_conditioned
        ),
        **reconstructions(vae, sources),
        **(interpolations(vae, tests, np.stack(pairs)) if pairs else {}),
        **traversals(vae, sources),
        **random_draws(vae, every, noise, draws),
        **styles(vae, every[:_STEPS], draws),
        **(unconditional_draws(vae, noise) if model.label_dropout > 0 else {}),
    }


def conditioned_sides(model: VAE) -> Arrays:
    """Whether encoder, decoder and prior are told the label: where they are not, no sample grid says so."""
    return {
        "encoder_is_conditioned": np.array(model.encoder_is_conditioned),
        "decoder_is_conditioned": np.array(model.decoder_is_conditioned),
        "prior_is_conditioned": np.array(model.prior_is_conditioned),
    }


def shown(sources: Sources) -> Arrays:
    """The images that went in, with what they show."""
    return {"swap_source": as_bytes(sources.images), "swap_true": sources.true}


def swaps(
    vae: VAEOnArrays, sources: Sources, given: Labels, *, encoder_is_conditioned: bool
) -> Arrays:
    """Encoded with the true label, where the encoder hears it, and decoded with the one given.

    Where the ``encoder_is_conditioned``, ``swap_wrong_*`` has them encoded with the one given too;
    elsewhere that is the same.
    """
    mu, _ = vae.encoded(sources.target, sources.condition)
    sample_grid = {"swap_given": given, "swap_output": as_bytes(vae.images(mu, given))}
    if encoder_is_conditioned:
        mu, _ = vae.encoded(sources.target, given)
        sample_grid["swap_wrong_output"] = as_bytes(vae.images(mu, given))
    return sample_grid


def reconstructions(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """Encoded and decoded with the same label."""
    mu, _ = vae.encoded(sources.target, sources.condition)
    return {"reconstruction_output": as_bytes(vae.images(mu, sources.condition))}


def interpolations(vae: VAEOnArrays, sources: Sources, pairs: Int[np.ndarray, "pair 2"]) -> Arrays:
    """From one image to another, ten steps of z in a line, a row each; the label changes half-way.

    ``interpolation_label`` is what the first shows, ``interpolation_to`` the second.
    """
    first, second = sources.at(pairs[:, 0]), sources.at(pairs[:, 1])
    start, end = (vae.encoded(of.target, of.condition)[0] for of in (first, second))
    share = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    z = (1 - share) * start[:, None] + share * end[:, None]
    condition = np.where(share[:, 0] < 0.5, first.condition[:, None], second.condition[:, None])
    return {
        "interpolation_label": first.true,
        "interpolation_to": second.true,
        "interpolation_output": as_bytes(vae.images(z.reshape(-1, z.shape[-1]), condition.ravel())),
    }


def traversals(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """The first image with one unit of z moved over 3 sigma of the prior, for the five busiest units."""
    mu, log_sigma = vae.encoded(sources.target, sources.condition)
    units = _busiest_units(vae, (mu, log_sigma), sources.condition)
    with torch.inference_mode():
        prior = vae.network.prior(torch.from_numpy(sources.condition[:1]))
    centre, spread = prior.mu[0].numpy(), prior.log_sigma[0].exp().numpy()
    z = np.repeat(mu[:1], len(units) * _STEPS, axis=0)
    sigmas = np.linspace(-3, 3, _STEPS, dtype=np.float32)
    for row, unit in enumerate(units):
        z[row * _STEPS : (row + 1) * _STEPS, unit] = centre[unit] + spread[unit] * sigmas
    return {
        "traversal_output": as_bytes(vae.images(z, np.full(len(z), sources.condition[0]))),
        "traversal_unit": units,
    }


def sample_grid_noise(vae: VAEOnArrays, draws: torch.Generator) -> Latents:
    """The noise of 25 draws: one for the sample grids with labels and without, so that only those differ."""
    return vae.noise(_SAMPLE_GRID, draws)


def random_draws(
    vae: VAEOnArrays, labels: Labels, noise: Latents, draws: torch.Generator
) -> Arrays:
    """A draw from the prior for each row of ``noise``, with one of these labels, drawn too."""
    given = labels[torch.randint(len(labels), (len(noise),), generator=draws).numpy()]
    output = vae.images(vae.from_prior(noise, given), given)
    return {"random_given": given, "random_output": as_bytes(output)}


def unconditional_draws(vae: VAEOnArrays, noise: Latents) -> Arrays:
    """The same without a label, for a network that has learned to do without.

    ``unconditional_noise_is_random``: their noise is that of ``random_draws``, which older files do not say.
    """
    unconditional = np.full(len(noise), vae.network.unconditional_label)
    output = vae.images(vae.from_prior(noise, unconditional), unconditional)
    return {
        "unconditional_output": as_bytes(output),
        "unconditional_noise_is_random": np.array(True),
    }


def styles(vae: VAEOnArrays, labels: Labels, draws: torch.Generator) -> Arrays:
    """Ten z from the prior, a row each, under every one of these labels, a column each."""
    noise = np.repeat(vae.noise(_STEPS, draws), len(labels), axis=0)
    label = np.tile(labels, _STEPS)
    return {"style_output": as_bytes(vae.images(vae.from_prior(noise, label), label))}


def _busiest_units(
    vae: VAEOnArrays, posterior: Posterior, condition: Labels
) -> Int[np.ndarray, " unit"]:
    """The five units that say most of the images: those with the highest KL."""
    mu, log_sigma = (torch.from_numpy(of) for of in posterior)
    with torch.inference_mode():
        kl = kl_nats(mu, log_sigma, *vae.network.prior(torch.from_numpy(condition))).mean(dim=0)
    return np.argsort(-kl.numpy(), kind="stable")[:_ROWS]
