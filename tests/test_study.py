"""Studies as users run them: real processes, real files, killed and started again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import load_file

from conftest import SMALL, run_result
from isthmus.cli.main import main
from isthmus.data.store import MaskedStore
from isthmus.engine.run_folder import RunFolder, write_arrays
from isthmus.engine.task import no_progress
from isthmus.engine.task_module import Sums
from isthmus.engine.train import train_run, tune_run
from isthmus.errors import UserError
from isthmus.recipe import with_settings
from isthmus.study.claim import leave_out
from isthmus.study.differences import is_complete
from isthmus.study.executors import JobProgress, one_by_one
from isthmus.study.jobs import Job, JobOptions, Outcome, run_job
from isthmus.study.plan import load_plan
from isthmus.study.run import run_study
from isthmus.study.study_folder import StudyFolder
from isthmus.tasks import load_recipe
from isthmus.tasks.segment.module import Segmenter
from isthmus.tasks.segment.recipe import SegmentRecipe
from isthmus.tasks.segment.shown_images import write_shown_images


def results_of(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "results.csv").set_index(["variant", "seed"])


def wait_for(path: Path) -> None:
    """Until a command in another process has written this file; a minute at most."""
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)


@pytest.mark.trains
def test_a_study_ends_with_tables_images_and_a_report(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    assert main(["study", str(small_recipe), "--out", str(study), "--seeds", "2"]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    results = results_of(study)
    assert set(results["status"]) == {"finished"}
    assert len(results) == 4
    assert (results["mean_iou"] > 0.5).all(), "a bright disc on dark noise is easy"
    per_image = pd.read_parquet(study / "per_image.parquet")
    assert len(per_image) == 4 * 4, "4 runs x a fifth of 20 images"
    images = json.loads((study / "images" / "images.json").read_text())
    assert {name for entry in images for name in entry["predictions"]} == {"max-pool", "strided"}
    assert all((study / "images" / entry["truth"]).exists() for entry in images)
    about = json.loads((study / "study.json").read_text())
    assert about["baselines"][0]["metrics"]["mean_iou"] < 0.5
    html = (study / "report.html").read_text(encoding="utf-8")
    assert "max-pool" in html
    assert "strided" in html
    run = RunFolder(study / "runs" / "strided" / "seed-1")
    with safe_open(run.weights, "np") as file:
        metadata = file.metadata()
    about = json.loads(metadata.pop("isthmus"))
    assert metadata == {}, "several entries are written in random order"
    assert about["class_names"] == ["class-0", "class-1"]
    written = load_recipe(about["recipe"])
    assert written.model.down == "strided"
    assert written == load_recipe((run.path / "recipe.toml").read_text())
    assert len(run.epochs()) == 6
    assert not run.checkpoints.exists()


WITHOUT_TORCH = """
import sys
from isthmus.cli.main import main
status = main(sys.argv[1:])
sys.exit("a finished study needs no torch" if "torch" in sys.modules else status + 10)
"""


@pytest.mark.trains
def test_a_project_that_was_moved_goes_on_and_trains_nothing(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe, images and study lie in one folder, and the old place is gone."""
    project, moved = tmp_path / "project", tmp_path / "elsewhere" / "project"
    shutil.copytree(discs, project / "discs")
    variants = (
        '[[study.variants]]\nmodel.down = "max-pool"\n[[study.variants]]\nmodel.down = "strided"'
    )
    text = variants + SMALL.format(discs="discs").replace("epochs = 6", "epochs = 1")
    (project / "small.toml").write_text(text, encoding="utf-8")
    words = ["study", "small.toml", "--out", "studies/small"]
    monkeypatch.chdir(project)
    status = main(words)  # one epoch may well collapse
    before = results_of(project / "studies" / "small")
    shutil.copytree(project, moved)
    monkeypatch.chdir(moved)
    shutil.rmtree(project)
    assert subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words]).returncode == status + 10
    study = moved / "studies" / "small"
    pd.testing.assert_frame_equal(results_of(study), before)
    assert load_plan(study / "study.toml").recipe.data.folder == (moved / "discs").resolve()
    assert set(before["status"]) <= {"finished", "failed"}
    main([*words, "--seeds", "2"])
    assert set(results_of(study)["status"]) <= {"finished", "failed"}, (
        "a seed more is trained there"
    )
    assert len(results_of(study)) == 4


