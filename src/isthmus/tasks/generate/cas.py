"""CAS, the classification accuracy score: the accuracy of a classifier trained on generated images."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8

from isthmus.data.store import LabelledStore, as_bytes
from isthmus.engine.fit import Trained, fit
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.seeds import torch_draws
from isthmus.errors import UserError
from isthmus.tasks.classify.evaluate import evaluate_classifier
from isthmus.tasks.generate.judge import judge_recipe
from isthmus.tasks.generate.label_swap import alike_in_labels
from isthmus.tasks.generate.recipe import Measure
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays


def cas_metrics(trained: Trained, vae: VAEOnArrays, count: int) -> dict[str, float]:
    """Accuracy on real test images of a classifier trained on generated images, sampled from the prior.

    The classifier has the judge's recipe, including the fraction of validation images, and keeps the
    weights of its last epoch. Generated images are balanced over labels. "cas_real" is the accuracy
    of a classifier trained on as many real training images of each label (or on all of them, if there
    are fewer). As for all other metrics, a generated image is the expected image of p(x | z, y). The
    state of torch's global generator is not changed.

    Args:
        trained: A run of a ``GenerateRecipe``; the classifiers are trained with its seed and precision.
        vae: The network of that run.
        count: Number of images to generate.

    Returns:
        "cas" and the ends of its 95 % Wilson interval ("cas_low", "cas_high"); "cas_real" and
        "cas_real_images", the number of real training images.

    Source: Ravuri and Vinyals 2019, Classification accuracy score for conditional generative
    models (arXiv:1905.10887), section 3, with the judge in place of their ResNet-50.
    """
    drawn = with_drawn_images(trained.store, vae, count, trained.seed)
    real = with_real_images(trained.store, trained.split.train, count)
    from_drawn, from_real = (_classifier_metrics(store, trained) for store in (drawn, real))
    return {
        **{key.replace("accuracy", "cas"): value for key, value in from_drawn.items()},
        "cas_real": from_real["accuracy"],
        "cas_real_images": float(np.count_nonzero(np.asarray(real.parts) == "train")),
    }


def with_drawn_images(
    store: LabelledStore, vae: VAEOnArrays, count: int, seed: int
) -> LabelledStore:
    """The store with ``count`` generated images, sampled from the prior, as its training images.

    The labels of the generated images are 0, 1, 2 ... 0, 1, 2 ...
    """
    labels, draws = np.arange(count) % len(store.class_names), torch_draws(seed, "cas")
    images = []
    for first in range(
        0, count, vae.batch
    ):  # each batch as uint8: float32 takes four times the memory
        batch = labels[first : first + vae.batch]
        images.append(as_bytes(vae.images(vae.prior_draws(batch, draws), batch)))
    pixels = np.moveaxis(np.concatenate(images), 1, -1)
    return _with_training_part(store, pixels, labels, "drawn")


def with_real_images(
    store: LabelledStore, train: Int[np.ndarray, " n"], count: int
) -> LabelledStore:
    """The store with at most as many of these training rows per label as are generated with that label."""
    labels = np.asarray(store.labels[train])
    chosen, _ = alike_in_labels(labels, np.arange(count) % len(store.class_names))
    return _with_training_part(store, store.images[train[chosen]], labels[chosen], "real")


def _with_training_part(
    store: LabelledStore,
    images: UInt8[np.ndarray, "n height width channel"],
    labels: Int[np.ndarray, " n"],
    kind: str,
) -> LabelledStore:
    """The store with these images as its training images; its test images stay."""
    test = np.flatnonzero(np.asarray(store.parts) == "test")
    images, count = np.concatenate([images, store.images[test]]), len(labels)
    names, groups = ([of[row] for row in test] for of in (store.names, store.groups))
    return LabelledStore(
        images=images,
        labels=np.concatenate([labels, store.labels[test]]),
        names=(*(f"{kind}/{i:05}" for i in range(count)), *names),
        groups=(*(store.class_names[label] for label in labels), *groups),
        parts=("train",) * count + ("test",) * len(test),
        class_names=store.class_names,
        label_scheme=f"{store.label_scheme}, other training images ({kind})",
        content=hashlib.sha256(store.content.encode() + images.tobytes()).hexdigest()[:16],
    )


def _classifier_metrics(store: LabelledStore, run: Trained) -> dict[str, float]:
    """Test metrics of a classifier trained on this store with the judge's recipe."""
    recipe = judge_recipe(run.recipe)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, keep="last"))
    with tempfile.TemporaryDirectory() as path, torch.random.fork_rng(devices=[]):
        classifier = fit(store, recipe, run.seed, RunFolder(Path(path)), run.device)
        return evaluate_classifier(classifier).metrics


def check_cas_images(measure: Measure, num_labels: int) -> None:
    """Check, before the VAE is trained, that ``cas_images`` is at least two images per label.

    Raises:
        UserError: If ``cas_images`` is smaller.
    """
    count = measure.cas_images
    if count is not None and count < 2 * num_labels:
        raise UserError(
            f"measure.cas_images = {count}: a classifier of {num_labels} labels needs at least two "
            f"images of each label; set the key to {2 * num_labels} or more, or remove it"
        )
