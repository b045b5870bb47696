"""A study of hundreds of runs is published without reading its files again and again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import trained_in_no_time
from isthmus.engine.run_folder import write_arrays
from isthmus.study.plan import StudyPlan, load_plan
from isthmus.study.publish import publish
from isthmus.study.schedule import Schedule
from isthmus.study.study_folder import StudyFolder

VARIANTS, SEEDS = 5, 100
TESTED = 20

opened: list[str] | None = None
"""Files that were opened; None: nobody asks."""


def note(event: str, args: tuple[Any, ...]) -> None:
    if opened is not None and event == "open":
        opened.append(str(args[0]))


sys.addaudithook(note)


@contextmanager
def files_opened() -> Iterator[list[str]]:
    global opened
    opened = files = []
    try:
        yield files
    finally:
        opened = None


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """Five variants on a hundred images of 8 px, of which twenty are for the test."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(5 * TESTED):
        mask = np.repeat([[0], [1]], 4, axis=0).repeat(8, axis=1).astype(np.uint8)
        image = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")
    recipe = folder / "many.toml"
    variants = [
        f"[[study.variants]]\nname = 'v{i}'\nmodel.width = {4 + 2 * i}" for i in range(VARIANTS)
    ]
    data = "[data]\nname = 'folder'\nfolder = '.'\nsize_px = 8\n[model]\ndepth = 2"
    recipe.write_text("\n".join([f"[study]\nname = 'many'\nseeds = {SEEDS}", *variants, data]))
    return load_plan(recipe)


@pytest.fixture
def schedule(plan: StudyPlan, tmp_path: Path) -> Schedule:
    """All runs finished: the first of each variant in earnest, the others with other numbers."""
    schedule, rng = Schedule(plan, StudyFolder(tmp_path / "study")), np.random.default_rng(0)
    first: dict[str, Path] = {}
    for run in schedule.runs():
        path = run.folder.path
        if run.variant.name not in first:
            trained_in_no_time(run.recipe, run.seed, run.folder)
            first[run.variant.name] = path
            continue
        path.mkdir(parents=True)
        for name in ("recipe.toml", "environment.json", "metrics.csv"):
            (path / name).write_bytes((first[run.variant.name] / name).read_bytes())
        with np.load(first[run.variant.name] / "scores.npz") as of:
            noise = {k: of[k] if k == "names" else of[k] + rng.normal(0, 0.01) for k in of.files}
        write_arrays(run.folder.image_metrics, noise)
        result = json.loads((first[run.variant.name] / "result.json").read_text())
        metrics = {k: v + rng.normal(0, 0.01) for k, v in result["metrics"].items()}
        content = result | {"seed": run.seed, "metrics": metrics}
        run.folder.result_file.write_text(json.dumps(content), encoding="utf-8")
    return schedule


def test_five_hundred_runs_are_published_with_few_looks_at_each(schedule: Schedule) -> None:
    with files_opened() as files:
        publish(schedule, data_root=None, command="")
    looks = Counter(Path(file).name for file in files if "/runs/" in file)
    runs = VARIANTS * SEEDS
    assert len(StudyFolder(schedule.folder.path).finished) == runs
    assert len(StudyFolder(schedule.folder.path).per_image) == runs * TESTED
    of_each = Counter(file for file in files if file.endswith("result.json"))
    assert len(of_each) == runs
    assert max(of_each.values()) <= 3
    assert looks["result.json"] <= 2 * runs + 10, "three of some, two of most"
    assert looks["environment.json"] <= 2 * runs
    assert looks["scores.npz"] == runs
    assert looks["predictions.npz"] <= VARIANTS, "of the lowest seed of each"
    assert looks["metrics.csv"] == looks["recipe.toml"] == 0
    assert sum(str(schedule.folder.path) in file for file in files) < 5 * runs, "all told"
