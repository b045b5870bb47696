"""Fit a module to the training rows of a store: the one training loop."""

from __future__ import annotations

import functools
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import lightning as L  # noqa: N812 (its own documentation's name)
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

from isthmus.data.store import Store
from isthmus.engine.device import Precision
from isthmus.engine.loaders import batches_in_order, split_for, training_batches
from isthmus.engine.run_folder import RunFolder, write_atomically
from isthmus.engine.seeds import stream, torch_seed
from isthmus.engine.task import task_of
from isthmus.engine.task_module import EpochLines, ProgressCallback
from isthmus.engine.trained import Trained
from isthmus.recipe import Recipe

NoLogger = Literal[False]
"""Lightning's word for none."""


def fit(
    store: Store,
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    precision: Precision,
    *,
    logger: Logger | NoLogger = False,
    on_progress: ProgressCallback = lambda _done, _of, _words: None,
    shared: Path | None = None,
) -> Trained:
    """Train as the recipe says; return the network with the weights of the epoch that it keeps.

    Resumes after the last complete epoch if the folder holds its checkpoint. Seeds torch's global
    generator.

    Args:
        store: What the recipe's task opens.
        recipe: Says what is trained, how long and how.
        seed: Decides split, weights, order and augmentation.
        folder: Gets a line an epoch, a log and checkpoints.
        precision: What ``precision_here`` returned.
        logger: Lightning's, beside the folder's own.
        on_progress: Called after each step.
        shared: Where what several runs share is kept; None: in the run's own folder.
    """
    split = split_for(recipe, store, seed)
    loader = training_batches(recipe, store, split.train, seed)
    steps = recipe.train.epochs * len(loader)
    torch.manual_seed(torch_seed(stream(seed, "init")))
    module = task_of(recipe).new_module(recipe, store, steps)
    # At the end of an epoch, else the epoch under way would be counted as not begun.
    keep = functools.partial(ModelCheckpoint, folder.checkpoints, save_on_train_epoch_end=True)
    best = keep("best", monitor=f"validation_{module.chooses}", mode=module.direction)
    last = keep("last", enable_version_counter=False)
    log_line(folder, f"training {len(split.train)} images, {steps} steps, {precision}, seed {seed}")
    with _quiet_lightning():
        trainer = L.Trainer(
            max_epochs=recipe.train.epochs,
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            logger=logger,
            callbacks=[EpochLines(folder, seed, on_progress), best, last],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder.path,
        )
        before = folder.checkpoints / "last.ckpt"
        resumes = before.exists()
        if resumes:
            _at_home(before)
        with _interruptible():
            trainer.fit(
                module,
                loader,
                batches_in_order(recipe, store, split.validation),
                ckpt_path=before if resumes else None,
            )
    epoch = len(folder.epochs())  # fewer than asked for where a loss is not finite
    if recipe.train.keep == "best":
        kept = torch.load(best.best_model_path, "cpu", weights_only=True)
        module.load_state_dict(kept["state_dict"])
        epoch = kept["epoch"] + 1
    shared = folder.path if shared is None else shared
    return Trained(module, epoch, recipe, seed, folder, store, split, precision, shared)


def _at_home(checkpoint: Path) -> None:
    """Let a checkpoint in a folder that has been moved name its files where they lie now.

    Lightning knows by the folder's path which epoch was best so far, and forgets it with another.
    """
    content, here = torch.load(checkpoint, "cpu", weights_only=True), checkpoint.parent.resolve()
    states = [state for state in content["callbacks"].values() if "best_model_path" in state]
    if all(state["dirpath"] == str(here) for state in states):
        return

    def home(path: str) -> str:
        return path and str(here / Path(path).name)

    for state in states:
        state["dirpath"] = str(here)
        state["best_k_models"] = {home(path): of for path, of in state["best_k_models"].items()}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = home(state[key])
    write_atomically(checkpoint, lambda file: torch.save(content, file))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays what it is everywhere: Lightning makes it an exit, and deaf to the next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def log_line(folder: RunFolder, words: str) -> None:
    """Add what has happened to the folder's log, with the time."""
    with folder.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice that does not apply: one process on purpose, no logger."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for words in (
            ".*does not have many workers.*",
            ".*Checkpoint directory .* exists.*",
            ".*LeafSpec.* is deprecated.*",
        ):
            warnings.filterwarnings("ignore", words)
        yield
