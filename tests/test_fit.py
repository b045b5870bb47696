"""The training loop: order of the images, sums of an epoch, runs cut short, trackers, devices."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric.loggers.logger import Logger

from conftest import SMALL, error_of
from isthmus.engine import fit as engine_fit
from isthmus.engine import train as engine_train
from isthmus.engine.device import CPU, Device, device_for
from isthmus.engine.fit import Trained, _Totals, fit
from isthmus.engine.loaders import TrainingBatches, split_for, steps_per_epoch
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import task_of
from isthmus.engine.train import train_run
from isthmus.metrics.segmentation import confusion, iou, pixel_accuracy
from isthmus.recipe import Recipe, with_settings
from isthmus.tasks import load_recipe
from isthmus.tasks.classify.recipe import ClassifyRecipe

ON_CPU = torch.device("cpu")


@pytest.fixture
def recipe(discs: Path) -> Recipe:
    return load_recipe(SMALL.format(discs=discs))


@pytest.fixture
def judges(strokes: Path) -> Recipe:
    small = {"data.name": "classes", "data.folder": str(strokes), "data.size_px": 16}
    small |= {"model.width": 2, "train.epochs": 3, "train.batch": 10, "data.shift_px": 2}
    return with_settings(ClassifyRecipe(), small | {"train.precision": "float32"})


# Batches of an epoch


@given(images=st.integers(1, 100), batch=st.integers(1, 40))
def test_a_batch_of_one_image_is_no_step_unless_it_is_all_there_is(images: int, batch: int) -> None:
    sizes = [len(of) for of in torch.arange(images).split(batch)]
    counted = sizes if sizes[-1] > 1 or images == 1 or batch == 1 else sizes[:-1]
    assert steps_per_epoch(images, batch) == len(counted)


@pytest.mark.parametrize(("batch", "left_out"), [(4, 0), (5, 1), (13, 1), (14, 0), (50, 0)])
def test_an_epoch_shows_every_training_image_once(
    batch: int, left_out: int, recipe: Recipe
) -> None:
    """Of 16 less 2 for validation; 14 = 5 + 5 + 4 = 13 + 1, so 5 is made to leave one by 11 rows."""
    recipe = with_settings(recipe, {"train.batch": batch})
    store = task_of(recipe).open_store(recipe.data)
    rows = split_for(recipe, store, 3).train
    assert len(rows) == 14
    rows = rows[:11] if batch == 5 else rows

    def rows_of(epoch: int, seed: int = 3) -> list[int]:
        batches = TrainingBatches(recipe, store, rows, seed, ON_CPU)
        found = [of["index"] for of in batches.epoch(epoch)]
        assert len(found) == len(batches)
        assert all(len(of) == batch for of in found[:-1])
        return torch.cat(found).tolist()

    first = rows_of(0)
    assert len(set(first)) == len(first) == len(rows) - left_out
    assert set(first) <= set(rows.tolist())
    assert rows_of(0) == first
    assert first != sorted(first)
    assert first != rows_of(1)
    assert first != rows_of(0, seed=4)
    seen = {row for epoch in range(20) for row in rows_of(epoch)}
    assert seen == set(rows.tolist()), "which one is left out changes"


# Sums of an epoch


def per_image(trained: Trained, rows: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Cross-entropy of each image, pixel by pixel in float64; and the confusion matrix of all."""
    losses, matrices = [], []
    network = trained.module.network.eval()
    with torch.inference_mode():
        for row in rows:
            image = torch.from_numpy(np.array(trained.store.images[row])).movedim(-1, 0)
            logits = network(image[None].float() / 255)[0].double().numpy()
            truth = np.array(trained.store.masks[row])
            log_probs = logits - np.log(np.exp(logits).sum(axis=0))
            of_truth = np.take_along_axis(log_probs, truth[None].astype(np.int64), axis=0)
            losses.append(-of_truth.mean())
            predicted = logits.argmax(axis=0).astype(np.uint8)
            matrices.append(confusion(truth[None], predicted[None], 2)[0])
    return losses, np.sum(matrices, axis=0)


