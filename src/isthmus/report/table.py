"""Tables of the report: columns define how cells are read from the subject of a row, formatted and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.metrics.metric import Metric
from isthmus.metrics.wording import NO_NUMBER, metric_text, percent_text
from isthmus.study.study_folder import StudyFolder


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and the ``value`` to sort by; cells with the value None are always last."""

    text: str
    value: float | str | None = None
    mark: str = ""
    """A symbol before the text; in a narrow column, the symbol replaces the text."""
    share: float | None = None
    """Shade of the cell, from 0 (not shaded) to 1."""


@dataclass(frozen=True)
class Column:
    """A column: its head, and a function of the row's subject; ``order`` is the initial ``aria-sort``."""

    text: str
    cell: Callable[[Any], Cell]
    is_number: bool = True
    order: str = "none"
    is_narrow: bool = False


@dataclass(frozen=True)
class Row:
    """One cell per column; the first cell is the head of the row."""

    cells: tuple[Cell, ...]
    is_baseline: bool = False


@dataclass(frozen=True)
class Table:
    """A captioned table."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def table_of(
    study: StudyFolder,
    caption: str,
    columns: Sequence[Column],
    subjects: Iterable[Any],
    is_baseline: Callable[[Any], bool] = lambda _: False,
) -> Table:
    """A table with one row per subject; judge and label scheme are appended to the caption."""
    rows = (Row(tuple(c.cell(of) for c in columns), is_baseline(of)) for of in subjects)
    judge, label_scheme = study.record.judge, study.record.label_scheme
    if judge is not None:
        caption += (
            f" The judge {judge.name} classifies the images; its accuracy on real test images "
            f"is {metric_text(judge.accuracy)}."
        )
    caption += f" Data: {label_scheme}." if label_scheme else ""
    return Table(caption, tuple(columns), tuple(rows))


def words(text: str, read: Callable[[Any], str]) -> Column:
    """A column of words, sorted alphabetically."""
    return Column(text, lambda of: Cell(value := read(of), value), is_number=False)


def numbers(
    text: str, read: Callable[[Any], float], as_text: Callable[[float], str], order: str = "none"
) -> Column:
    """A column of numbers, sorted by their value."""
    return Column(text, lambda of: number_cell(value := read(of), as_text(value)), order=order)


def number_cell(value: float, text: str) -> Cell:
    """A cell with the text of a number, sorted by the number."""
    return Cell(text, value if np.isfinite(value) else None)


def count_cell(value: float | int) -> Cell:
    """A cell with a whole number; a dash if it is not known."""
    return number_cell(value, f"{value:.0f}" if np.isfinite(value) else NO_NUMBER)


def share_cell(share: float) -> Cell:
    """A cell with a proportion in per cent, which is also the shade of the cell."""
    known = share if np.isfinite(share) else None
    return Cell(percent_text(share), known, share=known)


def between_cell(value: float, low: float, high: float) -> Cell:
    """A cell with a metric and the ends of its interval, if they are known."""
    interval = f" [{metric_text(low)}, {metric_text(high)}]" if np.isfinite(low + high) else ""
    return number_cell(value, f"{metric_text(value)}{interval}")


def headed(metric: Metric) -> str:
    """The title of a metric, with an arrow up if higher is better, else down."""
    return f"{metric.heading}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def order_of(metric: Metric, primary: Metric) -> str:
    """How a metric's column is sorted in rows that are sorted by the primary one."""
    if metric != primary:
        return "none"
    return "descending" if metric.higher_is_better else "ascending"
