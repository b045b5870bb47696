"""Two decoders whose swap metrics are known in theory, as rows to compare a VAE with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.data.store import LabelledStore
from isthmus.engine.run_result import Baseline
from isthmus.engine.seeds import numpy_draws
from isthmus.metrics.style import class_medoids
from isthmus.tasks.generate.evaluate import images_of, swap_shares
from isthmus.tasks.generate.judge import judge_folder, judge_recipe, load_judge
from isthmus.tasks.generate.label_swap import judged_swap, wrong_labels_of
from isthmus.tasks.generate.recipe import GenerateRecipe


def control_baselines(
    recipe: GenerateRecipe, seed: int, store: LabelledStore, shared: Path
) -> tuple[Baseline, ...]:
    """The controls under the wrong labels of a seed; none before the judge has been trained.

    One decoder reconstructs perfectly and ignores the label: its swaps succeed only where the judge
    errs, and all style is kept. The other returns one image for each label, the training image
    nearest to the mean of its class: its swaps succeed, and no style is kept. (The mean itself is
    a grey blur, which no judge was trained on.)
    """
    if not judge_folder(judge_recipe(recipe), store, shared).is_finished:
        return ()
    judge = load_judge(recipe, store, shared)
    parts = np.asarray(store.parts)
    images, true = images_of(store, np.flatnonzero(parts == "test"))
    given = wrong_labels_of(true, len(store.class_names), seed)
    of_training = np.where(parts == "train", store.labels, -1)
    medoids, _ = images_of(store, class_medoids(store.images, of_training, len(store.class_names)))
    controls = {
        "ignores the label": images,
        "class medoids": medoids[given],
    }
    definitions = {
        "ignores the label": "a decoder that returns the source image, whatever label it is given",
        "class medoids": "a decoder that returns, for the label it is given, the training image "
        "nearest to the mean of that class; swaps succeed where the judge gives the medoid its label",
    }
    baselines = []
    for name, outputs in controls.items():
        swap = judged_swap(judge, images, outputs, true, given, numpy_draws(seed, "style"))
        metrics = swap_shares(swap, "encoded_true") | swap_shares(swap, "encoded_wrong")
        baselines.append(
            Baseline(
                name=f"{name} (control)",
                definition=definitions[name],
                is_floor=name == "ignores the label",
                metrics=metrics,
            )
        )
    return tuple(baselines)
