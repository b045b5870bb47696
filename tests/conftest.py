"""Every test has its own cache, and real development data where they lie beside the checkout."""

from __future__ import annotations

import gc
import os
import shutil

# Before torch is imported, here and in what tests start: a worker a core, a thread a worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.optim import optimizer

from isthmus.engine import seeds
from isthmus.engine.device import CPU, environment
from isthmus.engine.loaders import split_for
from isthmus.engine.run_folder import RunFolder, write_arrays
from isthmus.engine.run_result import RunResult, TuningResult
from isthmus.engine.task import task_of
from isthmus.errors import UserError
from isthmus.metrics.segmentation import segmentation_metrics
from isthmus.report.page import write_report
from isthmus.study.plan import load_plan
from isthmus.study.publish import conclusions
from isthmus.study.records import StudyRecord
from isthmus.study.study_folder import StudyFolder
from isthmus.tasks import TASKS

DRAWS = int(os.environ.get("ISTHMUS_TEST_SEED", "0"))
"""Which draws the tests make: others for every number, and those of every day for 0."""


def moved(seed: int = 0) -> int:
    """A seed of a test, or another one in its place under another ``ISTHMUS_TEST_SEED``."""
    return seed + 1000 * DRAWS


if DRAWS:  # what isthmus draws from the seed of a run moves too; its folders keep their names
    stream = seeds.stream
    seeds.stream = lambda seed, *purpose: stream(moved(seed), *purpose)


steps_taken = 0
fixtures_that_train: set[tuple[str, str]] = set()
"""Where each lies, and its name."""


def count_step(*_: object) -> None:
    global steps_taken
    steps_taken += 1


optimizer.register_optimizer_step_pre_hook(count_step)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, object, object]:
    before = steps_taken
    try:
        return (yield)
    finally:
        if steps_taken > before:
            fixtures_that_train.add((fixturedef.baseid, fixturedef.argname))


