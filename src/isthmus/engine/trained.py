"""A network that has been trained, with all that its metrics are made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from isthmus import build
from isthmus.data.splits import Split
from isthmus.engine.device import Precision, autocast
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task_module import TaskModule
from isthmus.recipe import AnyRecipe


@dataclass(frozen=True)
class Trained:
    """A trained module beside its recipe, folder and data."""

    module: TaskModule
    epoch: int
    """Whose weights the module has, from 1."""
    recipe: AnyRecipe
    seed: int
    folder: RunFolder
    store: Any
    """A ``MaskedStore`` or a ``LabelledStore``, as the task wants it."""
    split: Split
    precision: Precision

    def batches(self, rows: Int[np.ndarray, " n"]) -> Iterator[dict[str, Any]]:
        """These images in order, without random changes."""
        return iter(build.loader_in_order(self.recipe, self.store, rows))

    @contextmanager
    def scoring(self) -> Iterator[torch.nn.Module]:
        """The network in evaluation mode, without gradients, on the processor."""
        self.module.eval()
        with torch.inference_mode(), autocast(self.precision):
            yield self.module.network
