"""What a trained VAE shows: arrays of pictures with the labels that went in, ready to be drawn.

Each sheet is a function, for a run's test pictures and anybody's own. Pictures are uint8
[n, channel, height, width], labels [n]; an array's name starts with that of its sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.store import as_bytes
from isthmus.recipe import VAE
from isthmus.runs.listening import Images, Labels, TestPart, evenly_from_labels
from isthmus.runs.vae_on_arrays import Latents, Posterior, VAEOnArrays
from isthmus.scoring.generation import kl_nats

Arrays = dict[str, Any]

UNSAID = -1
"""Stands for the label of a picture where nobody said it."""

_SHEET = 25
_STEPS = 10
_ROWS = 5


@dataclass(frozen=True)
class Sources:
    """The pictures that sheets start from."""

    images: Images
    target: Images
    """What the encoder reads of them."""
    true: Labels
    """What they show, or ``UNSAID``."""
    told: Labels
    """What the network is told that they show: the true label, or what stands in for it."""

    def at(self, rows: Int[np.ndarray, " chosen"]) -> Sources:
        """Some of them."""
        return Sources(self.images[rows], self.target[rows], self.true[rows], self.told[rows])


def sheets_of(vae: VAEOnArrays, test: TestPart, draws: torch.Generator, model: VAE) -> Arrays:
    """All sheets of one run: 25 test pictures, evenly from all labels, and what the prior gives.

    Lines of z lead from the first test picture of a label to the second, for five labels that have two.
    """
    tests = Sources(test.images, test.target, test.labels, test.labels)
    rows = evenly_from_labels(test.labels, _SHEET)
    sources = tests.at(rows)
    firsts = [np.flatnonzero(test.labels == label)[:2] for label in np.unique(test.labels)]
    pairs = [pair for pair in firsts if len(pair) == 2][:_ROWS]
    every, noise = np.arange(vae.network.num_labels), sheet_noise(vae, draws)
    return {
        **told_sides(model),
        **shown(sources),
        **swaps(vae, sources, test.given[rows], encoder_is_told=model.encoder_is_told),
        **reconstructions(vae, sources),
        **(interpolations(vae, tests, np.stack(pairs)) if pairs else {}),
        **traversals(vae, sources),
        **random_draws(vae, every, noise, draws),
        **styles(vae, every[:_STEPS], draws),
        **(null_draws(vae, noise) if model.null_rate > 0 else {}),
    }


def told_sides(model: VAE) -> Arrays:
    """Whether encoder, decoder and prior are told the label: where they are not, no sheet says so."""
    return {
        "encoder_is_told": np.array(model.encoder_is_told),
        "decoder_is_told": np.array(model.decoder_is_told),
        "prior_is_told": np.array(model.prior_is_told),
    }


def shown(sources: Sources) -> Arrays:
    """The pictures that went in, with what they show."""
    return {"swap_source": as_bytes(sources.images), "swap_true": sources.true}


def swaps(vae: VAEOnArrays, sources: Sources, given: Labels, *, encoder_is_told: bool) -> Arrays:
    """Encoded with the true label, where the encoder hears it, and decoded with the one given.

    Where the ``encoder_is_told``, ``swap_wrong_*`` has them encoded with the one given too;
    elsewhere that is the same.
    """
    mu, _ = vae.encoded(sources.target, sources.told)
    sheet = {"swap_given": given, "swap_output": as_bytes(vae.pictures(mu, given))}
    if encoder_is_told:
        mu, _ = vae.encoded(sources.target, given)
        sheet["swap_wrong_output"] = as_bytes(vae.pictures(mu, given))
    return sheet


def reconstructions(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """Encoded and decoded with the same label."""
    mu, _ = vae.encoded(sources.target, sources.told)
    return {"reconstruction_output": as_bytes(vae.pictures(mu, sources.told))}


def interpolations(vae: VAEOnArrays, sources: Sources, pairs: Int[np.ndarray, "pair 2"]) -> Arrays:
    """From one picture to another, ten steps of z in a line, a row each; the label changes half-way.

    ``interpolation_label`` is what the first shows, ``interpolation_to`` the second.
    """
    first, second = sources.at(pairs[:, 0]), sources.at(pairs[:, 1])
    start, end = (vae.encoded(of.target, of.told)[0] for of in (first, second))
    share = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    z = (1 - share) * start[:, None] + share * end[:, None]
    told = np.where(share[:, 0] < 0.5, first.told[:, None], second.told[:, None])
    return {
        "interpolation_label": first.true,
        "interpolation_to": second.true,
        "interpolation_output": as_bytes(vae.pictures(z.reshape(-1, z.shape[-1]), told.ravel())),
    }


def traversals(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """The first picture with one unit of z moved over 3 sigma of the prior, for the five busiest units."""
    mu, log_sigma = vae.encoded(sources.target, sources.told)
    units = _busiest_units(vae, (mu, log_sigma), sources.told)
    with torch.inference_mode():
        prior = vae.network.prior(torch.from_numpy(sources.told[:1]))
    centre, spread = prior.mu[0].numpy(), prior.log_sigma[0].exp().numpy()
    z = np.repeat(mu[:1], len(units) * _STEPS, axis=0)
    sigmas = np.linspace(-3, 3, _STEPS, dtype=np.float32)
    for row, unit in enumerate(units):
        z[row * _STEPS : (row + 1) * _STEPS, unit] = centre[unit] + spread[unit] * sigmas
    return {
        "traversal_output": as_bytes(vae.pictures(z, np.full(len(z), sources.told[0]))),
        "traversal_unit": units,
    }


def sheet_noise(vae: VAEOnArrays, draws: torch.Generator) -> Latents:
    """The noise of 25 draws: one for the sheets with labels and without, so that only those differ."""
    return vae.noise(_SHEET, draws)


def random_draws(
    vae: VAEOnArrays, labels: Labels, noise: Latents, draws: torch.Generator
) -> Arrays:
    """A draw from the prior for each row of ``noise``, with one of these labels, drawn too."""
    given = labels[torch.randint(len(labels), (len(noise),), generator=draws).numpy()]
    output = vae.pictures(vae.from_prior(noise, given), given)
    return {"random_given": given, "random_output": as_bytes(output)}


def null_draws(vae: VAEOnArrays, noise: Latents) -> Arrays:
    """The same without a label, for a network that has learned to do without.

    ``null_noise_is_random``: their noise is that of ``random_draws``, which older files do not say.
    """
    nulls = np.full(len(noise), vae.network.null_label)
    output = vae.pictures(vae.from_prior(noise, nulls), nulls)
    return {"null_output": as_bytes(output), "null_noise_is_random": np.array(True)}


def styles(vae: VAEOnArrays, labels: Labels, draws: torch.Generator) -> Arrays:
    """Ten z from the prior, a row each, under every one of these labels, a column each."""
    noise = np.repeat(vae.noise(_STEPS, draws), len(labels), axis=0)
    label = np.tile(labels, _STEPS)
    return {"style_output": as_bytes(vae.pictures(vae.from_prior(noise, label), label))}


def _busiest_units(
    vae: VAEOnArrays, posterior: Posterior, told: Labels
) -> Int[np.ndarray, " unit"]:
    """The five units that say most of the pictures: those with the highest KL."""
    mu, log_sigma = (torch.from_numpy(of) for of in posterior)
    with torch.inference_mode():
        kl = kl_nats(mu, log_sigma, *vae.network.prior(torch.from_numpy(told))).mean(dim=0)
    return np.argsort(-kl.numpy(), kind="stable")[:_ROWS]
