"""Train one recipe with one seed, metric it once, and write it all down."""

from __future__ import annotations

import functools
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from safetensors.torch import save_file

from isthmus import build
from isthmus.data.store import LabelledStore
from isthmus.engine.cost import cost_of
from isthmus.engine.device import environment, precision_here
from isthmus.engine.fit import NoLogger, fit, log_line
from isthmus.engine.run_folder import RunFolder, write_atomically, write_json
from isthmus.engine.seeds import numpy_draws
from isthmus.engine.task_module import ProgressCallback
from isthmus.engine.trained import Trained
from isthmus.metrics.collapse import broken_loss
from isthmus.recipe import AnyRecipe, GenerateRecipe, recipe_as_toml
from isthmus.tasks.generate.cas import check_cas_images
from isthmus.tasks.generate.judge import (
    check_judge_finished,
    check_same_judge,
    judge_folder,
    judge_name,
    judge_recipe,
)
from isthmus.tasks.task import TASKS, module_for

LoggerName = Literal["none", "tensorboard", "mlflow"]


def train_run(
    recipe: AnyRecipe,
    seed: int,
    folder: RunFolder,
    *,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    on_progress: ProgressCallback = lambda _done, _of, _words: None,
    judge: str | None = None,
) -> dict[str, Any]:
    """Train, choose the epoch on validation, metric the test set once, and write it all down.

    A run that was cut short goes on from its last whole epoch, as if it had not been.

    Args:
        recipe: All that decides the run, but for its seed.
        seed: Of all its random draws.
        folder: Where it lies.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that follows it too.
        on_progress: Called with the steps done, their number and a few words.
        judge: The name of the judge that has evaluated the runs beside this one; None: any will do.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: If the data break a rule, the folder holds a run of another recipe, or the cache
            another judge.
    """
    trained = _fitted(recipe, seed, folder, data_root, logger, on_progress, judge)
    cost = cost_of(trained.module)
    result = _result(trained, TASKS[recipe.task].metric(trained)) | {
        "parameters": cost.parameters,
        "gflop": cost.gflop,
    }
    network, store = trained.module.network, trained.store
    write_atomically(
        folder.weights,
        lambda file: save_file(
            {key: value.contiguous() for key, value in network.state_dict().items()},
            file,
            metadata={
                "recipe": recipe_as_toml(recipe),
                "class_names": "\n".join(store.class_names),
            },
        ),
    )
    return _finish(folder, result)


def tune_run(
    recipe: AnyRecipe,
    seed: int,
    folder: RunFolder,
    *,
    data_root: Path | None = None,
    on_progress: ProgressCallback = lambda _done, _of, _words: None,
) -> dict[str, Any]:
    """Train and choose the epoch on validation; the test set is never looked at.

    Goes on where it stopped, as ``train_run`` does.

    Returns:
        The content of ``result.json``: the validation metric that chose the epoch is its "metric".

    Raises:
        UserError: If the data break a rule, or the folder holds a run of another recipe.
    """
    trained = _fitted(recipe, seed, folder, data_root, "none", on_progress)
    module = trained.module
    line = trained.folder.epochs()[trained.epoch - 1]
    metric = float(line[f"validation_{module.chooses}"])
    unsound = "" if math.isfinite(metric) else "the validation metric is not finite"
    reason = _broken_loss(trained) or unsound
    return _finish(
        folder,
        {
            "status": "failed" if reason else "finished",
            "reason": reason,
            "metric": metric,
            "metric_name": module.chooses,
            "higher_is_better": module.direction == "max",
            "train_seconds": folder.train_seconds(),
            "recipe_hash": recipe.hash,
            "seed": seed,
            "content": trained.store.content,
        },
    )


def _fitted(
    recipe: AnyRecipe,
    seed: int,
    folder: RunFolder,
    data_root: Path | None,
    logger: LoggerName,
    on_progress: ProgressCallback,
    judge: str | None = None,
) -> Trained:
    """The module, trained, with all that its metrics are made from."""
    store = build.store_for(recipe.data, data_root)
    folder.claim(recipe, store.content)
    split = build.split_for(recipe.data, store, numpy_draws(seed, "split"))
    begun_with = {"content": store.content}
    if isinstance(recipe, GenerateRecipe) and isinstance(store, LabelledStore):
        check_cas_images(recipe.measure, len(store.class_names))
        of_judge = judge_recipe(recipe)
        place = judge_folder(of_judge, store)
        if not place.is_finished:
            with torch.random.fork_rng(devices=[]):  # what no network fits is rejected first
                module_for(recipe, store, steps=1)
            place.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{place.path}.lock"):  # studies side by side train it once
                if not place.is_finished:
                    train_run(of_judge, 0, place, data_root=data_root, on_progress=on_progress)
        check_judge_finished(place)
        ours = judge_name(place)
        check_same_judge(ours, judge)
        begun_with["judge"] = ours
    precision = precision_here(recipe.train.precision)
    write_json(folder.environment, environment(precision) | begun_with)

    fresh = functools.partial(module_for, recipe, store)
    named = _lightning_logger(logger, folder)
    module, epoch = fit(
        fresh, recipe, seed, folder, store, split, precision, logger=named, on_progress=on_progress
    )
    return Trained(module, epoch, recipe, seed, folder, store, split, precision)


def _finish(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    said = result["reason"] or result.get("metrics", result.get("metric"))
    log_line(folder, f"{result['status']}: {said}")
    folder.finish(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return result


def _result(trained: Trained, evaluated: dict[str, Any]) -> dict[str, Any]:
    """What the task's evaluation says, with what every run says."""
    epochs, split = trained.folder.epochs(), trained.split
    reason = _broken_loss(trained) or evaluated["reason"]
    return {
        "status": "failed" if reason else "finished",
        **evaluated,
        "reason": reason,
        "label_scheme": trained.store.label_scheme,
        "content": trained.store.content,
        "class_names": list(trained.store.class_names),
        "train_loss_last": float(epochs[-1]["train_loss"]),
        "train_seconds": trained.folder.train_seconds(),
        "epochs": len(epochs),
        "best_epoch": trained.epoch,
        "recipe_hash": trained.recipe.hash,
        "seed": trained.seed,
        "images": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
    }


def _broken_loss(trained: Trained) -> str | None:
    """What is wrong with the losses of all epochs, however sound the one whose weights were kept."""
    return broken_loss([float(line["train_loss"]) for line in trained.folder.epochs()])


def _lightning_logger(name: LoggerName, folder: RunFolder) -> Logger | NoLogger:
    if name == "tensorboard":
        return TensorBoardLogger(folder.path, name="tensorboard", version="")
    if name == "mlflow":
        study = folder.path.parents[2]
        return MLFlowLogger(study.name, tracking_uri=f"sqlite:///{study / 'mlflow.db'}")
    return False
