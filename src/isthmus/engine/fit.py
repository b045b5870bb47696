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
from isthmus.engine.device import CPU, Device, determinism
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
    loop = _new_loop(store, recipe, seed, split, device, loggers)
    module, fabric, steps = loop.module, loop.fabric, loop.module.steps
    words = f"{device.torch_device.type}, {device.precision}, seed {seed}"
    log_line(folder, f"training {len(split.train)} images, {steps} steps, {words}")

    last, best = folder.checkpoints / "last.ckpt", folder.checkpoints / "best.ckpt"
    progress: dict[str, Any] = {"epoch": 0, "best_epoch": 0, "compiled": None}
    state = loop.state | {"progress": progress}
    if last.exists():
        fabric.load(last, state)
        progress = state["progress"]
    if progress["compiled"] is None:
        progress["compiled"] = _is_compiled(recipe, module, loop.batches, device, folder)
    if progress["compiled"]:
        compile_network(module, device)

    words, is_finite = "", True
    while progress["epoch"] < recipe.train.epochs and is_finite:
        with determinism(wanted=recipe.train.deterministic):
            line = loop.epoch(progress["epoch"], on_progress, words)
        folder.add_epoch(line)
        fabric.log_dict(line, int(line["epoch"]))
        value = line[f"validation_{module.selection_metric}"]
        words = f"validation {in_words(module.selection_metric)} {value:.3f}"
        progress["epoch"] += 1
        if not progress["best_epoch"] or module.is_better(value, progress["best_value"]):
            progress |= {"best_epoch": progress["epoch"], "best_value": value}
            _save(fabric, best, {"module": loop.state["module"]})
        _save(fabric, last, state)
        is_finite = math.isfinite(line["train_loss"])

    selected = progress["epoch"]
    if recipe.train.keep == "best":
        fabric.load(best, {"module": loop.state["module"]})
        selected = progress["best_epoch"]
    shared, compiled = shared or folder.shared, progress["compiled"]
    return Trained(module, selected, recipe, seed, folder, store, split, device, compiled, shared)


@dataclass(frozen=True)
class _Loop:
    """What is trained, on what."""

    fabric: Fabric
    module: TaskModule
    state: dict[str, Any]
    """The module, optimiser and schedule as Fabric runs and saves them."""
    batches: TrainingBatches
    validation: Batches
    seed: int

    def epoch(self, epoch: int, on_progress: ProgressCallback, words: str) -> dict[str, float]:
        """Train and validate one epoch, counted from 0; its line of the epoch table."""
        began = time.monotonic()
        module, optimiser, schedule = (self.state[key] for key in _TRAINED)
        # Dropout and the noise of a VAE are drawn from the global generators.
        torch.manual_seed(torch_seed(self.seed, "dropout", epoch))
        module.train()
        totals = _Totals()
        for step, batch in enumerate(self.batches.epoch(epoch), epoch * len(self.batches)):
            self.module.steps_done = step
            loss, sums = module(batch, "train")
            optimiser.zero_grad()
            self.fabric.backward(loss)
            optimiser.step()
            schedule.step()
            totals.add(sums, len(batch["index"]))
            on_progress(step + 1, self.module.steps, words)
        self.module.steps_done = (epoch + 1) * len(self.batches)
        trained, validated = totals.metrics(self.module), self._validated()
        return {
            "epoch": epoch + 1.0,
            "lr": float(schedule.get_last_lr()[0]),
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"validation_{name}": value for name, value in validated.items()},
            "seconds": time.monotonic() - began,
        }

    def _validated(self) -> dict[str, float]:
        """The metrics of the validation images."""
        module, totals = self.state["module"].eval(), _Totals()
        with torch.inference_mode():
            for batch in self.validation(self.batches.size):
                totals.add(module(batch, "validation")[1], len(batch["index"]))
        return totals.metrics(self.module)


_TRAINED = ("module", "optimiser", "schedule")


def _new_loop(
    store: Store,
    recipe: Recipe,
    seed: int,
    split: Split,
    device: Device,
    loggers: Sequence[Logger],
) -> _Loop:
    """A new network with its optimiser and its batches, on the device."""
    batches = TrainingBatches(recipe, store, split.train, seed, device.torch_device)
    steps = recipe.train.epochs * len(batches)
    torch.manual_seed(torch_seed(seed, "init"))
    module = task_of(recipe).new_module(recipe, store, steps).to(device.torch_device)
    optimiser = optimiser_for(recipe.train, module.parameters())
    schedule = schedule_for(recipe.train, optimiser, steps)
    fabric = Fabric(
        accelerator=device.torch_device.type,
        devices=1,
        precision="bf16-mixed" if device.precision == "bf16" else "32-true",
        loggers=list(loggers),
    )
    state = dict(zip(_TRAINED, (*fabric.setup(module, optimiser), schedule), strict=True))
    validation = Batches(store.columns, split.validation, device.torch_device)
    return _Loop(fabric, module, state, batches, validation, seed)


def _is_compiled(
    recipe: Recipe,
    module: TaskModule,
    batches: TrainingBatches,
    device: Device,
    folder: RunFolder,
) -> bool:
    """What ``train.compile`` decides; "auto" measures."""
    if recipe.train.compile != "auto":
        return recipe.train.compile
    decided, words = saves_time(module, next(batches.epoch(0)), module.steps, device)
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


def _save(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    write_atomically(path, lambda file: fabric.save(file, state))


def log_line(folder: RunFolder, words: str) -> None:
    """Append a line with the time to the folder's log."""
    with folder.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")
