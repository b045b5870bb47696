"""Progress bars for a study, for its current run, and for decoding images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from isthmus.engine.task import ProgressCallback


class StudyProgress:
    """Two bars: one for the runs of a study, with the time left, and one for the current run."""

    def __init__(self, bars: Progress, runs: int, what: str) -> None:
        self._bars = bars
        self._what = what
        self._study = bars.add_task(what, total=float(runs))
        self._run = bars.add_task("", total=1.0, visible=False)
        self._begun = 0

    def skip_run(self) -> None:
        """Count a run that had already finished."""
        self._begun += 1
        self._bars.update(self._study, completed=self._begun)

    def callback_of_run(self, name: str) -> ProgressCallback:
        """Start the bar of the next run; return the progress callback of this run."""
        before, self._begun = self._begun, self._begun + 1
        total = self._bars.tasks[self._study].total or 0
        words = f"{self._what} {self._begun} of {total:.0f}"
        self._bars.update(self._study, description=words)
        self._bars.reset(self._run, description=name, visible=True, total=1.0)

        def on_progress(steps_done: int, steps: int, words: str) -> None:
            fraction = steps_done / steps
            self._bars.update(self._run, completed=fraction, description=f"{name}  {words}")
            self._bars.update(self._study, completed=before + fraction)

        return on_progress


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
