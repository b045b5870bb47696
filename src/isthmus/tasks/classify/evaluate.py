"""Metric a trained classifier on the test set, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from isthmus.engine.run_folder import write_arrays
from isthmus.engine.trained import Trained
from isthmus.metrics.generation import Proportion


def evaluate_classifier(trained: Trained) -> dict[str, Any]:
    """Share of test images whose label it says, with its interval; failed if it is one label.

    In float32 whatever it trained in, as a judge reads: its accuracy is that of what it says.
    """
    test = trained.split.test
    with replace(trained, precision="float32").scoring() as network:
        said = [
            network(batch["image"].contiguous(memory_format=torch.channels_last)).argmax(dim=1)
            for batch in trained.batches(test)
        ]
    judged = torch.cat(said).cpu().numpy()
    is_right = judged == trained.store.labels[test]
    accuracy = Proportion(int(is_right.sum()), len(is_right))
    names = [trained.store.names[row] for row in test]
    write_arrays(trained.folder.metrics, {"names": names, "accuracy": is_right.astype(np.float64)})
    says_one = len(np.unique(judged)) == 1
    return {
        "reason": f"says {trained.store.class_names[judged[0]]} of every image" if says_one else "",
        "metrics": accuracy.named("accuracy"),
    }
