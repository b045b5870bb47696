"""Runs in several processes, and on a cluster: the same results, and an end to what was interrupted."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from isthmus.cli.main import main
from isthmus.engine.run_folder import RunFolder
from isthmus.recipe import with_settings
from isthmus.study.executors import Processes
from isthmus.study.jobs import Job, JobOptions, Outcome
from isthmus.study.plan import load_plan
from isthmus.study.study_folder import StudyFolder

pytestmark = pytest.mark.trains

TWO = max(1, (os.cpu_count() or 1) // 2)
"""Threads per run with --jobs 2."""

COMMAND = """
import signal, sys
from isthmus.cli.main import main
if __name__ == "__main__":  # the processes that train import this file again
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts in the background ignores it
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command with so many threads, in a process group of its own."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND, encoding="utf-8")

    def started(*words: str, threads: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), *words],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return started


def wait_for(path: Path) -> None:
    """Until another process has written this file; a minute at most."""
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)


def assert_alike(one: Path, other: Path) -> None:
    """The same metrics to the last digit, and the same weights to the last byte."""
    tables = [
        pd.read_csv(study / "results.csv").drop(columns="train_seconds") for study in (one, other)
    ]
    assert len(tables[0]) == 2
    assert set(tables[0]["status"]) == {"finished"}
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    for path in one.glob("runs/*/*/model.safetensors"):
        same = other / path.relative_to(one)
        assert same.read_bytes() == path.read_bytes(), path
    assert (one / "per_image.parquet").read_bytes() == (other / "per_image.parquet").read_bytes()