@contextmanager
def trains_only_if_marked(item: Any) -> Iterator[None]:
    """Fail a test that steps an optimiser, or has a fixture that did, without the marker."""
    before = steps_taken
    yield
    trained = steps_taken > before or any(
        name in item.fixturenames and item.nodeid.startswith(where)
        for where, name in fixtures_that_train
    )
    if trained and not item.get_closest_marker("trains"):
        pytest.fail(
            "this test steps an optimiser without the marker that says so: whatever trains is also run "
            "as other processors round; decorate it with @pytest.mark.trains",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: Any) -> Generator[None, object, object]:
    with trains_only_if_marked(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Generator[None, object, object]:
    with trains_only_if_marked(item):
        return (yield)


def pytest_collection_finish() -> None:
    """What is imported stays: statsmodels collects garbage at every correction, a second over torch."""
    gc.freeze()


def error_of(act: Callable[[], object]) -> str:
    """The sentence with which something is rejected."""
    with pytest.raises(UserError) as caught:
        act()
    return str(caught.value)


def task_fields(name: str = "segment") -> dict[str, Any]:
    """What study.json says of a task."""
    task = TASKS[name]
    as_they_are = ("metric_note", "curve", "loss_title", "loss_table", "sections")
    metrics = [vars(metric) for metric in task.metrics]
    return {"task": name, "metrics": metrics} | {key: getattr(task, key) for key in as_they_are}


def concluded(study: Path) -> StudyRecord:
    """What a study concludes of the tables in its folder, written into its study.json."""
    folder = StudyFolder(study)
    plan, ran = load_plan(folder.plan_file), set(folder.finished["variant"])
    recipes = {v.name: plan.recipe_of(v) for v in plan.variants if v.name in ran}
    record = folder.written_record().model_copy(update=conclusions(folder, recipes))
    folder.write_record(record)
    return record


def page_of(study: Path) -> str:
    """The report of the tables in a folder."""
    concluded(study)
    return write_report(study).read_text(encoding="utf-8")


def run_result(**given: Any) -> RunResult:
    """What a finished run writes of itself; only what is given matters."""
    blank = {"status": "finished", "metrics": {}, "class_names": (), "images": {}}
    blank |= dict.fromkeys(("recipe_hash", "label_scheme", "content"), "")
    blank |= dict.fromkeys(("seed", "parameters", "gflop"), 0)
    blank |= {"epochs": 1, "best_epoch": 1, "train_loss_last": 0.5, "train_seconds": 60.0}
    blank |= {"compiled": False}
    return RunResult(**blank | given)


def tuning_result(**given: Any) -> TuningResult:
    """What a tuning run writes of itself; only what is given matters."""
    blank = {"status": "finished", "metric": "mean_iou", "value": 0.5, "higher_is_better": True}
    blank |= dict.fromkeys(("reason", "recipe_hash", "content"), "")
    return TuningResult(**blank | {"seed": 0, "train_seconds": 60.0} | given)


def trained_in_no_time(
    recipe: Any, seed: int, folder: RunFolder, store: Any = None, **_: Any
) -> RunResult:
    """As ``train_run`` of a segmenter, without training: the true masks with a tenth of the pixels wrong."""
    store = store or task_of(recipe).open_store(recipe.data)
    folder.claim(recipe, store.content)
    folder.write_environment(environment(CPU, store.content, {}, {}))
    loss = {"train_loss": 0.5, "validation_loss": 0.5}
    folder.add_epoch({"epoch": 1.0, "lr": 0.1, **loss, "seconds": 60.0})
    split = split_for(recipe, store, seed)
    truth, names = np.asarray(store.masks[split.test]), [store.names[row] for row in split.test]
    rng = np.random.default_rng([seed, *recipe.hash.encode()])
    predicted = np.where(rng.random(truth.shape) < 0.1, 1 - truth, truth).astype(np.uint8)
    metrics = segmentation_metrics(truth, predicted, store.class_names)
    write_arrays(folder.image_metrics, {"names": names, **metrics.per_image})
    write_arrays(folder.predictions, {"masks": predicted, "names": names})
    about = {"content": store.content, "class_names": store.class_names, "seed": seed}
    images = {part: len(getattr(split, part)) for part in ("train", "validation", "test")}
    result = run_result(metrics=metrics.over_set, images=images, **about)
    folder.finish(result)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return result


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not of the training itself is tested on runs that take no time."""
    monkeypatch.setattr("isthmus.engine.train.train_run", trained_in_no_time)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; all tests of a session share one."""
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("ISTHMUS_DATA", raising=False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The development data, or a skip."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("ISTHMUS_TEST_DATA", beside))
    if not (root / "oxford-iiit-pet").is_dir():
        pytest.skip("no development data: set ISTHMUS_TEST_DATA to a folder with oxford-iiit-pet/")
    return root


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 images and masks: a bright disc (class 1) on noise (class 0)."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(moved())
    rows, columns = np.mgrid[:32, :32]
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(20):
        centre, radius = rng.uniform(10, 22, size=2), rng.uniform(5, 9)
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image = rng.integers(0, 120, size=(32, 32, 3)) + 120 * disc[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"disc{number:02}.png")
        Image.fromarray(disc.astype(np.uint8)).save(folder / "masks" / f"disc{number:02}.png")
    return folder


CHROMIUM = Path("/usr/bin/chromium")

SMALL = """
[data]
name = "folder"
folder = "{discs}"
size_px = 32

[model]
width = 8
depth = 3
up = "bilinear"

[train]
epochs = 6
batch = 2
lr = 1e-2
precision = "float32"
"""
"""What a study on the discs trains: a second or two a run.

Mean IoU .93 to .99 in 32 runs under 4 draws; after 3 epochs .80 to .98; after 2 some have collapsed.
"""


@pytest.fixture
def small_recipe(discs: Path, tmp_path: Path) -> Path:
    """A recipe of two small variants on the discs: a second or two a run."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        f"""
[[study.variants]]
model.down = "max-pool"

[[study.variants]]
model.down = "strided"
{SMALL.format(discs=discs)}""",
        encoding="utf-8",
    )
    return recipe


@pytest.fixture(scope="session")
def strokes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes, 16 px: an upright, a level and a slanted stroke, 60 of each."""
    folder = tmp_path_factory.mktemp("strokes")
    rng = np.random.default_rng(moved())
    rows, columns = np.mgrid[:16, :16]
    distance = {
        "level": lambda at: rows - at,
        "slanted": lambda at: (rows - columns + 2 * (at - 7)) / 1.5,
        "upright": lambda at: columns - at,
    }
    for name, of in distance.items():
        (folder / name).mkdir()
        for number in range(60):
            ink = np.abs(of(rng.uniform(5, 10))) < rng.uniform(0.8, 2.2)
            Image.fromarray((255 * ink).astype(np.uint8)).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture
def stroke_recipe(strokes: Path, tmp_path: Path) -> Path:
    """A recipe of two small VAEs on the strokes: a few seconds a run.

    Of 36 test images its judge misses one at most, and after 4 epochs too; after 2 up to 6, and after 1
    it may say one label of all (12 runs each, under 3 draws).
    """
    recipe = tmp_path / "strokes.toml"
    recipe.write_text(
        f"""
task = "generate"

[[study.variants]]
name = "told"
model.condition_on = "decoder"
objective.invariance = "adversary"
objective.invariance_weight = 20.0

[[study.variants]]
name = "not_told"
model.condition_on = "none"

[data]
name = "classes"
folder = "{strokes}"
size_px = 16

[model]
width = 8
latent = 4
conditioning = "film"

[measure]
importance_samples = 20
nll_images = 30
judge_width = 8
judge_epochs = 10
judge_batch = 8

[train]
epochs = 40
batch = 8
lr = 4e-3
precision = "float32"
""",
        encoding="utf-8",
    )
    return recipe


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    """The report of a module's own ``study``."""
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium without a window, or a skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there")
    flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run"
    flags += " --disable-background-networking --disable-component-update --disable-sync"
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=flags.split())
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser) -> Iterator:
    """Open a study's page in a window; fail if it logs anything or asks for anything but itself."""
    heard: list[str] = []
    opened = []

    def visited(folder: Path, width: int = 1280, **more):
        page = browser.new_page(viewport={"width": width, "height": 800}, **more)
        page.set_default_timeout(120_000)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url[:80]))
        page.goto((folder / "report.html").as_uri())
        opened.append(page)
        return page

    yield visited
    for page in opened:
        page.close()
    asked = [line for line in heard if not line.startswith(("data:", "file:"))]
    assert asked == []
    assert sum(line.startswith("file:") for line in heard) == len(opened)
