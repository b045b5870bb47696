"""Ways to train the runs of a study: one after the other, or several processes at a time."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from isthmus.engine.run_folder import write_text
from isthmus.study.jobs import Job, Outcome, run_job

JobProgress = Callable[[str, int, int, str], None]
"""(name of the job, steps done, steps in all, last epoch's metric in words) -> None."""

_POLL_S = 0.2


Executor = Callable[[Iterable[Job], JobProgress], Iterator[Outcome]]
"""Trains the runs of some jobs, and yields the outcome of each in the order in which they end.

A job that fails does not stop the others; a ``UserError`` does, and so does a caller that stops early.
"""


def one_by_one(jobs: Iterable[Job], on_progress: JobProgress) -> Iterator[Outcome]:
    """Train the runs in this process, one after the other."""
    for job in jobs:
        yield run_job(job, functools.partial(on_progress, job.name))


@dataclass(frozen=True)
class Processes:
    """Trains runs in several processes of this machine, which share its processor's threads."""

    count: int
    """How many runs are trained at a time."""

    def __call__(self, jobs: Iterable[Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """As ``Executor``. A job whose process is killed is reported, and the others go on.

        The pool ends its other processes then; their jobs are resumed in a new pool.
        """
        left = {job.name: job for job in jobs}
        first = next(iter(left.values()))
        run_job(
            dataclasses.replace(first, kind="prepare"), functools.partial(on_progress, first.name)
        )
        while left:
            yield from self._until_broken(left, on_progress)

    def _until_broken(self, left: dict[str, Job], on_progress: JobProgress) -> Iterator[Outcome]:
        """Take the jobs that end out of ``left``; returns early if a process is killed."""
        spawn = multiprocessing.get_context("spawn")
        said: Any = spawn.Queue()
        threads = max(1, (os.cpu_count() or 1) // self.count)
        pool = ProcessPoolExecutor(self.count, spawn, _begin, (said, threads))
        begun: dict[str, int] = {}
        try:
            with _ctrl_c_ignored():
                waiting = {pool.submit(_run, job) for job in left.values()}
            while waiting:
                done, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
                for process_id, name, steps_done, steps, words in _arrived(said):
                    begun[name] = process_id
                    on_progress(name, steps_done, steps, words)
                for future in done:
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        yield from _killed(left, begun, pool)
                        return
                    del left[outcome.job.name]
                    yield outcome
        finally:
            _stop(pool)


def _killed(
    left: dict[str, Job], begun: Mapping[str, int], pool: ProcessPoolExecutor
) -> Iterator[Outcome]:
    """Report the jobs of processes that did not end by the pool's SIGTERM; if there are none, all begun.

    Args:
        left: The jobs that have not ended; the reported ones are removed.
        begun: Job -> id of its process.
        pool: Which is broken.
    """
    processes = dict(pool._processes or {})
    pool.shutdown(wait=True)  # they have exit codes then
    ours = {name: process_id for name, process_id in begun.items() if name in left}
    killed = [name for name, of in ours.items() if processes[of].exitcode != -signal.SIGTERM]
    for name in killed or list(ours) or list(left):
        job = left.pop(name)
        reason = "its process was killed, perhaps because memory ran out; try fewer --jobs"
        write_text(job.folder.error, f"{reason}\n")
        yield Outcome(job, message=f"stopped with an error: {reason}")


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A context whose processes ignore Ctrl-C from their first moment: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change what a signal does
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_SAID: Any = None
"""In a process of ``Processes``: the queue on which it reports progress."""


def _begin(said: Any, threads: int) -> None:
    """Set up a process, before it imports torch; it ends with the process that started it."""
    global _SAID
    _SAID = said
    os.environ["OMP_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _run(job: Job) -> Outcome:
    """Train the run of a job in a process of ``Processes``."""
    who = (os.getpid(), job.name)
    _SAID.put((*who, 0, 1, ""))
    return run_job(job, lambda done, of, words: _SAID.put((*who, done, of, words)))


def _arrived(said: Any) -> Iterator[tuple[int, str, int, int, str]]:
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
