"""A network that has been trained, with all that its evaluation needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from isthmus.data.splits import Split
from isthmus.engine.device import Precision, autocast
from isthmus.engine.loaders import batches_in_order
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task_module import TaskModule


@dataclass(frozen=True)
class Trained:
    """A trained module beside its recipe, folder and data."""

    module: TaskModule
    epoch: int
    """Whose weights the module has, from 1."""
    recipe: Any
    seed: int
    folder: RunFolder
    store: Any
    """What the task's ``open_store`` returns."""
    split: Split
    precision: Precision
    shared: Path
    """Where what several runs share is kept."""

    def batches(self, rows: Int[np.ndarray, " n"]) -> Iterator[dict[str, Any]]:
        """These images in order, without augmentation."""
        return iter(batches_in_order(self.recipe, self.store, rows))

    @contextmanager
    def evaluating(self) -> Iterator[torch.nn.Module]:
        """The network in evaluation mode, without gradients, on the processor."""
        self.module.eval()
        with torch.inference_mode(), autocast(self.precision):
            yield self.module.network