def test_two_at_a_time_give_the_results_of_one_after_the_other(
    small_recipe: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    """Those that train share the threads, however many the command itself has."""
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["study", str(small_recipe), "--train.epochs", "3", "--device", "cpu", "--out"]
    for study, jobs, threads in ((one, "1", TWO), (two, "2", 2 * TWO + 1)):
        process = command(*words, str(study), "--jobs", jobs, threads=threads)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert_alike(one, two)
    for variant in ("max-pool", "strided"):
        begun = StudyFolder(two).run(variant, 0).begun_with()
        assert begun
        assert begun.threads == TWO


def test_a_run_that_fails_does_not_stop_the_one_beside_it(
    small_recipe: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    study = tmp_path / "study"
    obstacle = study / "runs" / "max-pool" / "seed-0" / "model.safetensors" / "in the way"
    obstacle.mkdir(parents=True)
    words = ["study", str(small_recipe), "--out", str(study), "--jobs", "2"]
    process = command(*words, threads=1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "max-pool, seed 0: stopped with an error: " in said
    assert "strided, seed 0: finished, mean IoU " in said
    status = pd.read_csv(study / "results.csv").set_index("variant")["status"]
    assert status.to_dict() == {"max-pool": "broken off", "strided": "finished"}


def jobs_for(recipe: Path, study: Path, names: str, epochs: dict[str, int]) -> list[Job]:
    options = JobOptions(device="cpu", data_root=None, logger="none", shared=study / "judges")
    return [
        Job(
            name,
            "run",
            with_settings(load_plan(recipe).recipe, {"train.epochs": epochs[name]}),
            0,
            RunFolder(study / name),
            options,
            {},
        )
        for name in names
    ]


class Killed(RunFolder):
    """Its process is killed after an epoch, when the run beside it has trained one too."""

    def add_epoch(self, line: Mapping[str, float]) -> None:
        super().add_epoch(line)
        wait_for(self.path.with_name("b") / "metrics.csv")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_reported_and_the_others_end(
    small_recipe: Path, tmp_path: Path
) -> None:
    """The run beside it goes on where it was, for its process was ended by us."""
    epochs = {"a": 3, "b": 30, "c": 2}
    killed, *others = jobs_for(small_recipe, tmp_path, "abc", epochs)
    killed = dataclasses.replace(killed, folder=Killed(killed.folder.path))
    outcomes: dict[str, Outcome] = {}
    for outcome in Processes(2)((killed, *others), lambda *_: None):
        assert outcome.job.name not in outcomes
        outcomes[outcome.job.name] = outcome
    reason = "its process was killed, perhaps because memory ran out; try fewer --jobs"
    assert outcomes["a"] == Outcome(killed, message=f"stopped with an error: {reason}")
    assert killed.folder.error.read_text(encoding="utf-8") == f"{reason}\n"
    for job in others:
        assert outcomes[job.name].message == ""
        assert job.folder.result().epochs == epochs[job.name]
        assert not job.folder.error.exists()
    began = [line for line in others[0].folder.log.read_text().splitlines() if " training " in line]
    assert len(began) == 2, "before and after"
    assert multiprocessing.active_children() == []


class Unlucky(RunFolder):
    """Its process ends as soon as it trains."""

    @property
    def is_finished(self) -> bool:
        if multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGTERM)
        return False


def test_processes_that_only_die_are_not_started_for_ever(
    small_recipe: Path, tmp_path: Path
) -> None:
    jobs = jobs_for(small_recipe, tmp_path, "abc", dict.fromkeys("abc", 1))
    jobs = [dataclasses.replace(job, folder=Unlucky(job.folder.path)) for job in jobs]
    outcomes = list(Processes(2)(jobs, lambda *_: None))
    assert {outcome.job.name for outcome in outcomes} == set("abc")
    assert all("its process was killed" in outcome.message for outcome in outcomes)


def test_ctrl_c_ends_every_process_and_the_same_command_goes_on(
    small_recipe: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    """As a terminal sends it: to the command and to the processes that train."""
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study), "--train.epochs", "60"]
    process = command(*words, "--jobs", "2", threads=1)
    runs = [StudyFolder(study).run(variant, 0) for variant in ("max-pool", "strided")]
    for run in runs:
        wait_for(run.checkpoints / "last.ckpt")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.endswith("isthmus: interrupted; the same command continues from here\n")
    assert "Traceback" not in said
    for _ in range(100):
        if not is_there(process.pid):
            break
        time.sleep(0.1)
    assert not is_there(process.pid), "a process goes on"
    before = [run.epochs()[0] for run in runs]
    assert not any(run.is_finished for run in runs)
    process = command(*words, "--jobs", "2", threads=1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert [run.epochs()[0] for run in runs] == before, "to the second"
    assert [run.result().epochs for run in runs] == [60, 60]


def test_ctrl_c_before_anything_is_trained_says_the_same(
    small_recipe: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    """When the processes have been started, and have not yet set up anything."""
    words = ["study", str(small_recipe), "--out", str(tmp_path / "study"), "--jobs", "2"]
    starting = tmp_path / "starting"
    (tmp_path / "command.py").write_text(STARTING.format(starting=str(starting)) + COMMAND)
    process = command(*words, threads=1)
    wait_for(starting)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.endswith("isthmus: interrupted; the same command continues from here\n")
    assert "Traceback" not in said


STARTING = """
import pathlib, time
if __name__ != "__main__":
    pathlib.Path({starting!r}).touch()
    time.sleep(1)
"""


def is_there(group: int) -> bool:
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# On a cluster

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

node = {"memory": 5 * 2**30, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 0})
for _ in range(2):
    cluster.add_node(num_cpus=1, **node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a head and two nodes of one core each, or a skip; their cache is their own."""
    pytest.importorskip("ray", reason="ray is not installed")
    own = {"ISTHMUS_CACHE": str(tmp_path_factory.mktemp("nodes")), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        lines = (line.strip() for line in process.stdout)
        yield next(line for line in lines if re.fullmatch(r"[\d.]+:\d+", line))
        try:
            process.communicate("", timeout=60)
        finally:
            if is_there(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def on_both(
    words: list[str],
    study: Path,
    address: str,
    command: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, Path]:
    """The study here, one run after the other, and on the cluster."""
    here, there = study / "here", study / "there"
    flags = {here: ["--jobs", "1"], there: ["--on", "ray", "--address", address]}
    for folder, more in flags.items():
        monkeypatch.setenv("ISTHMUS_CACHE", str(study / f"cache of {folder.name}"))
        process = command(*words, "--out", str(folder), *more, threads=1)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return here, there


def test_a_cluster_gives_the_results_of_one_after_the_other(
    cluster: str,
    small_recipe: Path,
    tmp_path: Path,
    command: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["study", str(small_recipe), "--train.epochs", "3", "--device", "cpu"]
    here, there = on_both(words, tmp_path, cluster, command, monkeypatch)
    assert_alike(here, there)
    files = [{path.name for path in (of / "runs/strided/seed-0").iterdir()} for of in (here, there)]
    assert files[0] == files[1]
    assert [path for path in there.iterdir() if path.name.startswith(".ray")] == []
    assert main(["report", str(there)]) == 0


def test_the_judge_comes_home_from_a_cluster(
    cluster: str,
    stroke_recipe: Path,
    tmp_path: Path,
    command: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = ["--train.epochs", "3", "--measure.judge-epochs", "4", "--device", "cpu"]
    words = ["study", str(stroke_recipe), *short]
    here, there = on_both(words, tmp_path, cluster, command, monkeypatch)
    assert_alike(here, there)
    judges = [sorted((of / "judges").iterdir()) for of in (here, there)]
    assert [judge.name for judge in judges[0]] == [judge.name for judge in judges[1]]
    weights = [(judge / "model.safetensors").read_bytes() for (judge,) in judges]
    assert weights[0] == weights[1]
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache of there"))
    assert main([*words, "--out", str(there), "--jobs", "1", "--seeds", "2"]) == 0
    assert not list((tmp_path / "cache of there").glob("judges/*/result.json")), "it is used here"
