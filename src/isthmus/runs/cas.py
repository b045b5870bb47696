"""CAS, the classification accuracy score: what a classifier learns from drawn pictures alone."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8

from isthmus import build
from isthmus.data.store import LabelledStore, as_bytes
from isthmus.recipe import ClassifyRecipe, GenerateRecipe, Measure
from isthmus.refusal import Refusal
from isthmus.runs.classifier import classifier_for
from isthmus.runs.fit import fit
from isthmus.runs.folder import RunFolder
from isthmus.runs.judge import judge_recipe
from isthmus.runs.score_classifier import score_classifier
from isthmus.runs.seeds import numpy_draws, torch_draws
from isthmus.runs.trained import Trained
from isthmus.runs.vae_on_arrays import VAEOnArrays


def cas_scores(trained: Trained, vae: VAEOnArrays, count: int) -> dict[str, float]:
    """Share of real test pictures whose label a classifier says that learned from drawn ones.

    It is the judge's recipe, validation share and all, on pictures drawn from the prior, as
    many of each label, and keeps its last epoch: so ``judge_accuracy`` is what real pictures
    would teach it, if as many. Pictures are expected ones, as for every other score. Torch's
    global generator is left as it was.

    Args:
        trained: A run of a ``GenerateRecipe``; the classifier shares its seed, and its precision in training.
        vae: Its network.
        count: Pictures to draw.

    Returns:
        "cas" and the ends of its 95 % Wilson interval.

    Source: Ravuri and Vinyals 2019, Classification accuracy score for conditional generative
    models (arXiv:1905.10887), section 3, with the judge in place of their ResNet-50.
    """
    assert isinstance(trained.recipe, GenerateRecipe)
    recipe = _recipe(trained.recipe)
    store = with_drawn_pictures(trained.store, vae, count, trained.seed)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        scores = score_classifier(_learned(trained, recipe, store, RunFolder(Path(folder))))
    return {key.replace("accuracy", "cas"): value for key, value in scores["scores"].items()}


def with_drawn_pictures(
    store: LabelledStore, vae: VAEOnArrays, count: int, seed: int
) -> LabelledStore:
    """The store with pictures drawn from the prior, 0, 1, 2 ... 0, 1, 2 ..., as its training part."""
    labels = np.arange(count) % len(store.class_names)
    drawn = _drawn(vae, labels, torch_draws(seed, "cas"))
    test = np.flatnonzero(np.asarray(store.parts) == "test")
    images = np.concatenate([drawn, store.images[test]])
    return LabelledStore(
        images=images,
        labels=np.concatenate([labels, store.labels[test]]),
        names=(*(f"drawn/{i:05}" for i in range(count)), *(store.names[row] for row in test)),
        groups=(
            *(store.class_names[label] for label in labels),
            *(store.groups[row] for row in test),
        ),
        parts=("train",) * count + ("test",) * len(test),
        class_names=store.class_names,
        contract=f"{store.contract}, training pictures drawn by a VAE",
        content=hashlib.sha256(store.content.encode() + images.tobytes()).hexdigest()[:16],
    )


def refuse_too_few_samples(measure: Measure, num_labels: int) -> None:
    """Refuse a classifier that some label would not be shown to; before the VAE is trained.

    Raises:
        Refusal: If ``cas_pictures`` are fewer than two of each label.
    """
    count = measure.cas_pictures
    if count is not None and count < 2 * num_labels:
        raise Refusal(
            f"measure.cas_pictures = {count}: a classifier of {num_labels} labels learns from two "
            f"pictures of each or more; set it to {2 * num_labels} or more, or take the key out"
        )


def _recipe(recipe: GenerateRecipe) -> ClassifyRecipe:
    """The judge's, for the last epoch: no real picture, nor a drawn one, chooses it."""
    of_judge = judge_recipe(recipe)
    return dataclasses.replace(of_judge, train=dataclasses.replace(of_judge.train, keep="last"))


def _learned(
    trained: Trained, recipe: ClassifyRecipe, store: LabelledStore, folder: RunFolder
) -> Trained:
    """A classifier trained on the training part of this store."""
    seed, precision = trained.seed, trained.precision
    split = build.split_for(recipe.data, store, numpy_draws(seed, "split"))
    new_module = functools.partial(classifier_for, recipe, store)
    module, epoch = fit(new_module, recipe, seed, folder, store, split, precision)
    return Trained(module, epoch, recipe, seed, folder, store, split, precision)


def _drawn(
    vae: VAEOnArrays, labels: Int[np.ndarray, " n"], draws: torch.Generator
) -> UInt8[np.ndarray, "n height width channel"]:
    """A picture a label, in bytes as real ones are; batch by batch, for floats take four times that."""
    parts = []
    for first in range(0, len(labels), vae.batch):
        told = labels[first : first + vae.batch]
        images = vae.pictures(vae.prior_draws(told, draws), told)
        parts.append(as_bytes(images))
    return np.moveaxis(np.concatenate(parts), 1, -1)
