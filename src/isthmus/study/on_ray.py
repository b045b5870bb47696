"""Train the runs of a study as tasks of a Ray cluster; their folders come home to the study."""

from __future__ import annotations

import dataclasses
import io
import logging
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from isthmus.data.store import Store
from isthmus.engine.run_folder import RunFolder, write_text
from isthmus.engine.task import task_of
from isthmus.errors import UserError
from isthmus.study.executors import JobProgress
from isthmus.study.jobs import Job, Outcome, run_job
from isthmus.trust import VARIABLE, trusted

_POLL_S = 1.0


@dataclass(frozen=True)
class RayTasks:
    """An executor: every run is a Ray task with cores, memory and a share of a GPU.

    The images are read here and sent to each node once, through Ray's object store; what the runs
    share, such as the judge, is made by a first task and sent with each run. A node needs nothing but
    isthmus. Each run is trained in a temporary folder of its node; its files come back when it ends.
    """

    address: str | None = None
    """Of the cluster; None: one that runs on this machine, or else a new one here."""
    cpus: int = 1
    """Cores per run."""
    gpus: float = 0.0
    """GPUs per run; .25: four runs share one."""
    memory_gib: float = 4.0
    """Memory that Ray reserves per run."""

    def __call__(self, jobs: Iterable[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """As ``Executor``."""
        to_do = list(jobs)
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield from self._run(to_do, on_progress)
        finally:
            if ours:
                ray.shutdown()

    def _run(self, jobs: list[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        remote = ray.remote(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            memory=int(self.memory_gib * 2**30),
            runtime_env={"env_vars": {VARIABLE: " ".join(names)}} if (names := trusted()) else {},
        )(_remote_job)
        stores: dict[Any, Any] = {}
        for job in jobs:
            data = job.recipe.data
            if data not in stores:
                store = task_of(job.recipe).open_store(data, job.options.data_root)
                stores[data] = ray.put(_in_memory(store))

        def submit(job: Job) -> Any:
            sent = _packed(job.folder.path, job.options.shared)
            on_progress(job.name, 0, 1, "")
            return remote.remote(job, stores[job.recipe.data], sent, self.cpus)

        first = dataclasses.replace(jobs[0], kind="prepare")
        _home(first, ray.get(submit(first)))
        waiting = {submit(job): job for job in jobs}
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=_POLL_S)
                for task in done:
                    job = waiting.pop(task)
                    yield self._outcome(job, task)
        finally:
            for task in waiting:
                ray.cancel(task, force=True)

    def _outcome(self, job: Job, task: Any) -> Outcome:
        try:
            return _home(job, ray.get(task))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:  # the node or its process was lost
            write_text(job.folder.error, f"{error}\n")
            return Outcome(
                job, message=f"stopped with an error: its node was lost ({type(error).__name__})"
            )


def _remote_job(job: Job, store: Store, sent: bytes, threads: int) -> tuple[Outcome, bytes]:
    """On a node: do the job in a temporary folder; its outcome, and the files to send back."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="isthmus-") as place:
        folder, shared = Path(place) / "run", Path(place) / "shared"
        _unpack(sent, Path(place))
        options = dataclasses.replace(job.options, shared=shared, logger="none")
        here = dataclasses.replace(job, folder=RunFolder(folder), options=options)
        outcome = run_job(here, lambda *_: None, store)
        back = _packed(None, shared) if job.kind == "prepare" else _packed(folder, None)
        return dataclasses.replace(outcome, job=job), back


def _home(job: Job, returned: tuple[Outcome, bytes]) -> Outcome:
    """Write the files that a task has sent back into the study."""
    outcome, files = returned
    with tempfile.TemporaryDirectory(dir=_made(job.options.shared.parent), prefix=".ray-") as place:
        _unpack(files, Path(place))
        for name, target in (("run", job.folder.path), ("shared", job.options.shared)):
            _merge(Path(place) / name, target)
    return outcome


def _merge(source: Path, target: Path) -> None:
    """Move the files of a folder into another one; ``result.json`` last, since it ends a run."""
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda of: (of.name == "result.json", str(of))):
        _made((target / path.relative_to(source)).parent)
        path.replace(target / path.relative_to(source))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _packed(run: Path | None, shared: Path | None) -> bytes:
    """The files of these folders as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, folder in (("run", run), ("shared", shared)):
            if folder is not None and folder.is_dir():
                archive.add(
                    folder, name, filter=lambda of: None if of.name.endswith(".lock") else of
                )
    return content.getvalue()


def _unpack(files: bytes, place: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(place, filter="data")


def _in_memory(store: Store) -> Store:
    """The store with its arrays in memory, which Ray shares between the processes of a node."""
    arrays: dict[str, Any] = {
        name: np.array(value)
        for name, value in vars(store).items()
        if isinstance(value, np.ndarray)
    }
    return dataclasses.replace(store, **arrays)
