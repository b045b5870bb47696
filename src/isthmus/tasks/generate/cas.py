"""CAS, the classification accuracy metric: what a classifier learns from drawn images alone."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8

from isthmus.data.store import LabelledStore, as_bytes
from isthmus.engine.fit import fit
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.seeds import torch_draws
from isthmus.engine.trained import Trained
from isthmus.errors import UserError
from isthmus.tasks.classify.evaluate import evaluate_classifier
from isthmus.tasks.classify.recipe import ClassifyRecipe
from isthmus.tasks.generate.judge import judge_recipe
from isthmus.tasks.generate.label_swap import alike_in_labels
from isthmus.tasks.generate.recipe import GenerateRecipe, Measure
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays


def cas_metrics(trained: Trained, vae: VAEOnArrays, count: int) -> dict[str, float]:
    """Share of real test images whose label a classifier says that learned from drawn ones.

    It is the judge's recipe, validation share and all, on images drawn from the prior, as
    many of each label, and keeps its last epoch. ``cas_real`` is what it says after as many real
    training images of each label, or all where there are fewer. Images are expected ones, as
    for every other metric. Torch's global generator is left as it was.

    Args:
        trained: A run of a ``GenerateRecipe``; the classifiers share its seed, and its precision in training.
        vae: Its network.
        count: Images to draw.

    Returns:
        "cas" and the ends of its 95 % Wilson interval; "cas_real" and "cas_real_images".

    Source: Ravuri and Vinyals 2019, Classification accuracy metric for conditional generative
    models (arXiv:1905.10887), section 3, with the judge in place of their ResNet-50.
    """
    store, seed = trained.store, trained.seed
    drawn = with_drawn_images(store, vae, count, seed)
    real = with_real_images(store, trained.split.train, count)
    of_real = _learned_from(real, trained)
    return {
        **{key.replace("accuracy", "cas"): of for key, of in _learned_from(drawn, trained).items()},
        "cas_real": of_real["accuracy"],
        "cas_real_images": float(np.count_nonzero(np.asarray(real.parts) == "train")),
    }


def with_drawn_images(
    store: LabelledStore, vae: VAEOnArrays, count: int, seed: int
) -> LabelledStore:
    """The store with images drawn from the prior, 0, 1, 2 ... 0, 1, 2 ..., as its training part."""
    labels = _even_labels(store, count)
    return _with_training_part(
        store, _drawn(vae, labels, torch_draws(seed, "cas")), labels, "drawn"
    )


def with_real_images(
    store: LabelledStore, train: Int[np.ndarray, " n"], count: int
) -> LabelledStore:
    """The store with as many of these training rows of each label as would be drawn."""
    labels = np.asarray(store.labels[train])
    chosen, _ = alike_in_labels(labels, _even_labels(store, count))
    return _with_training_part(store, store.images[train[chosen]], labels[chosen], "real")


def _even_labels(store: LabelledStore, count: int) -> Int[np.ndarray, " n"]:
    return np.arange(count) % len(store.class_names)


def _with_training_part(
    store: LabelledStore,
    images: UInt8[np.ndarray, "n height width channel"],
    labels: Int[np.ndarray, " n"],
    kind: str,
) -> LabelledStore:
    test = np.flatnonzero(np.asarray(store.parts) == "test")
    images = np.concatenate([images, store.images[test]])
    count = len(labels)
    return LabelledStore(
        images=images,
        labels=np.concatenate([labels, store.labels[test]]),
        names=(*(f"{kind}/{i:05}" for i in range(count)), *(store.names[row] for row in test)),
        groups=(
            *(store.class_names[label] for label in labels),
            *(store.groups[row] for row in test),
        ),
        parts=("train",) * count + ("test",) * len(test),
        class_names=store.class_names,
        label_scheme=f"{store.label_scheme}, other training images ({kind})",
        content=hashlib.sha256(store.content.encode() + images.tobytes()).hexdigest()[:16],
    )


def check_cas_images(measure: Measure, num_labels: int) -> None:
    """Reject a classifier that some label would not be shown to; before the VAE is trained.

    Raises:
        UserError: If ``cas_images`` are fewer than two of each label.
    """
    count = measure.cas_images
    if count is not None and count < 2 * num_labels:
        raise UserError(
            f"measure.cas_images = {count}: a classifier of {num_labels} labels learns from two "
            f"images of each or more; set it to {2 * num_labels} or more, or take the key out"
        )


def _recipe(recipe: GenerateRecipe) -> ClassifyRecipe:
    """The judge's, for the last epoch: no real image, nor a drawn one, chooses it."""
    of_judge = judge_recipe(recipe)
    return dataclasses.replace(of_judge, train=dataclasses.replace(of_judge.train, keep="last"))


def _learned_from(store: LabelledStore, run: Trained) -> dict[str, float]:
    """The test metrics of a classifier trained on the training part of this store, and not kept."""
    recipe = _recipe(run.recipe)
    with tempfile.TemporaryDirectory() as path, torch.random.fork_rng(devices=[]):
        learned = fit(store, recipe, run.seed, RunFolder(Path(path)), run.precision)
        return evaluate_classifier(learned).metrics


def _drawn(
    vae: VAEOnArrays, labels: Int[np.ndarray, " n"], draws: torch.Generator
) -> UInt8[np.ndarray, "n height width channel"]:
    """An image a label, in bytes as real ones are; batch by batch, for floats take four times that."""
    parts = []
    for first in range(0, len(labels), vae.batch):
        condition = labels[first : first + vae.batch]
        images = vae.images(vae.prior_draws(condition, draws), condition)
        parts.append(as_bytes(images))
    return np.moveaxis(np.concatenate(parts), 1, -1)
