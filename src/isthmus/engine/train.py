"""Train one recipe with one seed, evaluate it once, and write it all down."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from safetensors.torch import save_file

from isthmus.data.store import Store
from isthmus.engine.cost import cost_of
from isthmus.engine.device import environment, precision_here
from isthmus.engine.fit import NoLogger, fit, log_line
from isthmus.engine.run_folder import RunFolder, write_atomically
from isthmus.engine.run_result import Evaluation, RunResult, TuningResult
from isthmus.engine.task import task_of
from isthmus.engine.task_module import ProgressCallback
from isthmus.engine.trained import Trained
from isthmus.errors import UserError
from isthmus.metrics.collapse import broken_loss
from isthmus.recipe import Recipe, recipe_as_toml

LoggerName = Literal["none", "tensorboard", "mlflow"]


def _silent(_done: int, _of: int, _words: str) -> None:
    """No progress is shown."""


def train_run(
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    *,
    data_root: Path | None = None,
    logger: LoggerName = "none",
    on_progress: ProgressCallback = _silent,
    shared: Path | None = None,
    alike: Mapping[str, str] | None = None,
) -> RunResult:
    """Train, choose the epoch on validation, evaluate the test part once, and write it all down.

    A run that was cut short resumes after its last complete epoch and ends with the same weights.

    Args:
        recipe: All that decides the run except its seed.
        seed: Of all its random draws.
        folder: Where it is written.
        data_root: Where data sets lie; None: ISTHMUS_DATA or the cache folder.
        logger: A tracker that follows it too.
        on_progress: Called with the steps done, their number and a few words.
        shared: Where what several runs share is kept (a judge); None: in the run's own folder.
        alike: What the runs beside this one have recorded of what they share.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: If the data break a rule, the folder holds a run of another recipe, or what is
            shared is not what the runs beside this one had.
    """
    store = task_of(recipe).open_store(recipe.data, data_root)
    return train_on(
        store,
        recipe,
        seed,
        folder,
        logger=logger,
        on_progress=on_progress,
        shared=shared,
        alike=alike,
    )


def train_on(
    store: Store,
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    *,
    logger: LoggerName = "none",
    on_progress: ProgressCallback = _silent,
    shared: Path | None = None,
    alike: Mapping[str, str] | None = None,
) -> RunResult:
    """``train_run`` on images that are open already."""
    trained = _fitted(store, recipe, seed, folder, logger, on_progress, shared, alike)
    cost = cost_of(trained.module)
    evaluation = task_of(recipe).evaluate(trained)
    result = _result(trained, evaluation, cost.parameters, cost.gflop)
    weights = trained.module.network.state_dict()
    metadata = {"recipe": recipe_as_toml(recipe), "class_names": "\n".join(store.class_names)}
    write_atomically(
        folder.weights,
        lambda file: save_file({k: v.contiguous() for k, v in weights.items()}, file, metadata),
    )
    _finish(folder, result, result.reason or str(result.metrics))
    return result


def tune_run(
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    *,
    data_root: Path | None = None,
    on_progress: ProgressCallback = _silent,
    shared: Path | None = None,
) -> TuningResult:
    """Train and choose the epoch on validation; the test part is never evaluated.

    Resumes as ``train_run`` does.

    Raises:
        UserError: If the data break a rule, or the folder holds a run of another recipe.
    """
    store = task_of(recipe).open_store(recipe.data, data_root)
    trained = _fitted(store, recipe, seed, folder, "none", on_progress, shared, None)
    module = trained.module
    value = float(folder.epochs()[trained.epoch - 1][f"validation_{module.chooses}"])
    unsound = "" if math.isfinite(value) else "the validation metric is not finite"
    reason = _broken_loss(trained) or unsound
    result = TuningResult(
        status="failed" if reason else "finished",
        reason=reason,
        metric=module.chooses,
        value=value,
        higher_is_better=module.direction == "max",
        train_seconds=folder.train_seconds(),
        seed=seed,
        recipe_hash=recipe.hash,
        content=store.content,
    )
    _finish(folder, result, result.reason or str(value))
    return result


def _fitted(
    store: Store,
    recipe: Recipe,
    seed: int,
    folder: RunFolder,
    logger: LoggerName,
    on_progress: ProgressCallback,
    shared: Path | None,
    alike: Mapping[str, str] | None,
) -> Trained:
    """The trained network; what it shares with other runs is made first."""
    folder.claim(recipe, store.content)
    shared = folder.path / "shared" if shared is None else shared
    prepared = task_of(recipe).prepare(recipe, store, shared, on_progress)
    _check_alike(prepared, alike or {}, shared)
    precision = precision_here(recipe.train.precision)
    folder.write_environment(environment(precision, content=store.content, prepared=prepared))
    return fit(
        store,
        recipe,
        seed,
        folder,
        precision,
        logger=_lightning_logger(logger, folder),
        on_progress=on_progress,
        shared=shared,
    )


def _check_alike(ours: Mapping[str, str], theirs: Mapping[str, str], shared: Path) -> None:
    """Reject a run that would be evaluated by something else than the runs beside it."""
    for what, name in theirs.items():
        if ours.get(what, name) != name:
            raise UserError(
                f"the {what} in {shared} is {ours[what]}, and {name} evaluated the other runs: two of "
                f"them differ by points; put {name} back, or choose another --out"
            )


def _finish(folder: RunFolder, result: RunResult | TuningResult, words: str) -> None:
    log_line(folder, f"{result.status}: {words}")
    folder.finish(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _result(trained: Trained, evaluation: Evaluation, parameters: int, gflop: float) -> RunResult:
    """The task's evaluation with what every run records."""
    epochs, split = trained.folder.epochs(), trained.split
    reason = _broken_loss(trained) or evaluation.reason
    return RunResult(
        status="failed" if reason else "finished",
        reason=reason,
        metrics=evaluation.metrics,
        judge=evaluation.judge,
        label_scheme=trained.store.label_scheme,
        content=trained.store.content,
        class_names=trained.store.class_names,
        train_loss_last=float(epochs[-1]["train_loss"]),
        train_seconds=trained.folder.train_seconds(),
        epochs=len(epochs),
        best_epoch=trained.epoch,
        recipe_hash=trained.recipe.hash,
        seed=trained.seed,
        images={part: len(getattr(split, part)) for part in ("train", "validation", "test")},
        parameters=parameters,
        gflop=gflop,
    )


def _broken_loss(trained: Trained) -> str:
    """What is wrong with the losses of all epochs, however sound the one whose weights are kept."""
    return broken_loss([float(line["train_loss"]) for line in trained.folder.epochs()]) or ""


def _lightning_logger(name: LoggerName, folder: RunFolder) -> Logger | NoLogger:
    if name == "tensorboard":
        return TensorBoardLogger(folder.path, name="tensorboard", version="")
    if name == "mlflow":
        study = folder.path.parents[2]
        return MLFlowLogger(study.name, tracking_uri=f"sqlite:///{study / 'mlflow.db'}")
    return False
