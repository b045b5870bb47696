"""The judge: a classifier that says what label an image shows, trained once for a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from isthmus import build
from isthmus.data.store import LabelledStore
from isthmus.engine.run_folder import RunFolder
from isthmus.errors import UserError
from isthmus.nn.classifier import Judge
from isthmus.recipe import (
    Classifier,
    ClassifyRecipe,
    ClassifyTrain,
    GenerateRecipe,
    settings_hash,
    settings_of,
)

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


def judge_folder(recipe: ClassifyRecipe, store: LabelledStore) -> RunFolder:
    """Where the judge lies, in the cache: named by its recipe and what the data are, not where."""
    settings = settings_hash(settings_of(recipe) | {"data.folder": None})
    return RunFolder(build.cache_folder() / "judges" / f"{store.content}-{settings}")


def check_judge_finished(folder: RunFolder) -> None:
    """Reject a judge whose word is worth nothing, before anything is trained for it.

    Raises:
        UserError: If its training has failed.
    """
    result = folder.result()
    if result["status"] != "finished":
        raise UserError(
            f"{folder.path}: the judge of these images has failed ({result['reason']}), and what it says "
            "would be in every metric; raise measure.judge_epochs, or delete that folder to try again"
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


def load_judge(recipe: GenerateRecipe, store: LabelledStore) -> LoadedJudge:
    """The judge that ``train_run`` has trained for these data."""
    of_judge = judge_recipe(recipe)
    folder = judge_folder(of_judge, store)
    network = build.judge_for(of_judge, len(store.class_names))
    network.load_state_dict(load_file(folder.weights))
    network.eval().requires_grad_(requires_grad=False)
    return LoadedJudge(network, judge_name(folder), folder.result()["metrics"]["accuracy"])


def judge_name(folder: RunFolder) -> str:
    """The name of the judge that has finished in this folder."""
    weights = hashlib.sha256(folder.weights.read_bytes()).hexdigest()[:8]
    return f"{folder.path.name}-{weights}"


def check_same_judge(ours: str, theirs: str | None) -> None:
    """Reject to evaluate with another judge than the runs beside this one have, where they have one.

    Raises:
        UserError: If these are two names.
    """
    if theirs not in (None, ours):
        raise UserError(
            f"the judge in the cache, {ours}, is not {theirs}, which metrics the other runs: two "
            f"judges differ by points; put that one back into {build.cache_folder() / 'judges'}, or choose "
            "another --out"
        )


def _batches(images: Float[np.ndarray, "n channel height width"]) -> list[Tensor]:
    whole = torch.from_numpy(np.ascontiguousarray(images))
    return [batch.contiguous(memory_format=torch.channels_last) for batch in whole.split(_BATCH)]
