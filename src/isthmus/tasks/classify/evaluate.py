"""Evaluate a trained classifier on the test part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Evaluation
from isthmus.engine.trained import Trained
from isthmus.metrics.generation import Proportion


def evaluate_classifier(trained: Trained) -> Evaluation:
    """Accuracy on the test part with its Wilson interval; failed if it names one label only.

    Runs in float32 whatever precision trained it, as it does when it serves as a judge.
    """
    test = trained.split.test
    with replace(trained, precision="float32").evaluating() as network:
        said = [
            network(batch["image"].contiguous(memory_format=torch.channels_last)).argmax(dim=1)
            for batch in trained.batches(test)
        ]
    judged = torch.cat(said).cpu().numpy()
    is_right = judged == trained.store.labels[test]
    accuracy = Proportion(int(is_right.sum()), len(is_right))
    names = [trained.store.names[row] for row in test]
    write_arrays(
        trained.folder.image_metrics, {"names": names, "accuracy": is_right.astype(np.float64)}
    )
    says_one = len(np.unique(judged)) == 1
    reason = f"says {trained.store.class_names[judged[0]]} of every image" if says_one else ""
    return Evaluation(reason=reason, metrics=accuracy.named("accuracy"))
