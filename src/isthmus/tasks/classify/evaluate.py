"""Evaluate a trained classifier on the test set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Evaluation
from isthmus.metrics.generation import Proportion


def evaluate_classifier(trained: Trained) -> Evaluation:
    """Accuracy on the test set with its Wilson interval.

    The run has failed if all images are assigned the same label. The network runs in float32 whatever
    the precision of training, as it does when it is used as a judge.
    """
    test, store = trained.split.test, trained.store
    device = replace(trained.device, precision="float32")
    with replace(trained, device=device).evaluating() as network:
        logits = [
            network(batch["image"].contiguous(memory_format=torch.channels_last))
            for batch in trained.batches(test)
        ]
    predicted = torch.cat(logits).argmax(dim=1).cpu().numpy()
    is_correct = predicted == store.labels[test]
    names = [store.names[row] for row in test]
    image_metrics = {"names": names, "accuracy": is_correct.astype(np.float64)}
    write_arrays(trained.folder.image_metrics, image_metrics)
    is_constant = len(np.unique(predicted)) == 1
    reason = f"classifies every image as {store.class_names[predicted[0]]}" if is_constant else ""
    accuracy = Proportion(int(is_correct.sum()), len(is_correct))
    return Evaluation(reason=reason, metrics=accuracy.named("accuracy"))
