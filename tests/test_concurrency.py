"""Where runs are computed, how many at a time, and whether their networks are compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import trained_in_no_time
from isthmus.cli.main import main
from isthmus.engine.device import CPU, environment
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.train import train_run
from isthmus.recipe import with_settings
from isthmus.study import concurrency
from isthmus.study.concurrency import runs_at_a_time
from isthmus.study.jobs import JobOptions
from isthmus.study.plan import load_plan
from isthmus.study.schedule import PlannedRun, Schedule
from isthmus.study.study_folder import StudyFolder

Runs = tuple[PlannedRun, ...]
ON_CPU = JobOptions(device="cpu", data_root=None, logger="none", shared=Path("unused"))


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runs(eight_cores: None, small_recipe: Path, tmp_path: Path) -> Runs:
    """Four runs of which none was started, on a machine of eight cores."""
    text = "[study]\nseeds = 2\n" + small_recipe.read_text(encoding="utf-8")
    small_recipe.write_text(text, encoding="utf-8")
    return Schedule(load_plan(small_recipe), StudyFolder(tmp_path / "study")).runs()


def start(run: PlannedRun, threads: int) -> None:
    of_run = environment(CPU, "", {}, {}).model_copy(update={"threads": threads})
    run.folder.write_environment(of_run)


def no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "_fastest", pytest.fail)


def test_one_run_is_one_at_a_time(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    no_measurement(monkeypatch)
    assert runs_at_a_time(runs[:1], runs, ON_CPU) == 1


@pytest.mark.parametrize(("threads", "count"), [(1, 8), (2, 4), (3, 2), (8, 1), (16, 1)])
def test_runs_go_on_with_the_threads_of_those_that_were_started(
    threads: int, count: int, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is one left or more: the number of threads changes how sums are rounded."""
    no_measurement(monkeypatch)
    start(runs[0], threads)
    for left in (runs[1:], runs[1:2], runs[:1]):
        assert runs_at_a_time(left, runs, ON_CPU) == count


def test_runs_of_a_command_with_few_threads_go_on_one_after_the_other(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has said OMP_NUM_THREADS=1, perhaps to leave the other cores to others."""
    no_measurement(monkeypatch)
    torch.set_num_threads(1)
    start(runs[0], 1)
    assert runs_at_a_time(runs[1:], runs, ON_CPU) == 1


def test_a_gpu_has_one_run_at_a_time(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the threads of those that were started, such as on another machine."""
    no_measurement(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    on_gpu = JobOptions(device="auto", data_root=None, logger="none", shared=Path("unused"))
    assert runs_at_a_time(runs, runs, on_gpu) == 1
    start(runs[0], 2)
    assert runs_at_a_time(runs[1:], runs, on_gpu) == 1


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        ({8: 10.0, 4: 11.0, 2: 30.0}, 2),  # 1.8 times as fast, 1.3 times
        ({8: 10.0, 4: 11.0, 2: 12.0}, 4),
        ({8: 10.0, 4: 18.0, 2: 36.0}, 1),  # 1.11 times: not worth the memory
        ({8: 1e-3}, 1),  # no more is measured
    ],
)
def test_as_many_as_are_fastest_are_trained_at_a_time(
    seconds: dict[int, float], count: int, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of them than there are runs."""
    measured: list[int] = []

    def seconds_per_step(*_: object) -> float:
        measured.append(torch.get_num_threads())
        return seconds[measured[-1]]

    monkeypatch.setattr("isthmus.engine.cost.seconds_per_step", seconds_per_step)
    assert runs_at_a_time(runs, runs, ON_CPU) == count
    assert measured == list(seconds)
    assert torch.get_num_threads() == 8


def test_a_finished_study_measures_nothing(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["study", str(small_recipe), "--out", str(tmp_path / "study")]
    monkeypatch.setattr("isthmus.engine.train.train_run", trained_in_no_time)
    assert main([*words, "--jobs", "1"]) == 0
    monkeypatch.setattr("isthmus.study.run.runs_at_a_time", pytest.fail)
    assert main(words) == 0


# Devices


@pytest.mark.trains
@pytest.mark.parametrize("more", [[], ["--jobs", "1"], ["--jobs", "2"]])
def test_a_gpu_that_is_not_there_is_told_before_training(
    more: list[str], small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    if torch.cuda.is_available() and "2" in more:
        pytest.skip("there is a GPU, and what is patched here is not in other processes")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study), "--train.epochs", "1"]
    assert main([*words, "--device", "cuda", *more]) == 2
    assert capsys.readouterr().err.endswith(
        "isthmus: --device cuda: PyTorch finds no such device on this machine; leave out --device, or use "
        "--device cpu\n"
    )
    assert not list(study.rglob("metrics.csv"))
    if not more:
        main([*words, "--device", "cpu", "--jobs", "1"])
        main([*words, "--jobs", "1", "--seeds", "2"])
        assert [run.folder.result().epochs for run in runs_of(study)] == [1] * 4


def runs_of(study: Path) -> Runs:
    return Schedule(load_plan(study / "study.toml"), StudyFolder(study)).runs()


# torch.compile


@pytest.mark.trains
def test_a_short_run_is_not_compiled_and_says_why(small_recipe: Path, tmp_path: Path) -> None:
    recipe = with_settings(load_plan(small_recipe).recipe, {"train.epochs": 1})
    auto = with_settings(recipe, {"train.compile": "auto"})
    plain, run = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "auto")
    for folder, of in ((plain, recipe), (run, auto)):
        assert train_run(of, 0, folder).compiled is False
    (line,) = [text for text in run.log.read_text().splitlines() if "compiled" in text]
    assert re.search(r" not compiled: 7 steps of [.\d]+ s are too few to gain from it$", line)
    assert "compiled" not in plain.log.read_text()
    assert run.weights.exists()
    losses = [of.epochs()[0]["train_loss"] for of in (plain, run)]
    assert losses[0] == losses[1], "the measurement changes no draw"


def test_nothing_of_torch_is_imported_to_say_what_a_study_has(tmp_path: Path) -> None:
    code = (
        "import isthmus.study.concurrency, isthmus.study.run, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
