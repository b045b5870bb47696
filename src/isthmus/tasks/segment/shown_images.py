"""Choose the test images of a study's report, and write them with the predicted masks of each variant."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from isthmus.data.store import MaskedStore
from isthmus.engine.run_folder import RunFolder, write_atomically, write_json

TYPICAL, DIFFERING, HARDEST, EASIEST = 4, 3, 3, 2
"""Number of test images of each role that are shown."""


def write_shown_images(
    folder: Path,
    shown: Mapping[str, tuple[int, RunFolder]],
    store: MaskedStore,
    per_image: pd.DataFrame,
) -> None:
    """Write typical, differing, hardest and easiest test images, with the masks of every variant.

    Args:
        folder: Folder for a PNG of each image, true mask and predicted mask, and for ``images.json``;
            other PNGs in this folder are deleted.
        shown: Variant -> seed and folder of the finished run whose masks are shown.
        store: The images of the study.
        per_image: One row per finished run and test image.
    """
    if not shown:
        return
    masks: dict[str, np.ndarray[Any, Any]] = {}
    names: list[str] = []
    for variant, (_, run) in shown.items():
        with np.load(run.predictions) as arrays:
            masks[variant], names = arrays["masks"], arrays["names"].tolist()
    iou_of = per_image.set_index(["variant", "seed", "image"])["mean_iou"]
    entries: list[dict[str, Any]] = []
    pixels: dict[str, np.ndarray[Any, Any]] = {}
    for name, role, differing in _chosen(per_image, names):
        index, row = names.index(name), store.names.index(name)
        stem = f"{index:05d}"
        predictions = {variant: f"{stem}-{variant}.png" for variant in shown}
        image, truth = f"{stem}.png", f"{stem}-truth.png"
        pixels |= {image: store.images[row], truth: store.masks[row]}
        pixels |= {predictions[variant]: masks[variant][index] for variant in shown}
        mean_iou = {v: float(iou_of[v, seed, name]) for v, (seed, _) in shown.items()}
        entry = {"name": name, "role": role, **differing, "image": image, "truth": truth}
        entries.append(entry | {"predictions": predictions, "mean_iou": mean_iou})
    for file_name, array in pixels.items():
        png = Image.fromarray(np.asarray(array))
        write_atomically(folder / file_name, functools.partial(png.save, format="PNG"))
    write_json(folder / "images.json", entries)
    for old in folder.glob("*.png"):
        if old.name not in pixels:
            old.unlink()


def _chosen(per_image: pd.DataFrame, names: list[str]) -> list[tuple[str, str, dict[str, str]]]:
    """Name and role of each image, and for a differing image its best and worst variant, "a" and "b".

    Typical images are evenly spaced in the test set, whatever their metrics. Differing images have
    the largest difference between two variants in mean IoU (averaged over seeds). Hardest and easiest
    images have the lowest and highest mean IoU over all runs.
    """
    spaced = np.linspace(0, len(names) - 1, min(TYPICAL, len(names))).round().astype(int)
    typical = [names[i] for i in spaced]
    by_variant = per_image.pivot_table(index="image", columns="variant", values="mean_iou")
    best, worst = by_variant.idxmax(axis=1), by_variant.idxmin(axis=1)
    differences = (by_variant.max(axis=1) - by_variant.min(axis=1)).drop(typical, errors="ignore")
    differing = differences[differences > 0].nlargest(DIFFERING).index
    by_metric = by_variant.mean(axis=1).sort_values().index
    others = [name for name in by_metric if name not in {*typical, *differing}]
    easiest = others[max(len(others) - EASIEST, HARDEST) :][::-1]
    return [
        *((name, "typical", {}) for name in typical),
        *((name, "differing", {"a": best[name], "b": worst[name]}) for name in differing),
        *((name, "hardest", {}) for name in others[:HARDEST]),
        *((name, "easiest", {}) for name in easiest),
    ]