def test_images_that_are_shown_no_longer_are_deleted(tmp_path: Path) -> None:
    names = tuple(f"p{place:02}" for place in range(30))
    masks = np.zeros((30, 8, 8), np.uint8)
    about = {"names": names, "groups": ("all",) * 30, "parts": ("test",) * 30, "content": ""}
    images = np.zeros((30, 8, 8, 3), np.uint8)
    store = MaskedStore(images=images, masks=masks, class_names=("a",), label_scheme="", **about)
    run = RunFolder(tmp_path / "run")
    write_arrays(run.predictions, {"masks": masks, "names": names})
    folder = tmp_path / "images"

    def shown(order: range) -> set[str]:
        table = pd.DataFrame({"variant": "v", "seed": 0, "image": names})
        write_shown_images(folder, {"v": (0, run)}, store, table.assign(mean_iou=list(order)))
        entries = json.loads((folder / "images.json").read_text())
        written = {name for of in entries for name in (of["image"], of["truth"])}
        return written | {of["predictions"]["v"] for of in entries}

    first, second = shown(range(30)), shown(range(30, 0, -1))
    assert first - second, "the hardest of one are not those of the other"
    assert {file.name for file in folder.glob("*.png")} == second


@pytest.mark.trains
def test_seeds_pair_variants_by_split(small_recipe: Path, tmp_path: Path) -> None:
    """The test set is the same everywhere; metrics of one seed stand on the same images."""
    study = tmp_path / "study"
    main(["study", str(small_recipe), "--out", str(study), "--train.epochs", "1", "--seeds", "2"])
    per_image = pd.read_parquet(study / "per_image.parquet")
    tested = per_image.groupby(["variant", "seed"])["image"].apply(tuple)
    assert tested.nunique() == 1


@pytest.mark.trains
def test_a_study_killed_between_runs_trains_nothing_twice(
    small_recipe: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study)]
    command = [sys.executable, "-m", "isthmus.cli.main", *words]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    first = study / "runs" / "max-pool" / "seed-0" / "result.json"
    wait_for(first)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    before = first.stat().st_mtime_ns, first.parent.joinpath("model.safetensors").stat().st_mtime_ns
    assert main(words) == 0
    after = first.stat().st_mtime_ns, first.parent.joinpath("model.safetensors").stat().st_mtime_ns
    assert after == before
    assert set(results_of(study)["status"]) == {"finished"}


@pytest.mark.trains
def test_a_run_cut_short_ends_as_if_it_had_not_been(small_recipe: Path, tmp_path: Path) -> None:
    recipe = with_settings(
        load_plan(small_recipe).recipe, {"model.dropout": "element", "train.keep": "last"}
    )
    whole = RunFolder(tmp_path / "whole")
    train_run(recipe, 7, whole)

    class PowerCut(Exception):
        pass

    def cut(done: int, _of: int, _words: str) -> None:
        if done == 17:  # in the third of six epochs
            raise PowerCut

    broken = RunFolder(tmp_path / "broken")
    with pytest.raises(PowerCut):
        train_run(recipe, 7, broken, on_progress=cut)
    assert not broken.is_finished
    train_run(recipe, 7, broken)
    assert whole.weights.read_bytes() == broken.weights.read_bytes()
    losses = [
        [(line["train_loss"], line["validation_loss"], line["lr"]) for line in run.epochs()]
        for run in (whole, broken)
    ]
    assert losses[0] == losses[1]
    assert whole.result().metrics == broken.result().metrics


@pytest.mark.trains
def test_a_run_cut_short_does_not_go_on_with_other_images(discs: Path, tmp_path: Path) -> None:
    """What it has trained on may lie in the test part now."""
    folder = shutil.copytree(discs, tmp_path / "mine")
    settings = {
        "data.name": "folder",
        "data.folder": str(folder),
        "data.size_px": 16,
        "model.width": 4,
    }
    small = settings | {"model.depth": 2, "train.batch": 2, "train.epochs": 2}
    recipe, run = with_settings(SegmentRecipe(), small), RunFolder(tmp_path / "run")

    class PowerCut(Exception):
        pass

    def cut(_done: int, _of: int, _words: str) -> None:
        if is_early or run.epoch_table.exists():
            raise PowerCut

    def take_one_out() -> None:
        name = min((folder / "images").iterdir()).stem
        for file in folder.glob(f"*/{name}.*"):
            file.unlink()

    is_early = True  # before an epoch was whole nothing is kept
    with pytest.raises(PowerCut):
        train_run(recipe, 0, run, on_progress=cut)
    take_one_out()
    is_early = False
    with pytest.raises(PowerCut):
        train_run(recipe, 0, run, on_progress=cut)
    take_one_out()
    with pytest.raises(UserError) as caught:
        train_run(recipe, 0, run)
    assert str(caught.value) == (
        f"{run.path} was started with different images: an image that it was trained on may be in the test "
        "set now; restore the data, or choose another folder with --out"
    )


