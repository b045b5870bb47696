"""Sample grids of a VAE: arrays of decoded images and the labels they were conditioned on.

Each kind of grid is a function; it is used for the test images of a run and for the user's own images.
Images are uint8 [n, channel, height, width], labels [n]; the name of an array starts with the kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.store import as_bytes
from isthmus.tasks.generate.label_swap import TestPart, evenly_from_labels
from isthmus.tasks.generate.recipe import VAE
from isthmus.tasks.generate.vae_on_arrays import Images, Labels, Latents, VAEOnArrays

Arrays = dict[str, Any]

UNKNOWN_LABEL = -1
"""Stands for the label of an image whose label is not known."""

_IMAGES = 25
_STEPS = 10
_ROWS = 5


@dataclass(frozen=True)
class Sources:
    """The images that a sample grid starts from."""

    images: Images
    target: Images
    """Images that are encoded: results of ``VAEOnArrays.target``."""
    labels: Labels
    """Labels of the images, or ``UNKNOWN_LABEL``."""
    condition: Labels
    """Labels that the network is conditioned on: ``labels``, or a substitute for an unknown label."""

    def at(self, rows: Int[np.ndarray, " chosen"]) -> Sources:
        """The sources in these rows."""
        return Sources(*(array[rows] for array in vars(self).values()))


def sample_grids_of(vae: VAEOnArrays, test: TestPart, draws: torch.Generator, model: VAE) -> Arrays:
    """All sample grids of a run: of 25 test images, equally many per label, and of samples of the prior.

    Interpolations lead from the first to the second test image of a label, for five labels.
    """
    tests = Sources(test.images, test.target, test.labels, test.labels)
    rows = evenly_from_labels(test.labels, _IMAGES)
    sources = tests.at(rows)
    firsts = [np.flatnonzero(test.labels == label)[:2] for label in np.unique(test.labels)]
    pairs = [pair for pair in firsts if len(pair) == 2][:_ROWS]
    every, noise = np.arange(vae.network.num_labels), sample_grid_noise(vae, draws)
    return {
        **conditioned_sides(model),
        **shown(sources),
        **swaps(vae, sources, test.given[rows], encoder_too=model.encoder_is_conditioned),
        **reconstructions(vae, sources),
        **(interpolations(vae, tests, np.stack(pairs)) if pairs else {}),
        **traversals(vae, sources),
        **random_draws(vae, every, noise, draws),
        **styles(vae, every[:_STEPS], draws),
        **(unconditional_draws(vae, noise) if model.label_dropout > 0 else {}),
    }


def conditioned_sides(model: VAE) -> Arrays:
    """Whether encoder, decoder and prior are conditioned on the label; captions depend on it."""
    sides = ("encoder_is_conditioned", "decoder_is_conditioned", "prior_is_conditioned")
    return {side: np.array(getattr(model, side)) for side in sides}


def shown(sources: Sources) -> Arrays:
    """The source images with their labels."""
    return {"swap_source": as_bytes(sources.images), "swap_true": sources.labels}


def swaps(vae: VAEOnArrays, sources: Sources, given: Labels, *, encoder_too: bool) -> Arrays:
    """Images encoded with their own label and decoded with the given label.

    If ``encoder_too``, "swap_wrong_output" has the images that are also encoded with the given label.
    """
    grid = {"swap_given": given, "swap_output": _decoded(vae, sources, sources.condition, given)}
    if encoder_too:
        grid["swap_wrong_output"] = _decoded(vae, sources, given, given)
    return grid


def reconstructions(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """Images encoded and decoded with the same label."""
    output = _decoded(vae, sources, sources.condition, sources.condition)
    return {"reconstruction_output": output}


def _decoded(vae: VAEOnArrays, sources: Sources, encode_with: Labels, decode_with: Labels) -> Any:
    mu, _ = vae.encoded(sources.target, encode_with)
    return as_bytes(vae.images(mu, decode_with))


def interpolations(vae: VAEOnArrays, sources: Sources, pairs: Int[np.ndarray, "pair 2"]) -> Arrays:
    """Ten equally spaced z from one image to another, one row per pair; the label changes half-way.

    ``interpolation_label`` is the label of the first image, ``interpolation_to`` that of the second.
    """
    first, second = sources.at(pairs[:, 0]), sources.at(pairs[:, 1])
    start, end = (vae.encoded(image.target, image.condition)[0] for image in (first, second))
    step = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    z = (1 - step) * start[:, None] + step * end[:, None]
    condition = np.where(step[:, 0] < 0.5, first.condition[:, None], second.condition[:, None])
    return {
        "interpolation_label": first.labels,
        "interpolation_to": second.labels,
        "interpolation_output": as_bytes(vae.images(z.reshape(-1, z.shape[-1]), condition.ravel())),
    }


def traversals(vae: VAEOnArrays, sources: Sources) -> Arrays:
    """The first image with one unit of z varied from -3 to 3 standard deviations of the prior.

    One row per unit, for the five units with the highest mean KL.
    """
    posterior = vae.encoded(sources.target, sources.condition)
    units = np.argsort(-vae.mean_kl_nats(posterior, sources.condition), kind="stable")[:_ROWS]
    sigmas = np.linspace(-3, 3, _STEPS, dtype=np.float32)[:, None]
    condition = sources.condition[:1].repeat(_STEPS)
    moved = vae.from_prior(np.repeat(sigmas, vae.network.latent, axis=1), condition)
    z = np.tile(posterior[0][:1], (len(units), _STEPS, 1))
    for row, unit in enumerate(units):
        z[row, :, unit] = moved[:, unit]
    output = as_bytes(vae.images(z.reshape(-1, z.shape[-1]), np.tile(condition, len(units))))
    return {"traversal_output": output, "traversal_unit": units}


def sample_grid_noise(vae: VAEOnArrays, draws: torch.Generator) -> Latents:
    """The noise of 25 generated images, which is used with labels and with the null label."""
    return vae.noise(_IMAGES, draws)


def random_draws(
    vae: VAEOnArrays, labels: Int[np.ndarray, " label"], noise: Latents, draws: torch.Generator
) -> Arrays:
    """One generated image per row of ``noise``, each with a random one of these labels."""
    given = labels[torch.randint(len(labels), (len(noise),), generator=draws).numpy()]
    output = vae.images(vae.from_prior(noise, given), given)
    return {"random_given": given, "random_output": as_bytes(output)}


def unconditional_draws(vae: VAEOnArrays, noise: Latents) -> Arrays:
    """One generated image per row of ``noise``, with the null label.

    ``unconditional_noise_is_random`` records that ``random_draws`` used the same noise.
    """
    unconditional = np.full(len(noise), vae.network.unconditional_label)
    output = vae.images(vae.from_prior(noise, unconditional), unconditional)
    return {
        "unconditional_output": as_bytes(output),
        "unconditional_noise_is_random": np.array(True),
    }


def styles(vae: VAEOnArrays, labels: Int[np.ndarray, " label"], draws: torch.Generator) -> Arrays:
    """Generated images for ten samples of noise (one per row) and these labels (one per column)."""
    noise = np.repeat(vae.noise(_STEPS, draws), len(labels), axis=0)
    label = np.tile(labels, _STEPS)
    return {"style_output": as_bytes(vae.images(vae.from_prior(noise, label), label))}
