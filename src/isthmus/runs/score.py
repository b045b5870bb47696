"""Score a trained network on the test set, once, and say whether the run can be counted."""

from __future__ import annotations

from typing import Any

import lightning as L  # noqa: N812 (its own documentation's name)
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch.utils.data import DataLoader

from isthmus.data.store import Store
from isthmus.recipe import Recipe
from isthmus.runs.folder import RunFolder, write_arrays
from isthmus.runs.segmenter import Segmenter, as_u8
from isthmus.scoring.collapse import collapse_reason
from isthmus.scoring.losses import loss_range
from isthmus.scoring.segmentation import segmentation_scores


def predicted_masks(
    module: Segmenter, loader: DataLoader[Any], trainer: L.Trainer
) -> UInt8[np.ndarray, "n height width"]:
    """The network's class ids for every picture of the loader, in the precision it trained with."""
    module.eval()
    masks = []
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in loader:
            image = batch["image"].to(module.device, memory_format=torch.channels_last)
            masks.append(as_u8(module.network(image).argmax(dim=1)))
    return np.concatenate(masks)


def scored_run(
    recipe: Recipe,
    folder: RunFolder,
    store: Store,
    test: Int[np.ndarray, " n"],
    prediction: UInt8[np.ndarray, "n height width"],
) -> dict[str, Any]:
    """Score the test set, once; write the arrays; say whether the run can be counted."""
    truth = np.asarray(store.masks[test])
    names = [store.names[i] for i in test]
    scores = segmentation_scores(truth, prediction, store.class_names)
    epochs = folder.epochs()
    reason = collapse_reason(
        prediction,
        truth,
        len(store.class_names),
        [float(line["train_loss"]) for line in epochs],
        loss_range(recipe.loss.name),
    )
    best = max(epochs, key=lambda line: float(line["validation_mean_iou"]))
    write_arrays(folder.predictions, {"masks": prediction, "names": names})
    write_arrays(folder.scores, {"names": names, **scores.per_picture})
    return {
        "status": "failed" if reason else "finished",
        "reason": reason or "",
        "scores": scores.over_set,
        "contract": store.contract,
        "class_names": list(store.class_names),
        "train_loss_last": float(epochs[-1]["train_loss"]),
        "train_seconds": sum(float(line["seconds"]) for line in epochs),
        "epochs": len(epochs),
        "best_epoch": int(float((best if recipe.train.keep == "best" else epochs[-1])["epoch"])),
    }