@pytest.mark.trains
def test_a_run_that_was_moved_meanwhile_keeps_its_best_epoch(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch is made the best; the run is cut short and moved after it, off a GPU."""

    class PowerCut(Exception):
        pass

    def cut(done: int, _of: int, _words: str) -> None:
        if done == 8:  # in the second epoch of seven steps each
            raise PowerCut

    metrics = Segmenter.metrics

    def worse_every_epoch(module: Segmenter, sums: Sums, images: int) -> dict[str, float]:
        return metrics(module, sums, images) | {"mean_iou": -float(module.steps_done)}

    monkeypatch.setattr(Segmenter, "metrics", worse_every_epoch)
    recipe = with_settings(load_plan(small_recipe).recipe, {"train.epochs": 3})
    whole = RunFolder(tmp_path / "whole")
    train_run(recipe, 1, whole)
    with pytest.raises(PowerCut):
        train_run(recipe, 1, RunFolder(tmp_path / "before"), on_progress=cut)
    moved = RunFolder((tmp_path / "before").rename(tmp_path / "after"))
    for checkpoint in moved.checkpoints.iterdir():
        content = torch.load(checkpoint, weights_only=True)
        with monkeypatch.context() as on_gpu:
            on_gpu.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
            torch.save(content, checkpoint)
    train_run(recipe, 1, moved)
    assert whole.result().best_epoch == moved.result().best_epoch == 1
    assert whole.weights.read_bytes() == moved.weights.read_bytes()


INTERRUPTIBLE = """
import signal, sys
from isthmus.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.trains
def test_ctrl_c_while_training_says_how_to_go_on(small_recipe: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study), "--train.epochs", "500"]
    command = [sys.executable, "-c", INTERRUPTIBLE, *words]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    wait_for(study / "runs" / "max-pool" / "seed-0" / "metrics.csv")
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert said.endswith("isthmus: interrupted; the same command continues from here\n")


@pytest.mark.trains
def test_a_run_that_another_command_trains_is_passed_over(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study)]
    with RunFolder(study / "runs" / "max-pool" / "seed-0").held():
        assert main(words) == 1
        assert "max-pool, seed 0: another process is training this run" in capsys.readouterr().err
        assert results_of(study)["status"].to_dict() == {
            ("max-pool", 0): "missing",
            ("strided", 0): "finished",
        }
        with (
            pytest.raises(
                UserError,
                match="another process is already training this run, and two at once would corrupt it",
            ),
            RunFolder(study / "runs" / "max-pool" / "seed-0").held(),
        ):
            pass
    assert main(words) == 0


