"""Choose the test images that a study's report shows, and write them with every variant's masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from isthmus.data.store import MaskedStore
from isthmus.engine.run_folder import RunFolder, write_atomically, write_json

TYPICAL, DIFFERING, HARDEST, EASIEST = 4, 3, 3, 2
"""How many test images of each role are shown."""


def write_shown_images(
    folder: Path,
    shown: Mapping[str, tuple[int, RunFolder]],
    store: MaskedStore,
    per_image: pd.DataFrame,
) -> None:
    """The same test images for every variant: typical, differing, hardest and easiest ones.

    Args:
        folder: Gets a PNG for each image, true mask and predicted mask, and ``images.json``; what
            an earlier choice left there is deleted.
        shown: Variant -> seed and folder of the finished run whose masks are shown.
        store: The images of the study.
        per_image: A row a finished run and test image.
    """
    if not shown:
        return
    masks: dict[str, np.ndarray[Any, Any]] = {}
    names: list[str] = []
    for variant, (_, run) in shown.items():
        with np.load(run.predictions) as arrays:
            masks[variant], names = arrays["masks"], arrays["names"].tolist()
    row_of = {name: row for row, name in enumerate(store.names)}
    metrics = {
        variant: per_image[
            (per_image["variant"] == variant) & (per_image["seed"] == seed)
        ].set_index("image")["mean_iou"]
        for variant, (seed, _) in shown.items()
    }
    entries: list[dict[str, Any]] = []
    written: set[str] = set()
    for name, role, between in _chosen(per_image, names):
        stem = f"{names.index(name):05d}"
        row = row_of[name]
        images = {f"{stem}.png": store.images[row], f"{stem}-truth.png": store.masks[row]}
        predictions = {variant: f"{stem}-{variant}.png" for variant in shown}
        images |= {predictions[v]: masks[v][names.index(name)] for v in shown}
        written |= images.keys()
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
    for old in folder.glob("*.png"):
        if old.name not in written:
            old.unlink()


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
