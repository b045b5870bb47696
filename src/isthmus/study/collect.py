"""Gather the runs of a study into its tables and images, from what lies in the folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from isthmus import build
from isthmus.data.store import MaskedStore
from isthmus.engine.run_folder import write_atomically, write_json, write_table
from isthmus.recipe import StudyPlan, settings_of
from isthmus.study.about import read_study_record, study_record
from isthmus.study.analysis import analyse
from isthmus.study.planned_runs import (
    PlannedRun,
    planned_runs,
    untrainable_variants,
    untuned_variants,
)

TYPICAL, DIFFERING, HARDEST, EASIEST = 4, 3, 3, 2
"""How many test images of each role are shown."""


def collect(plan: StudyPlan, study: Path, *, data_root: Path | None, command: str) -> None:
    """Write the tables of a study folder, its study.json and its images/."""
    runs = planned_runs(plan, study)
    fields = [*plan.factors, *plan.tune]
    barred = dict.fromkeys(untrainable_variants(plan, study), _UNTRAINABLE)
    barred |= dict.fromkeys(untuned_variants(plan, study), _UNTUNED)
    results = pd.DataFrame([_row(run, fields, barred.get(run.variant.name)) for run in runs])
    results[fields] = results[fields].convert_dtypes()  # a whole number stays one beside none
    write_table(study / "results.csv", results)
    per_image = _per_image(runs)
    write_atomically(
        study / "per_image.parquet", lambda file: per_image.to_parquet(file, index=False)
    )
    store = build.store_for(plan.recipe.data, data_root)
    before, analysis = read_study_record(study), analyse(plan, study, results, per_image)
    about = study_record(plan, _finished(runs), store, command, before, analysis)
    write_json(study / "study.json", about)
    if isinstance(store, MaskedStore):
        _write_images(study / "images", runs, store, per_image)


def _row(
    run: PlannedRun, fields: Sequence[str], barred: Mapping[str, str] | None
) -> dict[str, Any]:
    """What results.csv says of a run; where tuning bars it, that."""
    settings = settings_of(run.recipe)
    row = {"variant": run.variant.name, "seed": run.seed, "status": "missing", "reason": ""}
    row |= {key: settings[key] for key in fields}
    if run.folder.is_finished:
        result = run.folder.result()
        row |= {key: result[key] for key in ("status", "reason")} | result["metrics"]
        row |= {key: result[key] for key in _COSTS}
        row["labelled_images"] = sum(result["images"][part] for part in ("train", "validation"))
    elif barred:
        row |= barred
    elif run.folder.error.exists():  # it is tried again, so it is not done
        last_line = run.folder.error.read_text(encoding="utf-8").strip().splitlines()[-1]
        row |= {"status": "broken off", "reason": last_line}
    return row


_UNTRAINABLE = {
    "status": "failed",
    "reason": "no setting of the tuned hyperparameterss could be trained",
}
_UNTUNED = {
    "status": "missing",
    "reason": "some setting of the tuned hyperparameterss is still to be tried",
}
_COSTS = ("train_loss_last", "parameters", "gflop", "train_seconds", "epochs", "best_epoch")


def _finished(runs: tuple[PlannedRun, ...]) -> list[PlannedRun]:
    return [r for r in runs if r.folder.is_finished and r.folder.result()["status"] == "finished"]


def _per_image(runs: tuple[PlannedRun, ...]) -> pd.DataFrame:
    """One row a finished run and test image."""
    tables = []
    for run in _finished(runs):
        with np.load(run.folder.metrics) as arrays:
            table = pd.DataFrame({key: arrays[key] for key in arrays.files})
        table = table.rename(columns={"names": "image"})
        table.insert(0, "seed", run.seed)
        table.insert(0, "variant", run.variant.name)
        tables.append(table)
    return pd.concat(tables) if tables else pd.DataFrame(columns=["variant", "seed", "image"])


def _write_images(
    folder: Path, runs: tuple[PlannedRun, ...], store: MaskedStore, per_image: pd.DataFrame
) -> None:
    """The same test images for every variant: typical, differing, hardest and easiest ones."""
    by_seed = sorted(_finished(runs), key=lambda run: run.seed, reverse=True)
    shown = {run.variant.name: run for run in by_seed}  # the lowest seed of each stays
    if not shown:
        return
    masks: dict[str, np.ndarray[Any, Any]] = {}
    names: list[str] = []
    for variant, run in shown.items():
        with np.load(run.folder.predictions) as arrays:
            masks[variant], names = arrays["masks"], arrays["names"].tolist()
    row_of = {name: row for row, name in enumerate(store.names)}
    metrics = {
        variant: per_image[
            (per_image["variant"] == variant) & (per_image["seed"] == run.seed)
        ].set_index("image")["mean_iou"]
        for variant, run in shown.items()
    }
    entries = []
    for name, role, between in _chosen(per_image, names):
        stem = f"{names.index(name):05d}"
        row = row_of[name]
        images = {f"{stem}.png": store.images[row], f"{stem}-truth.png": store.masks[row]}
        predictions = {variant: f"{stem}-{variant}.png" for variant in shown}
        images |= {predictions[v]: masks[v][names.index(name)] for v in shown}
        for file_name, pixels in images.items():
            image = Image.fromarray(np.asarray(pixels))
            write_atomically(folder / file_name, lambda file, p=image: p.save(file, "PNG"))  # type: ignore[misc]
        entries.append(
            {
                "name": name,
                "role": role,
                **between,
                "image": f"{stem}.png",
                "truth": f"{stem}-truth.png",
                "predictions": predictions,
                "mean_iou": {variant: float(metrics[variant][name]) for variant in shown},
            }
        )
    write_json(folder / "images.json", entries)


def _chosen(per_image: pd.DataFrame, names: list[str]) -> list[tuple[str, str, dict[str, str]]]:
    """Image, role, and for a differing one the variants it is between.

    Typical ones lie evenly over the test set, whatever came out. Then come those on which two
    variants differ most in mean IoU over seeds, then the extremes over all runs.
    """
    steps = np.linspace(0, len(names) - 1, min(TYPICAL, len(names))).round().astype(int)
    typical = [names[i] for i in steps]
    by_variant = per_image.pivot_table(index="image", columns="variant", values="mean_iou")
    best, worst = by_variant.idxmax(axis=1), by_variant.idxmin(axis=1)
    apart = (by_variant.max(axis=1) - by_variant.min(axis=1)).drop(typical, errors="ignore")
    furthest = apart[apart > 0].nlargest(DIFFERING).index
    by_metric = by_variant.mean(axis=1).sort_values().index
    others = [name for name in by_metric if name not in {*typical, *furthest}]
    easiest = others[max(len(others) - EASIEST, HARDEST) :][::-1]
    return [
        *((name, "typical", {}) for name in typical),
        *((name, "differing", {"a": best[name], "b": worst[name]}) for name in furthest),
        *((name, "hardest", {}) for name in others[:HARDEST]),
        *((name, "easiest", {}) for name in easiest),
    ]
