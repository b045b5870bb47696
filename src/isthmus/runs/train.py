"""Train one recipe with one seed and score it once: the only place that knows Lightning."""

from __future__ import annotations

import functools
import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L  # noqa: N812 (its own documentation's name)
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from isthmus import build
from isthmus.data.store import LabelledStore
from isthmus.recipe import AnyRecipe, GenerateRecipe, recipe_as_toml
from isthmus.runs.cost import cost_of
from isthmus.runs.folder import RunFolder, write_json, write_whole
from isthmus.runs.judge import judge_folder, judge_recipe
from isthmus.runs.machine import environment, precision_here
from isthmus.runs.module import EpochLines, EpochOrder, Watch
from isthmus.runs.seeds import stream, torch_seed
from isthmus.runs.tasks import TASKS, module_for
from isthmus.runs.trained import Trained

LoggerName = Literal["none", "tensorboard", "mlflow"]


def train_run(
    recipe: AnyRecipe,
    seed: int,
    folder: RunFolder,
    *,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    watch: Watch = lambda _done, _of, _words: None,
) -> dict[str, Any]:
    """Train, choose the epoch on validation, score the test set once, and write it all down.

    A run that was cut short goes on from its last whole epoch, as if it had not been.

    Returns:
        The content of ``result.json``.

    Raises:
        Refusal: If the data break a rule, or the folder holds a run of another recipe.
    """
    folder.claim(recipe)
    store = build.store_for(recipe.data, data_root)
    split = build.split_for(recipe.data, store, np.random.default_rng(stream(seed, "split")))
    if isinstance(recipe, GenerateRecipe) and isinstance(store, LabelledStore):
        of_judge = judge_recipe(recipe)
        if not (place := judge_folder(of_judge, store)).is_finished:
            train_run(of_judge, 0, place, data_root=data_root, watch=watch)
    precision = precision_here(recipe.train.precision)
    write_json(folder.path / "environment.json", environment(precision))

    pictures = build.training_pictures(
        recipe, store, split.train, torch_seed(stream(seed, "augmentation"))
    )
    loader = DataLoader(
        pictures,
        recipe.train.batch,
        sampler=EpochOrder(pictures, seed),
        collate_fn=pictures.collate,
        generator=torch.Generator(),  # else starting an epoch draws from the one that dropout uses
    )
    steps = recipe.train.epochs * len(loader)
    torch.manual_seed(torch_seed(stream(seed, "init")))
    module = module_for(recipe, store, steps)
    cost = cost_of(module)
    # At the end of an epoch, else the epoch under way would be counted as not begun.
    keep = functools.partial(ModelCheckpoint, folder.checkpoints, save_on_train_epoch_end=True)
    best = keep("best", monitor=f"validation_{module.chooses}", mode=module.direction)
    last = keep("last", enable_version_counter=False)
    _log(folder, f"training {len(split.train)} pictures, {steps} steps, {precision}, seed {seed}")
    with _quiet_lightning():
        trainer = L.Trainer(
            max_epochs=recipe.train.epochs,
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            logger=_lightning_logger(logger, folder),
            callbacks=[EpochLines(folder, seed, watch), best, last],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder.path,
        )
        before = folder.checkpoints / "last.ckpt"
        trainer.fit(
            module,
            loader,
            build.loader_in_order(recipe, store, split.validation),
            ckpt_path=before if before.exists() else None,
        )
    if recipe.train.keep == "best" and (path := Path(best.best_model_path)).is_file():
        module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])

    trained = Trained(module, recipe, seed, folder, store, split, precision, data_root)
    result = _result(trained, TASKS[recipe.task].score(trained)) | {
        "parameters": cost.parameters,
        "gflop": cost.gflop,
    }
    write_whole(
        folder.weights,
        lambda file: save_file(
            {key: value.contiguous() for key, value in module.network.state_dict().items()},
            file,
            metadata={
                "recipe": recipe_as_toml(recipe),
                "class_names": "\n".join(store.class_names),
            },
        ),
    )
    _log(folder, f"{result['status']}: {result['reason'] or result['scores']}")
    folder.finish(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return result


def _result(trained: Trained, scored: dict[str, Any]) -> dict[str, Any]:
    """What the task's scoring says, with what every run says."""
    epochs, split = trained.folder.epochs(), trained.split
    choose = min if trained.module.direction == "min" else max
    best = choose(epochs, key=lambda line: float(line[f"validation_{trained.module.chooses}"]))
    return {
        "status": "failed" if scored["reason"] else "finished",
        **scored,
        "contract": trained.store.contract,
        "class_names": list(trained.store.class_names),
        "train_loss_last": float(epochs[-1]["train_loss"]),
        "train_seconds": sum(float(line["seconds"]) for line in epochs),
        "epochs": len(epochs),
        "best_epoch": int(
            float((best if trained.recipe.train.keep == "best" else epochs[-1])["epoch"])
        ),
        "recipe_hash": trained.recipe.hash,
        "seed": trained.seed,
        "pictures": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
    }


def _log(folder: RunFolder, words: str) -> None:
    with folder.log.open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")


def _lightning_logger(name: LoggerName, folder: RunFolder) -> Logger | Literal[False]:
    if name == "tensorboard":
        return TensorBoardLogger(folder.path, name="tensorboard", version="")
    if name == "mlflow":
        study = folder.path.parents[2]
        return MLFlowLogger(study.name, tracking_uri=f"sqlite:///{study / 'mlflow.db'}")
    return False


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
