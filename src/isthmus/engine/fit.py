"""Train a module on a store: the one training loop, and the trained network that it returns."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger

from isthmus.data.batches import Batch, Batches
from isthmus.data.splits import Split
from isthmus.data.store import Store
from isthmus.engine.compiling import compile_network, saves_time
from isthmus.engine.device import CPU, Device
from isthmus.engine.loaders import TrainingBatches, split_for
from isthmus.engine.run_folder import RunFolder, write_atomically
from isthmus.engine.seeds import torch_seed
from isthmus.engine.task import ProgressCallback, no_progress, task_of
from isthmus.engine.task_module import Sums, TaskModule, optimiser_for, schedule_for
from isthmus.metrics.metric import in_words
from isthmus.recipe import Recipe

logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.ERROR)
logging.getLogger("lightning.fabric").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Trained:
    """A trained module with its recipe, folder and data."""

    module: TaskModule
    epoch: int
    """The epoch whose weights the module has, from 1."""
    recipe: Any
    seed: int
    folder: RunFolder
    store: Any
    """Returned by the task's ``open_store``."""
    split: Split
    device: Device
    is_compiled: bool
    """Whether torch.compile translated the network."""
    shared: Path
    """Folder of what several runs share, such as the judge."""

    def batches(self, rows: Int[np.ndarray, " n"]) -> Iterator[Batch]:
        """These images in order, without augmentation, on the run's device."""
        return Batches(self.store.columns, rows, self.device.torch_device)(self.recipe.train.batch)

    @contextmanager
    def evaluating(self) -> Iterator[torch.nn.Module]:
        """The network in evaluation mode, without gradients."""
        self.module.eval()
        with torch.inference_mode(), self.device.autocast():
            yield self.module.network


def fit(
    store: Store,
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    device: Device = CPU,
    *,
    loggers: Sequence[Logger] = (),
    on_progress: ProgressCallback = no_progress,
    shared: Path | None = None,
) -> Trained:
    """Train a network as the recipe says; the returned module has the weights of the selected epoch.

    Resumes after the last complete epoch if the folder holds its checkpoint. Stops after an epoch
    whose training loss is not finite. Seeds torch's global generators.

    Args:
        store: Returned by the task's ``open_store``.
        recipe: Decides everything but the random draws.
        seed: Decides split, initial weights, order and augmentation.
        folder: Receives the table of epochs, the log and checkpoints.
        device: Where to train, and in which precision.
        loggers: Trackers that also receive the metrics of every epoch.
        on_progress: Called after each step.
        shared: Folder of what several runs share; if None, ``RunFolder.shared``.
    """
    split = split_for(recipe, store, seed)
    batches = TrainingBatches(recipe, store, split.train, seed, device.torch_device)
    validation = Batches(store.columns, split.validation, device.torch_device)
    steps = recipe.train.epochs * len(batches)
    torch.manual_seed(torch_seed(seed, "init"))
    bare = task_of(recipe).new_module(recipe, store, steps)
    optimiser = optimiser_for(recipe.train, bare.to(device.torch_device).parameters())
    schedule = schedule_for(recipe.train, optimiser, steps)
    fabric = Fabric(
        accelerator=device.torch_device.type,
        devices=1,
        precision="bf16-mixed" if device.precision == "bf16" else "32-true",
        loggers=list(loggers),
    )
    module, optimiser = fabric.setup(bare, optimiser)
    words = f"{device.torch_device.type}, {device.precision}, seed {seed}"
    log_line(folder, f"training {len(split.train)} images, {steps} steps, {words}")

    last, best = folder.checkpoints / "last.ckpt", folder.checkpoints / "best.ckpt"
    progress: dict[str, Any] = {
        "epoch": 0,
        "best_epoch": 0,
        "best_value": math.nan,
        "compiled": None,
    }
    state = {"module": module, "optimiser": optimiser, "schedule": schedule, "progress": progress}
    if last.exists():
        fabric.load(last, state)
        progress = state["progress"]
    if progress["compiled"] is None:
        progress["compiled"] = _is_compiled(recipe, bare, batches, steps, device, folder)
    if progress["compiled"]:
        compile_network(bare, device)

    words, is_finite = "", True
    while progress["epoch"] < recipe.train.epochs and is_finite:
        began, epoch = time.monotonic(), progress["epoch"]
        # Dropout and the noise of a VAE are drawn from the global generators.
        torch.manual_seed(torch_seed(seed, "dropout", epoch))
        module.train()
        totals = _Totals()
        for step, batch in enumerate(batches.epoch(epoch), epoch * len(batches)):
            bare.steps_done = step
            loss, sums = module(batch, "train")
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
            schedule.step()
            totals.add(sums, len(batch["index"]))
            on_progress(step + 1, steps, words)
        bare.steps_done = (epoch + 1) * len(batches)
        metrics = {
            "train": totals.metrics(bare),
            "validation": _validated(module, bare, validation),
        }

        value = metrics["validation"][bare.selection_metric]
        words = f"validation {in_words(bare.selection_metric)} {value:.3f}"
        line = {f"{part}_{name}": v for part, of in metrics.items() for name, v in of.items()}
        rate = float(schedule.get_last_lr()[0])
        line = {"epoch": epoch + 1.0, "lr": rate, **line, "seconds": time.monotonic() - began}
        folder.add_epoch(line)
        fabric.log_dict(line, epoch + 1)
        progress["epoch"] = epoch + 1
        if _is_better(value, progress["best_value"], bare.direction) or not progress["best_epoch"]:
            progress |= {"best_epoch": epoch + 1, "best_value": value}
            _save(fabric, best, {"module": module})
        _save(fabric, last, state)
        is_finite = math.isfinite(metrics["train"]["loss"])

    selected = progress["epoch"]
    if recipe.train.keep == "best":
        fabric.load(best, {"module": module})
        selected = progress["best_epoch"]
    shared = shared or folder.shared
    compiled = progress["compiled"]
    return Trained(bare, selected, recipe, seed, folder, store, split, device, compiled, shared)


def _is_compiled(
    recipe: Recipe,
    module: TaskModule,
    batches: TrainingBatches,
    steps: int,
    device: Device,
    folder: RunFolder,
) -> bool:
    """What ``train.compile`` decides; "auto" measures."""
    if recipe.train.compile != "auto":
        return recipe.train.compile
    decided, words = saves_time(module, next(batches.epoch(0)), steps, device)
    log_line(folder, words)
    return decided


class _Totals:
    """Sums over the batches of an epoch, in float64 where the device has it; they stay there."""

    def __init__(self) -> None:
        self.sums: Sums = {}
        self.images = 0

    def add(self, sums: Sums, images: int) -> None:
        for name, value in sums.items():
            if value.is_floating_point() and value.device.type != "mps":
                value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.images += images

    def metrics(self, module: TaskModule) -> dict[str, float]:
        return module.metrics(self.sums, self.images)


def _validated(module: torch.nn.Module, bare: TaskModule, validation: Batches) -> dict[str, float]:
    """The metrics of the validation images."""
    module.eval()
    totals = _Totals()
    with torch.inference_mode():
        for batch in validation(bare.train_recipe.batch):
            totals.add(module(batch, "validation")[1], len(batch["index"]))
    return totals.metrics(bare)


def _is_better(value: float, best: float, direction: str) -> bool:
    return value > best if direction == "max" else value < best


def _save(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    write_atomically(path, lambda file: fabric.save(file, state))


def log_line(folder: RunFolder, words: str) -> None:
    """Append a line with the time to the folder's log."""
    with folder.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")
