"""Train one recipe with one seed, evaluate it once, and write the run folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

from safetensors.torch import save_file

from isthmus.data.store import Store
from isthmus.engine.cost import cost_of
from isthmus.engine.device import device_for, environment
from isthmus.engine.fit import Trained, fit, log_line
from isthmus.engine.loggers import finalised, loggers_of
from isthmus.engine.run_folder import RunFolder, write_atomically
from isthmus.engine.run_result import Evaluation, RunResult, TuningResult
from isthmus.engine.task import DeviceName, LoggerName, ProgressCallback, no_progress, task_of
from isthmus.errors import UserError
from isthmus.metrics.collapse import broken_loss
from isthmus.recipe import Recipe, recipe_as_toml


class RunOptions(TypedDict, total=False):
    """Where a run finds its data, is computed and reports to."""

    store: Store | None
    """The images, if they are open already."""
    data_root: Path | None
    """Folder of the data sets; None: ISTHMUS_DATA or the cache folder."""
    device: DeviceName
    """Where it is computed; by default "auto"."""
    logger: LoggerName
    """A tracker that also receives the metrics."""
    on_progress: ProgressCallback
    """Called after each step."""
    shared: Path | None
    """Folder of what several runs share (a judge); None: ``RunFolder.shared``."""
    alike: Mapping[str, str] | None
    """What the other runs of the study recorded as shared; this run must use the same."""


def train_run(
    recipe: Recipe, seed: int, folder: RunFolder, **options: Unpack[RunOptions]
) -> RunResult:
    """Train, select the epoch on validation, evaluate the test part once; the run's ``result.json``.

    A run that was cut short resumes after its last complete epoch and ends with the same weights.

    Raises:
        UserError: If the data break a rule, the folder holds a run of another recipe, or the judge
            is another one than that of the other runs.
    """
    trained = _fitted(recipe, seed, folder, **options)
    cost = cost_of(trained.module)
    evaluation = task_of(recipe).evaluate(trained)
    result = _result(trained, evaluation, cost.parameters, cost.gflop)
    weights = trained.module.network.state_dict()
    weights = {key: value.cpu().contiguous() for key, value in weights.items()}
    about = {"recipe": recipe_as_toml(recipe), "class_names": list(trained.store.class_names)}
    metadata = {"isthmus": json.dumps(about)}  # one entry: several are written in random order
    write_atomically(folder.weights, lambda file: save_file(weights, file, metadata))
    _finish(folder, result, str(result.metrics))
    return result


def tune_run(
    recipe: Recipe, seed: int, folder: RunFolder, **options: Unpack[RunOptions]
) -> TuningResult:
    """Train and select the epoch on validation; the test part is never evaluated.

    Resumes as ``train_run`` does.

    Raises:
        UserError: If the data break a rule, or the folder holds a run of another recipe.
    """
    trained = _fitted(recipe, seed, folder, **options)
    module = trained.module
    value = float(folder.epochs()[trained.epoch - 1][f"validation_{module.selection_metric}"])
    not_finite = "" if math.isfinite(value) else "the validation metric is not finite"
    reason = _broken_loss(folder) or not_finite
    result = TuningResult(
        status="failed" if reason else "finished",
        reason=reason,
        metric=module.selection_metric,
        value=value,
        higher_is_better=module.direction == "max",
        train_seconds=folder.train_seconds(),
        seed=seed,
        recipe_hash=recipe.hash,
        content=trained.store.content,
    )
    _finish(folder, result, str(value))
    return result


def prepare(recipe: Recipe, **options: Unpack[RunOptions]) -> Mapping[str, str]:
    """Make what the runs of a study share, such as the judge; kind -> name.

    Raises:
        UserError: If it cannot be made.
    """
    task = task_of(recipe)
    store = options.get("store") or task.open_store(recipe.data, options.get("data_root"))
    shared, device = options.get("shared"), options.get("device", "auto")
    assert shared is not None
    return task.prepare(recipe, store, shared, options.get("on_progress", no_progress), device)


def _fitted(recipe: Recipe, seed: int, folder: RunFolder, **options: Unpack[RunOptions]) -> Trained:
    """The trained network, after what the runs of a study share has been prepared."""
    task = task_of(recipe)
    device = device_for(options.get("device", "auto"), recipe.train.precision)
    store = options.get("store") or task.open_store(recipe.data, options.get("data_root"))
    folder.claim(recipe, store.content)
    shared = options.get("shared") or folder.shared
    options |= {"store": store, "shared": shared}
    prepared = prepare(recipe, **options)
    _check_alike(prepared, options.get("alike") or {}, shared)
    folder.write_environment(environment(device, content=store.content, prepared=prepared))
    loggers = loggers_of(options.get("logger", "none"), folder)
    on_progress = options.get("on_progress", no_progress)
    with finalised(loggers):
        return fit(
            store,
            recipe,
            seed,
            folder,
            device,
            loggers=loggers,
            on_progress=on_progress,
            shared=shared,
        )


def _check_alike(ours: Mapping[str, str], theirs: Mapping[str, str], shared: Path) -> None:
    """Reject a run that another judge would evaluate than the other runs of the study."""
    for what, name in theirs.items():
        if ours.get(what, name) != name:
            raise UserError(
                f"the {what} in {shared} is {ours[what]}, and {name} evaluated the other runs: metrics by "
                f"different judges cannot be compared; put {name} back, or choose another --out"
            )


def _finish(folder: RunFolder, result: RunResult | TuningResult, words: str) -> None:
    log_line(folder, f"{result.status}: {result.reason or words}")
    folder.finish(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _result(trained: Trained, evaluation: Evaluation, parameters: int, gflop: float) -> RunResult:
    """The task's evaluation with what every run records."""
    epochs, split = trained.folder.epochs(), trained.split
    reason = _broken_loss(trained.folder) or evaluation.reason
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
        compiled=trained.is_compiled,
        parameters=parameters,
        gflop=gflop,
    )


def _broken_loss(folder: RunFolder) -> str:
    """What is wrong with the training losses of all epochs; empty if nothing is."""
    return broken_loss([float(line["train_loss"]) for line in folder.epochs()]) or ""
