"""The label-swap test: test images are decoded with a wrong label (the wrong-label benchmark).

A judge classifies the decoded images; the swap succeeds if the judge assigns the wrong label. Style is
the appearance of an image apart from its label, such as the slant of a digit; a good swap keeps it. Two
control decoders, whose metrics are known in theory, calibrate the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from isthmus.data.store import LabelledStore
from isthmus.engine.run_result import Baseline
from isthmus.engine.seeds import numpy_draws
from isthmus.metrics.generation import swap_metrics, wrong_labels
from isthmus.metrics.style import class_medoids, style_descriptors, style_kept
from isthmus.tasks.generate.judge import LoadedJudge, judge_folder, judge_recipe, load_judge
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.vae_on_arrays import Images, Labels, images_of

Rows = Int[np.ndarray, " _"]
"""An array of positions or labels, of any length."""

PROTOCOLS = ("encoded_true", "encoded_wrong")
"""The label that the encoder is conditioned on, true or wrong; the decoder always gets the wrong label."""


@dataclass(frozen=True)
class TestPart:
    """The test images of a run, the same for every variant with one seed."""

    __test__ = False  # not a class of tests, for pytest

    images: Images
    target: Images
    """Images that are encoded and whose likelihood is measured: results of ``VAEOnArrays.target``."""
    labels: Labels
    given: Labels
    """A wrong label for each image."""


def wrong_labels_of(labels: Labels, num_labels: int, seed: int) -> Labels:
    """The wrong labels that a run with this seed uses for images with these labels."""
    return wrong_labels(labels, num_labels, numpy_draws(seed, "wrong labels"))


def judged_swap(
    judge: LoadedJudge, test: TestPart, outputs: Images, seed: int, protocols: Sequence[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Swap metrics of ``outputs``, which were decoded with ``test.given``, and arrays per image.

    Args:
        judge: Classifies the outputs.
        test: The source images.
        outputs: One decoded image per source image.
        seed: Determines the random pairs that are the control of the style metric.
        protocols: The protocols that ``outputs`` belong to: one, or both if their outputs are equal.
    """
    judged, rng = judge.labels(outputs), numpy_draws(seed, "style")
    swap = swap_metrics(test.labels, test.given, judged)
    descriptors = style_descriptors(test.images), style_descriptors(outputs)
    style = style_kept(*descriptors, test.labels, test.given, rng)
    metrics: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    for protocol in protocols:
        metrics |= swap.success.named(f"swap_{protocol}") | swap.leakage.named(
            f"leakage_{protocol}"
        )
        metrics |= {f"style_{protocol}": style.metric, f"style_{protocol}_shuffled": style.control}
        arrays[f"swap_{protocol}_judged"] = judged
        arrays[f"swap_{protocol}"] = (judged == test.given).astype(np.float32)
    return metrics, arrays


def control_baselines(
    recipe: GenerateRecipe, seed: int, store: LabelledStore, shared: Path
) -> tuple[Baseline, ...]:
    """Swap metrics of two control decoders, with the wrong labels of a seed; empty without a judge.

    The first control reconstructs perfectly and ignores the label: its swaps succeed only if the judge
    errs, and style is kept completely. The second control returns one image per label, the training
    image nearest to the mean of that class (the class medoid): its swaps succeed, and style is lost
    completely. (The class mean itself would be too blurred for the judge, which was trained on real
    images.)
    """
    if not judge_folder(judge_recipe(recipe), store, shared).is_finished:
        return ()
    judge = load_judge(recipe, store, shared)
    parts = np.asarray(store.parts)
    images, labels = images_of(store, np.flatnonzero(parts == "test"))
    given = wrong_labels_of(labels, len(store.class_names), seed)
    test = TestPart(images, images, labels, given)
    training_labels = np.where(parts == "train", store.labels, -1)
    rows = class_medoids(store.images, training_labels, len(store.class_names))
    medoids, _ = images_of(store, rows)
    controls = (
        (
            "ignores the label",
            "a decoder that returns the source image, whatever label it is given",
            images,
        ),
        (
            "class medoids",
            "a decoder that returns, for the label it is given, the training image nearest to the mean "
            "of that class (the medoid); a swap succeeds if the judge classifies the medoid correctly",
            medoids[given],
        ),
    )
    return tuple(
        Baseline(
            name=f"{name} (control)",
            definition=definition,
            is_floor=name == "ignores the label",
            metrics=judged_swap(judge, test, outputs, seed, PROTOCOLS)[0],
        )
        for name, definition, outputs in controls
    )


def evenly_from_labels(labels: Rows, count: int) -> Rows:
    """At most ``count`` positions in ascending order, as far as possible equally many of each label.

    These are the first positions of each label.

    >>> evenly_from_labels(np.array([0, 0, 0, 1, 1, 1]), 4).tolist()
    [0, 1, 3, 4]
    """
    return np.sort(np.argsort(_ranks_in_label(labels), kind="stable")[:count])


def alike_in_labels(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """Positions in ``a`` and in ``b`` such that both have the same number of each label.

    That number is the smaller one of the counts in ``a`` and ``b``. The positions are in ascending
    order; they are the first positions of each label.

    >>> [rows.tolist() for rows in alike_in_labels(np.array([0, 0, 1]), np.array([1, 1, 0]))]
    [[0, 2], [0, 2]]
    """
    most = int(max(a.max(), b.max())) + 1
    counts = np.minimum(np.bincount(a, minlength=most), np.bincount(b, minlength=most))
    in_a, in_b = (np.flatnonzero(_ranks_in_label(labels) < counts[labels]) for labels in (a, b))
    return in_a, in_b


def _ranks_in_label(labels: Rows) -> Rows:
    """For each position, the number of earlier positions with the same label."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        has_label = labels == label
        ranks[has_label] = np.arange(has_label.sum())
    return ranks
