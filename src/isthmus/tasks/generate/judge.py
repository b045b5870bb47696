"""The judge: the classifier that evaluates generated images, trained once per data set."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from isthmus.data.places import cache_folder
from isthmus.data.store import LabelledStore
from isthmus.engine.device import CPU
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import DeviceName, ProgressCallback, task_of
from isthmus.engine.train import train_run
from isthmus.errors import UserError
from isthmus.nn.classifier import Judge
from isthmus.recipe import settings_hash
from isthmus.recipe.parsing import settings_of
from isthmus.tasks.classify.module import judge_for
from isthmus.tasks.classify.recipe import Classifier, ClassifyRecipe, ClassifyTrain
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.vae_on_arrays import Images, Labels

_BATCH = 500
_FORMAT_VERSION = 2
"""Changes with the files of a judge, so that those of other versions in the cache are left alone."""


def judge_recipe(recipe: GenerateRecipe) -> ClassifyRecipe:
    """The recipe of the judge: trained on all training images of the VAE's data set, shifted at random.

    The recipe does not depend on the model or the training of the VAE, so all variants of a study
    have the same judge.
    """
    shift_px, measure = max(1, recipe.data.size_px // 14), recipe.measure
    return ClassifyRecipe(
        data=dataclasses.replace(
            recipe.data, limit=None, flip=measure.judge_flip, shift_px=shift_px
        ),
        model=Classifier(width=measure.judge_width),
        train=ClassifyTrain(epochs=measure.judge_epochs, batch=measure.judge_batch),
    )


def judge_folder(recipe: ClassifyRecipe, store: LabelledStore, shared: Path) -> RunFolder:
    """The folder of a judge in ``shared``; the folder's name consists of hashes of images and recipe."""
    settings = settings_hash(settings_of(recipe) | {"data.folder": None, "format": _FORMAT_VERSION})
    return RunFolder(shared / f"{store.content}-{settings}")


def ensure_judge(
    recipe: GenerateRecipe,
    store: LabelledStore,
    shared: Path,
    on_progress: ProgressCallback,
    device: DeviceName,
) -> str:
    """Return the name of the judge in ``shared``.

    If the judge is missing in ``shared``, it is copied from the cache; if the cache has no such judge,
    it is trained there first.

    Raises:
        UserError: If the training of the judge has failed.
    """
    classifier = judge_recipe(recipe)
    folder = judge_folder(classifier, store, shared)
    cached = judge_folder(classifier, store, cache_folder() / "judges")
    if not folder.is_finished:
        with torch.random.fork_rng(devices=[]):  # rejects a VAE that cannot be built
            task_of(recipe).new_module(recipe, store, steps=1)
        cached.path.parent.mkdir(parents=True, exist_ok=True)
        # If several studies run at a time, one of them trains the judge.
        with FileLock(f"{cached.path}.lock"):
            if not cached.is_finished:
                train_run(
                    classifier, 0, cached, store=store, on_progress=on_progress, device=device
                )
            if not folder.is_finished:
                _copy(cached.path, folder.path)
    result = folder.result()
    if result.status != "finished":
        raise UserError(
            f"{folder.path}: the training of the judge failed ({result.reason}), but most metrics need the "
            "judge; increase measure.judge_epochs in another folder with --out, or delete that folder and "
            f"{cached.path} to train the judge again"
        )
    return judge_name(folder)


def _copy(source: Path, target: Path) -> None:
    """Copy a finished run atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".judge-") as folder:
        copied = shutil.copytree(source, Path(folder) / "copy")
        shutil.rmtree(target, ignore_errors=True)
        copied.rename(target)


@dataclass(frozen=True)
class LoadedJudge:
    """A trained judge, applied to arrays of images in [0, 1]."""

    network: Judge
    device: torch.device
    name: str
    """Hashes of the judge's images, recipe and weights, joined by hyphens."""
    accuracy: float
    """Proportion of real test images that the judge classifies correctly."""

    def labels(self, images: Images) -> Labels:
        """The label that the judge assigns to each image."""
        return np.concatenate(
            [self.network(b).argmax(dim=1).cpu().numpy() for b in self._batches(images)]
        )

    def features(self, images: Images) -> Float[np.ndarray, "n feature"]:
        """The inputs of the judge's last layer, for the Fréchet distance."""
        return np.concatenate(
            [self.network.features(b).cpu().numpy() for b in self._batches(images)]
        )

    def _batches(self, images: Images) -> Iterator[Tensor]:
        for batch in torch.from_numpy(np.ascontiguousarray(images)).split(_BATCH):
            yield batch.to(self.device).contiguous(memory_format=torch.channels_last)


def load_judge(
    recipe: GenerateRecipe,
    store: LabelledStore,
    shared: Path,
    device: torch.device = CPU.torch_device,
) -> LoadedJudge:
    """Load the judge that ``ensure_judge`` has stored in ``shared``."""
    classifier = judge_recipe(recipe)
    folder = judge_folder(classifier, store, shared)
    network = judge_for(classifier, len(store.class_names))
    network.load_state_dict(load_file(folder.weights))
    network.to(device).eval().requires_grad_(requires_grad=False)
    return LoadedJudge(network, device, judge_name(folder), folder.result().metrics["accuracy"])


def judge_name(folder: RunFolder) -> str:
    """The name of the finished judge in this folder: the folder's name and a hash of the weights."""
    weights = hashlib.sha256(folder.weights.read_bytes()).hexdigest()[:8]
    return f"{folder.path.name}-{weights}"
