"""Progress bars for a study, for its current run, and for decoding images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StudyProgress:
    """Bars: the runs of a study with the time left, and one for each run in progress."""

    def __init__(self, bars: Progress, runs: int, what: str) -> None:
        self._bars = bars
        self._runs = runs
        self._what = what
        self._study = bars.add_task(what, total=float(runs))
        self._ended = 0
        self._shares: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}

    def end(self, name: str | None = None) -> None:
        """Count a run that has ended; if ``name`` is None, a run that had finished before."""
        self._ended += 1
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
            del self._shares[name]
        self._update()

    def show(self, name: str, steps_done: int, steps: int, words: str) -> None:
        """Show how far a run is, with the last epoch's metric in words."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=1.0)
        self._shares[name] = steps_done / steps
        self._bars.update(
            self._tasks[name], completed=steps_done / steps, description=f"{name}  {words}"
        )
        self._update()

    def _update(self) -> None:
        begun = min(self._ended + len(self._tasks), self._runs)
        done = self._ended + sum(self._shares.values())
        words = f"{self._what} {begun} of {self._runs}"
        self._bars.update(self._study, completed=done, description=words)


@contextmanager
def study_progress(console: Console, runs: int, what: str) -> Iterator[StudyProgress]:
    """Show the bars of a study on this console while the block runs."""
    text, left = TextColumn("{task.description}"), TextColumn("left")
    percentage = TextColumn("{task.percentage:>3.0f}%")
    columns = (text, BarColumn(), percentage, TimeElapsedColumn(), left, TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=3600) as bars:
        yield StudyProgress(bars, runs, what)


@contextmanager
def decoding_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar for decoding images; hidden until the first image is decoded."""
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", visible=False)
        yield lambda done, of: bars.update(task, completed=done, total=of, visible=True)