@pytest.mark.trains
def test_the_metrics_of_an_epoch_are_those_of_its_images(recipe: Recipe, tmp_path: Path) -> None:
    """With a learning rate that moves no weight, training images too; both parts end with a small batch."""
    settings = {
        "train.epochs": 1,
        "train.batch": 4,
        "train.lr": 1e-30,
        "data.validation": 0.4,
        "model.norm": "group",
        "loss.name": "ce",
        "augment.flip": 0.0,
        "augment.rotate_deg": 0.0,
        "augment.scale": 0.0,
        "augment.shift": 0.0,
        "augment.colour": 0.0,
    }
    recipe = with_settings(recipe, settings)
    store = task_of(recipe).open_store(recipe.data)
    folder = RunFolder(tmp_path)
    trained = fit(store, recipe, 0, folder)
    (line,) = folder.epochs()
    assert [len(trained.split.train) % 4, len(trained.split.validation) % 4] == [2, 2]
    for part in ("train", "validation"):
        losses, matrix = per_image(trained, getattr(trained.split, part))
        assert float(line[f"{part}_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
        accuracy, mean_iou = float(pixel_accuracy(matrix)), float(np.nanmean(iou(matrix)))
        assert float(line[f"{part}_pixel_accuracy"]) == pytest.approx(accuracy, rel=1e-5)
        assert float(line[f"{part}_mean_iou"]) == pytest.approx(mean_iou, rel=1e-5)


@pytest.mark.trains
def test_the_metrics_of_validation_are_those_of_the_weights_after_the_epoch(
    judges: Recipe, tmp_path: Path
) -> None:
    """A classifier, whose batch norm uses its running statistics then."""
    recipe = with_settings(judges, {"train.keep": "last", "train.batch": 9})
    store, folder = task_of(recipe).open_store(recipe.data), RunFolder(tmp_path)
    trained = fit(store, recipe, 0, folder)
    rows = trained.split.validation
    assert len(rows) % 9 != 0
    with trained.evaluating() as network:
        logits = network(torch.from_numpy(store.images[rows]).movedim(-1, 1).float() / 255)
    label = torch.from_numpy(store.labels[rows])
    loss = torch.nn.functional.cross_entropy(logits.double(), label).item()
    last = folder.epochs()[-1]
    assert float(last["validation_loss"]) == pytest.approx(loss, rel=1e-4)
    accuracy = (logits.argmax(dim=1) == label).double().mean().item()
    assert float(last["validation_accuracy"]) == pytest.approx(accuracy, rel=1e-5)
    assert int(last["epoch"]) == 3
    assert trained.epoch == 3


def test_sums_lose_no_digits_over_many_batches() -> None:
    """Ten thousand times 0.1 in float32 is 999.9, and a count above 2**24 does not grow in it."""
    totals = _Totals()
    for _ in range(10_000):
        sums = {"loss": torch.tensor(0.1), "pixels": torch.tensor(2**20 + 1)}
        totals.add(sums, 3)
    assert totals.images == 30_000
    assert float(totals.sums["loss"]) == pytest.approx(1000, rel=1e-7)
    assert int(totals.sums["pixels"]) == 10_000 * (2**20 + 1)


# Runs cut short


class PowerCut(Exception):
    pass


@pytest.mark.trains
@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("task", ["segment", "classify"])
def test_a_run_cut_short_after_any_epoch_ends_with_the_same_bytes(
    task: str, keep: str, recipe: Recipe, judges: Recipe, tmp_path: Path
) -> None:
    """Cut short after the first epoch and in the third; with augmentation, dropout and batch norm."""
    short = {"train.keep": keep, "train.epochs": 3}
    chosen = with_settings(recipe, {"model.dropout": "channel"}) if task == "segment" else judges
    chosen = with_settings(chosen, short)
    whole = RunFolder(tmp_path / "whole")
    steps: list[int] = []
    result = train_run(chosen, 5, whole, on_progress=lambda _, of, __: steps.append(of))
    per_epoch = steps[0] // 3
    assert steps == [3 * per_epoch] * 3 * per_epoch
    cut = RunFolder(tmp_path / "cut")
    for at in (per_epoch + 1, 2 * per_epoch + 2):

        def stop(done: int, _of: int, _words: str, at: int = at) -> None:
            if done == at:
                raise PowerCut

        with pytest.raises(PowerCut):
            train_run(chosen, 5, cut, on_progress=stop)
        assert not cut.weights.exists()
    torch.manual_seed(99)  # what was drawn before is no matter
    went_on: list[int] = []
    resumed = train_run(chosen, 5, cut, on_progress=lambda done, *_: went_on.append(done))
    assert went_on[0] == 2 * per_epoch + 1, "the first two epochs are not trained again"
    assert whole.weights.read_bytes() == cut.weights.read_bytes()
    assert resumed.metrics == result.metrics
    assert resumed.best_epoch == result.best_epoch
    for name in ("train_loss", "validation_loss", "lr"):
        losses = [[line[name] for line in of.epochs()] for of in (whole, cut)]
        assert losses[0] == losses[1]
    assert not cut.checkpoints.exists()


@pytest.mark.trains
def test_a_run_killed_while_it_writes_its_checkpoint_resumes_from_the_one_before(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table already has the epoch, which is trained again and replaces its line."""
    recipe = with_settings(recipe, {"train.epochs": 3, "train.keep": "last"})
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train_run(recipe, 2, whole)
    save, saved = engine_fit._save, []

    def fail_late(fabric: Any, path: Path, state: dict[str, Any]) -> None:
        saved.append(path.name)
        if saved.count("last.ckpt") == 2:
            raise PowerCut
        save(fabric, path, state)

    with monkeypatch.context() as patch:
        patch.setattr(engine_fit, "_save", fail_late)
        with pytest.raises(PowerCut):
            train_run(recipe, 2, cut)
    assert len(cut.epochs()) == 2
    train_run(recipe, 2, cut)
    assert [line["epoch"] for line in cut.epochs()] == ["1", "2", "3"]
    assert whole.weights.read_bytes() == cut.weights.read_bytes()


# Trackers


class Notes(Logger):
    name = "notes"
    version = None

    def __init__(self) -> None:
        self.lines: list[tuple[int | None, dict[str, float]]] = []
        self.statuses: list[str] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        raise AssertionError("the recipe is in recipe.toml")

    def finalize(self, status: str) -> None:
        self.statuses.append(status)


@pytest.mark.trains
def test_a_tracker_gets_the_line_of_every_epoch_and_changes_nothing(
    recipe: Recipe, tmp_path: Path
) -> None:
    recipe = with_settings(recipe, {"train.epochs": 2, "train.keep": "last"})
    store, notes = task_of(recipe).open_store(recipe.data), Notes()
    folders = RunFolder(tmp_path / "tracked"), RunFolder(tmp_path / "plain")
    for folder in folders:
        folder.path.mkdir()
    tracked = fit(store, recipe, 0, folders[0], loggers=[notes])
    plain = fit(store, recipe, 0, folders[1])
    assert [step for step, _ in notes.lines] == [1, 2]
    for (_, line), written in zip(notes.lines, folders[0].epochs(), strict=True):
        assert {key: f"{value:.6g}" for key, value in line.items()} == written
    states = (of.module.network.state_dict() for of in (tracked, plain))
    for ours, theirs in zip(*(of.values() for of in states), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.trains
@pytest.mark.parametrize(("cut_at", "status"), [(None, "success"), (9, "failed")])
def test_a_tracker_is_told_how_a_run_has_ended(
    cut_at: int | None,
    status: str,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = Notes()
    monkeypatch.setattr(engine_train, "loggers_of", lambda *_: (notes,))

    def stop(done: int, _of: int, _words: str) -> None:
        if done == cut_at:
            raise PowerCut

    short = with_settings(recipe, {"train.epochs": 2})
    with contextlib.suppress(PowerCut):
        train_run(short, 0, RunFolder(tmp_path), on_progress=stop)
    assert notes.statuses == [status]
    assert len(notes.lines) == (1 if cut_at else 2)


TRACKED = """
import sys
from pathlib import Path
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.train import train_run
from isthmus.recipe import with_settings
from isthmus.tasks import load_recipe
recipe = with_settings(load_recipe(sys.argv[1]), {"train.epochs": 2})
train_run(recipe, 0, RunFolder(Path(sys.argv[2])), logger=sys.argv[3])
"""


@pytest.mark.trains
def test_a_run_that_mlflow_follows_has_ended_there_too(discs: Path, tmp_path: Path) -> None:
    """In a process of its own: trackers leave threads and warnings behind."""
    pytest.importorskip("mlflow")
    study = tmp_path / "disc study"
    folder = study / "runs" / "strided" / "seed-0"
    words = [SMALL.format(discs=discs), str(folder), "mlflow"]
    command = [sys.executable, "-c", TRACKED, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(study / "mlflow.db") as connection:
        rows = connection.execute("select name, status from runs").fetchall()
        assert rows == [("strided/seed-0", "FINISHED")]
        losses = connection.execute(
            "select step, value from metrics where key = 'train_loss' order by step"
        ).fetchall()
    connection.close()
    written = [float(line["train_loss"]) for line in RunFolder(folder).epochs()]
    assert [step for step, _ in losses] == [1, 2]
    assert [value for _, value in losses] == pytest.approx(written, rel=1e-5)


# Devices


def test_a_device_that_is_not_there_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        assert error_of(lambda name=name: device_for(name, "auto")) == (
            f"--device {name}: PyTorch finds no such device on this machine; leave out --device, or use "
            "--device cpu"
        )
    assert device_for("auto", "float32") == CPU
    assert device_for("cpu", "bf16") == Device(ON_CPU, "bf16")


@pytest.mark.parametrize(
    ("able", "precision"),
    [({}, "float32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_automatic_precision_is_bf16_where_the_processor_computes_in_it(
    able: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert device_for("cpu", "auto").precision == precision


def test_an_automatic_device_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert device_for("auto", "auto") == Device(torch.device("cuda"), "float32")
    assert device_for("cpu", "float32") == CPU


def test_networks_compute_in_the_precision_of_their_device() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for device, dtype in ((CPU, torch.float32), (Device(ON_CPU, "bf16"), torch.bfloat16)):
        with device.autocast():
            assert layer(x).dtype == dtype


def test_draws_on_a_device_are_decided_by_their_seed() -> None:
    first, again, other = (torch.rand(3, generator=CPU.draws(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.trains
def test_a_run_records_where_it_was_trained(recipe: Recipe, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    train_run(with_settings(recipe, {"train.epochs": 1}), 0, folder, device="cpu")
    began = folder.begun_with()
    assert began is not None
    assert (began.device, began.gpu, began.precision) == ("cpu", "none", "float32")
    assert "lightning-fabric" in began.versions


@pytest.mark.trains
@pytest.mark.parametrize("wanted", [True, False])
def test_training_is_deterministic_if_the_recipe_says_so(
    wanted: bool, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = with_settings(recipe, {"train.epochs": 1, "train.deterministic": wanted})
    seen = set()
    fit(
        task_of(recipe).open_store(recipe.data),
        recipe,
        0,
        RunFolder(tmp_path),
        on_progress=lambda *_: seen.add(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
