"""The wrong-label benchmark: real images drawn again under labels that are not theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.engine.seeds import numpy_draws
from isthmus.metrics.generation import Proportion, SwapMetrics, swap_metrics, wrong_labels
from isthmus.metrics.style import StyleKept, style_descriptors, style_kept
from isthmus.tasks.generate.judge import LoadedJudge
from isthmus.tasks.generate.vae_on_arrays import Latents, VAEOnArrays

Images = Float[np.ndarray, "_ channel height width"]
Labels = Int[np.ndarray, " _"]
Rows = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class TestPart:
    """The test images of a run, the same for every variant with one seed."""

    __test__ = False  # pytest: no tests in here

    images: Images
    target: Images
    """What the likelihood metrics and the encoder reads of them."""
    labels: Labels
    given: Labels
    """For each image a label that is not its own."""


@dataclass(frozen=True)
class Swapped:
    """What the judge says of the images under one protocol, and how much style is left."""

    judged: Labels
    swap: SwapMetrics
    style: StyleKept


def wrong_labels_of(labels: Labels, num_labels: int, seed: int) -> Labels:
    """The wrong labels that a run with this seed gives to images with these labels."""
    return wrong_labels(labels, num_labels, numpy_draws(seed, "wrong labels"))


def swapped(
    vae: VAEOnArrays,
    judge: LoadedJudge,
    test: TestPart,
    mu: Latents,
    rng: np.random.Generator,
) -> Swapped:
    """Images encoded with one label and decoded with the wrong one given.

    z is the posterior mean and the output the expected image, so nothing is drawn.

    Args:
        vae: The trained network.
        judge: Says what the outputs show.
        test: The images with their labels and wrong ones.
        mu: Posterior means, encoded with the labels for one protocol, the wrong ones for the other.
        rng: Pairs images at random, for the control of style.
    """
    outputs = vae.images(mu, test.given)
    return judged_swap(judge, test.images, outputs, test.labels, test.given, rng)


def judged_swap(
    judge: LoadedJudge,
    images: Images,
    outputs: Images,
    true: Labels,
    given: Labels,
    rng: np.random.Generator,
) -> Swapped:
    """What the judge says of outputs that should show ``given``."""
    judged = judge.labels(outputs)
    style = style_kept(style_descriptors(images), style_descriptors(outputs), true, given, rng)
    return Swapped(judged, swap_metrics(true, given, judged), style)


def prior_fidelity(
    vae: VAEOnArrays, judge: LoadedJudge, labels: Labels, generator: torch.Generator
) -> tuple[Proportion, Images]:
    """Share of images drawn from the prior whose label the judge says; and the images."""
    outputs = vae.images(vae.prior_draws(labels, generator), labels)
    hits = judge.labels(outputs) == labels
    return Proportion(int(hits.sum()), len(hits)), outputs


def evenly_from_labels(labels: Labels, count: int) -> Rows:
    """At most ``count`` positions, ascending: the first of each label, as many of each as possible.

    >>> evenly_from_labels(np.array([0, 0, 0, 1, 1, 1]), 4).tolist()
    [0, 1, 3, 4]
    """
    ranks = _ranks_in_label(labels)
    return np.sort(np.argsort(ranks, kind="stable")[:count])


def alike_in_labels(a: Labels, b: Labels) -> tuple[Rows, Rows]:
    """Positions in both, ascending, with as many of each label: as many as both have.

    >>> [rows.tolist() for rows in alike_in_labels(np.array([0, 0, 1]), np.array([1, 1, 0]))]
    [[0, 2], [0, 2]]
    """
    most = int(max(a.max(), b.max())) + 1
    counts = np.minimum(np.bincount(a, minlength=most), np.bincount(b, minlength=most))
    in_a, in_b = (np.flatnonzero(_ranks_in_label(labels) < counts[labels]) for labels in (a, b))
    return in_a, in_b


def _ranks_in_label(labels: Labels) -> Rows:
    """Of each position how many of its label come before it."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        is_it = labels == label
        ranks[is_it] = np.arange(is_it.sum())
    return ranks
