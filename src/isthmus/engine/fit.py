"""Train a module on a store: the one training loop, and the trained network that it returns."""

from __future__ import annotations

import functools
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L  # noqa: N812 (its own documentation's name)
import numpy as np
import torch
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from isthmus.data.splits import Split
from isthmus.data.store import Store
from isthmus.engine.device import Precision, autocast
from isthmus.engine.loaders import batches_in_order, split_for, training_batches
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.seeds import torch_seed
from isthmus.engine.task import ProgressCallback, no_progress, task_of
from isthmus.engine.task_module import TaskModule
from isthmus.metrics.metric import in_words
from isthmus.recipe import Recipe


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
    precision: Precision
    shared: Path
    """Folder of what several runs share, such as the judge."""

    def batches(self, rows: Int[np.ndarray, " n"]) -> Iterator[dict[str, Any]]:
        """These images in order, without augmentation."""
        return iter(batches_in_order(self.recipe, self.store, rows))

    @contextmanager
    def evaluating(self) -> Iterator[torch.nn.Module]:
        """The network in evaluation mode, without gradients, on the CPU."""
        self.module.eval()
        with torch.inference_mode(), autocast(self.precision):
            yield self.module.network


def fit(
    store: Store,
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    precision: Precision,
    *,
    logger: Logger | Literal[False] = False,
    on_progress: ProgressCallback = no_progress,
    shared: Path | None = None,
) -> Trained:
    """Train by the recipe; the returned module has the weights of the selected epoch.

    Resumes after the last complete epoch if the folder holds its checkpoint. Seeds torch's global
    generator.

    Args:
        store: Returned by the task's ``open_store``.
        recipe: Decides everything but the random draws.
        seed: Decides split, initial weights, order and augmentation.
        folder: Receives the table of epochs, the log and checkpoints.
        precision: From ``precision_here``.
        logger: A Lightning logger that also receives the metrics.
        on_progress: Called after each step.
        shared: Folder of what several runs share; None: ``RunFolder.shared``.
    """
    split = split_for(recipe, store, seed)
    loader = training_batches(recipe, store, split.train, seed)
    steps = recipe.train.epochs * len(loader)
    torch.manual_seed(torch_seed(seed, "init"))
    module = task_of(recipe).new_module(recipe, store, steps)
    # Saved at the end of an epoch: a resume would repeat an epoch that was saved before its end.
    checkpoint = functools.partial(_Checkpoint, folder.checkpoints, save_on_train_epoch_end=True)
    monitor = f"validation_{module.selection_metric}"
    best = checkpoint("best", monitor=monitor, mode=module.direction)
    last = checkpoint("last", enable_version_counter=False)
    log_line(folder, f"training {len(split.train)} images, {steps} steps, {precision}, seed {seed}")
    with _quiet_lightning(), _ctrl_c_interrupts():
        trainer = L.Trainer(
            max_epochs=recipe.train.epochs,
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            logger=logger,
            callbacks=[_Epochs(folder, seed, on_progress), best, last],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder.path,
        )
        validation = batches_in_order(recipe, store, split.validation)
        before = folder.checkpoints / "last.ckpt"
        trainer.fit(module, loader, validation, ckpt_path=before if before.exists() else None)
    epoch = len(folder.epochs())  # fewer than recipe.train.epochs after a loss that is not finite
    if recipe.train.keep == "best":
        selected = torch.load(best.best_model_path, "cpu", weights_only=True)
        module.load_state_dict(selected["state_dict"])
        epoch = selected["epoch"] + 1
    shared = shared or folder.shared
    return Trained(module, epoch, recipe, seed, folder, store, split, precision, shared)


class _Epochs(Callback):
    """Seeds each epoch, reports progress, and writes a line of the epoch table."""

    def __init__(self, folder: RunFolder, seed: int, on_progress: ProgressCallback) -> None:
        self.folder = folder
        self.seed = seed
        self.on_progress = on_progress
        self.words = ""
        self.began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:  # noqa: ARG002
        """Seed torch's global generator, which dropout and the noise of a VAE draw from."""
        torch.manual_seed(torch_seed(self.seed, "dropout", trainer.current_epoch))
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Report progress."""
        self.on_progress(trainer.global_step, int(trainer.estimated_stepping_batches), self.words)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the epoch, which has been validated; end the run if its loss is not finite."""
        assert isinstance(module, TaskModule)
        numbers = {part: of.numbers() for part, of in module.epoch_metrics.items()}
        metric = module.selection_metric
        self.words = f"validation {in_words(metric)} {numbers['validation'][metric]:.3f}"
        self.folder.add_epoch(
            {
                "epoch": float(trainer.current_epoch + 1),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **{f"{part}_{name}": v for part, of in numbers.items() for name, v in of.items()},
                "seconds": time.monotonic() - self.began,
            }
        )
        if not np.isfinite(numbers["train"]["loss"]):
            trainer.should_stop = True


class _Checkpoint(ModelCheckpoint):
    """Lightning's checkpoints, in a folder that may be moved: Lightning compares absolute paths."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with the files of the same names in the folder as it is now."""
        assert self.dirpath is not None
        here = Path(self.dirpath)

        def moved(path: str) -> str:
            return path and str(here / Path(path).name)

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        state = state_dict | {path: moved(state_dict[path]) for path in paths}
        best = {moved(path): value for path, value in state["best_k_models"].items()}
        super().load_state_dict(state | {"dirpath": self.dirpath, "best_k_models": best})


@contextmanager
def _ctrl_c_interrupts() -> Iterator[None]:
    """Let Ctrl-C raise ``KeyboardInterrupt``; Lightning exits instead and ignores a second one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def log_line(folder: RunFolder, words: str) -> None:
    """Append a line with the time to the folder's log."""
    with folder.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice that does not apply here: data-loader workers, old checkpoints."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for words in (
            ".*does not have many workers.*",
            ".*Checkpoint directory .* exists.*",
            ".*LeafSpec.* is deprecated.*",
        ):
            warnings.filterwarnings("ignore", words)
        yield