@pytest.mark.trains
def test_train_leaves_alone_what_else_the_folder_has_planned(
    small_recipe: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    words = ["train", str(small_recipe), "--out", str(study)]
    assert main([*words, "--variant", "max-pool", "--seed", "1"]) == 0
    assert main([*words, "--variant", "strided", "--seed", "0"]) == 0
    assert results_of(study)["status"].to_dict() == {
        ("strided", 1): "missing",
        ("max-pool", 1): "finished",
        ("strided", 0): "finished",
        ("max-pool", 0): "missing",
    }
    assert main([*words, "--variant", "max-pool", "--seed", "0"]) == 0
    metrics = pd.read_parquet(study / "per_image.parquet").set_index(["variant", "seed", "image"])
    for entry in json.loads((study / "images" / "images.json").read_text()):
        shown, of_lowest = entry["mean_iou"]["max-pool"], ("max-pool", 0, entry["name"])
        assert shown == metrics.loc[of_lowest, "mean_iou"], "the lowest seed, whatever came first"


@pytest.mark.trains
def test_another_recipe_under_an_old_name_is_rejected(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["study", str(small_recipe), "--out", str(tmp_path / "study"), "--train.epochs", "1"]
    assert main(study) in (0, 1), "one epoch may well collapse"
    assert main([*study, "--train.lr", "0.5"]) == 2
    assert "different recipe (changed: train.lr)" in capsys.readouterr().err


@pytest.mark.trains
def test_seeds_can_be_added_later(small_recipe: Path, tmp_path: Path) -> None:
    study = ["study", str(small_recipe), "--out", str(tmp_path / "study"), "--train.epochs", "1"]
    main([*study, "--seeds", "1"])
    main([*study, "--seeds", "2"])
    main([*study, "--seeds", "1"])
    results = results_of(tmp_path / "study")
    assert len(results) == 4
    assert set(results["status"]) <= {"finished", "failed"}


def test_a_run_that_another_command_finishes_meanwhile_is_not_trained_again(tmp_path: Path) -> None:
    folder, shared = RunFolder(tmp_path / "run"), tmp_path / "judges"
    folder.finish(run_result())
    before = folder.result_file.stat().st_mtime_ns
    options = JobOptions(device="cpu", data_root=None, logger="none", shared=shared)
    job = Job("one", "run", SegmentRecipe(), 0, folder, options, {})
    assert run_job(job, no_progress) == Outcome(job, result=None, message="")
    assert folder.result_file.stat().st_mtime_ns == before
    assert not folder.epoch_table.exists()


@pytest.mark.trains
def test_a_run_that_the_budget_of_another_command_leaves_out_meanwhile_is_conditioned_of(
    small_recipe: Path, tmp_path: Path
) -> None:
    def beside_another(jobs: Iterable[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        for job in jobs:
            leave_out([1], StudyFolder(tmp_path))
            yield from one_by_one([job], on_progress)

    plan = dataclasses.replace(load_plan(small_recipe), seeds=(0, 1))
    run_study(plan, tmp_path, executor=beside_another, console=Console(quiet=True))
    assert load_plan(tmp_path / "study.toml").seeds == (0, 1)
    assert set(StudyFolder(tmp_path).results["seed"]) == {0, 1}


@pytest.mark.trains
def test_a_run_that_breaks_off_does_not_take_the_study_with_it_and_is_tried_again(
    small_recipe: Path, tmp_path: Path
) -> None:
    """Something lies where the weights of the first run must go."""
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study)]
    obstacle = study / "runs" / "max-pool" / "seed-0" / "model.safetensors" / "in the way"
    obstacle.mkdir(parents=True)
    assert main(words) == 1
    results = results_of(study)
    assert results.loc[("max-pool", 0), "status"] == "broken off"
    assert "Error: " in results.loc[("max-pool", 0), "reason"]
    assert results.loc[("strided", 0), "status"] == "finished"
    page = (study / "report.html").read_text(encoding="utf-8")
    top = page.split('<section aria-labelledby="metrics">')[0]
    assert (
        "Stopped with an error: 1 of 2 runs, left out of every mean; the same command tries them again."
        in top
    )
    assert not is_complete(StudyFolder(study).results), (
        "so a verdict would be a look before the end"
    )
    obstacle.rmdir()
    obstacle.parent.rmdir()
    assert main(words) == 0
    assert set(results_of(study)["status"]) == {"finished"}


@pytest.mark.trains
def test_a_loss_that_is_not_finite_fails_the_run(small_recipe: Path, tmp_path: Path) -> None:
    recipe = with_settings(
        load_plan(small_recipe).recipe,
        {"train.lr": 1e30, "train.schedule": "constant", "train.epochs": 20},
    )
    result = train_run(recipe, 0, RunFolder(tmp_path / "run"))
    assert result.status == "failed"
    assert result.reason
    last = with_settings(recipe, {"train.keep": "last"})
    result = train_run(last, 0, RunFolder(tmp_path / "last"))
    assert result.best_epoch == result.epochs < 20, "it stops where the loss is no number"
    assert tune_run(last, 0, RunFolder(tmp_path / "tuned")).status == "failed"


@pytest.mark.trains
def test_a_validation_loss_that_no_sound_run_has_fails_the_run(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dice of raw logits may stay in its range in training and leave it in validation."""

    def out_of_range(folder: RunFolder) -> list[dict[str, str]]:
        return [line | {"validation_loss": "-0.128"} for line in epochs(folder)]

    epochs = RunFolder.epochs
    recipe = with_settings(load_plan(small_recipe).recipe, {"train.epochs": 1, "loss.name": "dice"})
    monkeypatch.setattr(RunFolder, "epochs", out_of_range)
    result = train_run(recipe, 0, RunFolder(tmp_path / "run"))
    assert result.reason == "loss 2 of 2 is -0.128: it must lie in 0 .. 1"


@pytest.mark.trains
def test_the_same_seed_gives_the_same_run_and_another_does_not(
    small_recipe: Path, tmp_path: Path
) -> None:
    recipe = with_settings(load_plan(small_recipe).recipe, {"train.epochs": 1})
    runs = [RunFolder(tmp_path / name) for name in ("a", "b", "c")]
    for run, seed in zip(runs, (1, 1, 2), strict=True):
        train_run(recipe, seed, run)
    first, again, other = (run.weights.read_bytes() for run in runs)
    assert first == again
    a, c = (load_file(run.weights)["head.1.weight"] for run in (runs[0], runs[2]))
    assert (a != c).any()
    assert len(first) == len(other)


def test_a_claimed_folder_keeps_to_its_recipe(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.claim(SegmentRecipe(), "a")
    run.claim(SegmentRecipe(), "a")
    with pytest.raises(UserError, match=r"different recipe \(changed: model.width\)"):
        run.claim(with_settings(SegmentRecipe(), {"model.width": 8}), "a")
