"""The judge: a classifier that says what label an image shows, trained once for a data set."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from isthmus.data.places import cache_folder
from isthmus.data.store import LabelledStore
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import task_of
from isthmus.engine.task_module import ProgressCallback
from isthmus.engine.train import train_on
from isthmus.errors import UserError
from isthmus.nn.classifier import Judge
from isthmus.recipe import settings_hash
from isthmus.recipe.parsing import settings_of
from isthmus.tasks.classify.module import judge_for
from isthmus.tasks.classify.recipe import Classifier, ClassifyRecipe, ClassifyTrain
from isthmus.tasks.generate.recipe import GenerateRecipe

_BATCH = 500


def judge_recipe(recipe: GenerateRecipe) -> ClassifyRecipe:
    """The recipe of the judge of a VAE's images: all of its training data, moved a little.

    Nothing of how the VAE is trained is in it, so that variants of one study have one judge.
    """
    few_pixels, flip = max(1, recipe.data.size_px // 14), recipe.measure.judge_flip
    return ClassifyRecipe(
        data=dataclasses.replace(recipe.data, limit=None, flip=flip, shift_px=few_pixels),
        model=Classifier(width=recipe.measure.judge_width),
        train=ClassifyTrain(
            epochs=recipe.measure.judge_epochs,
            batch=recipe.measure.judge_batch,
        ),
    )


def judge_folder(recipe: ClassifyRecipe, store: LabelledStore, shared: Path) -> RunFolder:
    """Where the judge of these images lies: named by its recipe and by what the images are."""
    settings = settings_hash(settings_of(recipe) | {"data.folder": None})
    return RunFolder(shared / f"{store.content}-{settings}")


def ensure_judge(
    recipe: GenerateRecipe, store: LabelledStore, shared: Path, on_progress: ProgressCallback
) -> str:
    """The name of the judge in ``shared``: copied from the cache, or trained and copied there.

    Raises:
        UserError: If its training has failed.
    """
    of_judge = judge_recipe(recipe)
    place = judge_folder(of_judge, store, shared)
    cached = judge_folder(of_judge, store, cache_folder() / "judges")
    if not place.is_finished:
        with torch.random.fork_rng(devices=[]):  # what no network fits is rejected first
            task_of(recipe).new_module(recipe, store, steps=1)
        cached.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cached.path}.lock"):  # studies side by side train it once
            if not cached.is_finished:
                train_on(store, of_judge, 0, cached, on_progress=on_progress)
            if not place.is_finished:
                _copy(cached.path, place.path)
    _check_finished(place)
    return judge_name(place)


def _copy(source: Path, target: Path) -> None:
    """Copy a finished run, complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".judge-") as folder:
        copied = shutil.copytree(source, Path(folder) / "copy")
        shutil.rmtree(target, ignore_errors=True)
        copied.rename(target)


def _check_finished(folder: RunFolder) -> None:
    """Reject a judge that has failed, before anything is trained for it to evaluate."""
    result = folder.result()
    if result.status != "finished":
        cached = cache_folder() / "judges" / folder.path.name
        raise UserError(
            f"{folder.path}: the judge of these images has failed ({result.reason}), and its labels would "
            "be in every metric; raise measure.judge_epochs, or delete that folder and "
            f"{cached} to train it again"
        )


@dataclass(frozen=True)
class LoadedJudge:
    """A trained judge with arrays in and out."""

    network: Judge
    name: str
    """Hashes of its data, its recipe and its weights."""
    accuracy: float
    """Share of real test images whose label it says."""

    def labels(self, images: Float[np.ndarray, "n channel height width"]) -> Int[np.ndarray, " n"]:
        """The label that each image shows."""
        return np.concatenate([self.network(b).argmax(dim=1).numpy() for b in _batches(images)])

    def features(
        self, images: Float[np.ndarray, "n channel height width"]
    ) -> Float[np.ndarray, "n feature"]:
        """What the last layer reads, for the Fréchet distance."""
        return np.concatenate([self.network.features(b).numpy() for b in _batches(images)])


def load_judge(recipe: GenerateRecipe, store: LabelledStore, shared: Path) -> LoadedJudge:
    """The judge that ``ensure_judge`` has put into ``shared``."""
    of_judge = judge_recipe(recipe)
    folder = judge_folder(of_judge, store, shared)
    network = judge_for(of_judge, len(store.class_names))
    network.load_state_dict(load_file(folder.weights))
    network.eval().requires_grad_(requires_grad=False)
    return LoadedJudge(network, judge_name(folder), folder.result().metrics["accuracy"])


def judge_name(folder: RunFolder) -> str:
    """The name of the judge that has finished in this folder."""
    weights = hashlib.sha256(folder.weights.read_bytes()).hexdigest()[:8]
    return f"{folder.path.name}-{weights}"


def _batches(images: Float[np.ndarray, "n channel height width"]) -> list[Tensor]:
    whole = torch.from_numpy(np.ascontiguousarray(images))
    return [batch.contiguous(memory_format=torch.channels_last) for batch in whole.split(_BATCH)]
