"""Ways to train the runs of a study: one after the other, or several processes at a time."""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from isthmus.engine.run_folder import write_text
from isthmus.study.jobs import Job, Outcome, run_job

JobProgress = Callable[[int, int, int, str], None]
"""(place of the job, steps done, steps in all, last metric in words) -> None."""

_POLL_S = 0.2


class Executor(Protocol):
    """Trains runs, several at a time or not."""

    def __call__(self, jobs: Sequence[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """The outcome of each job, in the order in which they end.

        A job that fails does not stop the others. If the caller stops early, so do all jobs.

        Raises:
            UserError: If a request is wrong.
        """


def one_by_one(jobs: Sequence[Job], on_progress: JobProgress) -> Iterator[Outcome]:
    """Train the runs in this process, one after the other."""
    for place, job in enumerate(jobs):
        yield run_job(job, functools.partial(on_progress, place))


@dataclass(frozen=True)
class Processes:
    """Trains runs in several processes of this machine, which share its processor's threads."""

    count: int
    """How many runs are trained at a time."""

    def __call__(self, jobs: Sequence[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """As ``Executor``. A job whose process is killed is reported, and the others go on."""
        left = dict(enumerate(jobs))
        while left:
            yield from self._until_broken(left, on_progress)

    def _until_broken(self, left: dict[int, Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """Take the jobs that end out of ``left``; returns early if a process is killed."""
        spawn = multiprocessing.get_context("spawn")
        said: Any = spawn.Queue()
        threads = max(1, (os.cpu_count() or 1) // self.count)
        pool = ProcessPoolExecutor(self.count, spawn, _begin, (said, threads))
        begun: set[int] = set()
        try:
            waiting: dict[Future[Outcome], int] = {
                pool.submit(_run, place, job): place for place, job in left.items()
            }
            while waiting:
                done, _ = wait(waiting, _POLL_S, FIRST_COMPLETED)
                for progress in _arrived(said):
                    begun.add(progress[0])
                    on_progress(*progress)
                for future in done:
                    place = waiting.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        yield from self._killed(left, begun)
                        return
                    del left[place]
                    begun.discard(place)
                    yield outcome
        finally:
            _stop(pool)

    def _killed(self, left: dict[int, Job], begun: set[int]) -> Iterator[Outcome]:
        """Report the jobs that a killed process was working on, or may have been."""
        for place in begun or set(left):
            job = left.pop(place)
            reason = "its process was killed, perhaps because memory ran out; try fewer --jobs"
            write_text(job.folder.error, f"{reason}\n")
            yield Outcome(job, message=f"broke off: {reason}")


_SAID: Any = None
"""In a process of ``Processes``: the queue on which it reports progress."""


def _begin(said: Any, threads: int) -> None:
    """Set up a process, before it imports torch."""
    global _SAID
    _SAID = said
    os.environ["OMP_NUM_THREADS"] = str(threads)


def _run(place: int, job: Job) -> Outcome:
    """Train the run of a job in a process of ``Processes``."""
    _SAID.put((place, 0, 1, ""))
    return run_job(job, lambda done, of, words: _SAID.put((place, done, of, words)))


def _arrived(said: Any) -> Iterator[tuple[int, int, int, str]]:
    while True:
        try:
            yield said.get_nowait()
        except queue.Empty:
            return


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool at once; those that have nothing to do end by themselves."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
