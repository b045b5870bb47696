"""A table of the page: its columns say how a cell is read from a row's subject, formatted and sorted."""

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
    """What is read, and what is sorted by; no sort value means always last."""

    text: str
    value: float | str | None = None
    mark: str = ""
    """A sign before the text; where the column is narrow, seen instead of it."""
    share: float | None = None
    """Shades the cell, from 0 for not at all to 1."""


@dataclass(frozen=True)
class Column:
    """A heading and the cell under it; ``order`` is the ``aria-sort`` that the column starts with."""

    text: str
    cell: Callable[[Any], Cell]
    is_number: bool = True
    order: str = "none"
    is_narrow: bool = False


@dataclass(frozen=True)
class Row:
    """Cells under the columns; the first one heads the row."""

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
    """A row a subject, in their order; every caption ends with what the metrics are measured on and by."""
    rows = (Row(tuple(c.cell(of) for c in columns), is_baseline(of)) for of in subjects)
    judge, label_scheme = study.record.judge, study.record.label_scheme
    if judge is not None:
        caption += (
            f" The judge {judge.name} classifies what an image shows; its accuracy on real test images "
            f"is {metric_text(judge.accuracy)}."
        )
    caption += f" Data: {label_scheme}." if label_scheme else ""
    return Table(caption, tuple(columns), tuple(rows))


def words(text: str, read: Callable[[Any], str]) -> Column:
    """A column of words, sorted by themselves."""
    return Column(text, lambda of: Cell(value := read(of), value), is_number=False)


def numbers(
    text: str, read: Callable[[Any], float], as_text: Callable[[float], str], order: str = "none"
) -> Column:
    """A column of numbers, sorted by their value."""
    return Column(text, lambda of: number_cell(value := read(of), as_text(value)), order=order)


def number_cell(value: float, text: str) -> Cell:
    """A number's text, sorted by its value."""
    return Cell(text, value if np.isfinite(value) else None)


def count_cell(value: float | int) -> Cell:
    """A whole number; a dash where it is not known."""
    return number_cell(value, f"{value:.0f}" if np.isfinite(value) else NO_NUMBER)


def share_cell(share: float) -> Cell:
    """A share as per cent, shaded by it."""
    known = share if np.isfinite(share) else None
    return Cell(percent_text(share), known, share=known)


def between_cell(value: float, low: float, high: float) -> Cell:
    """A metric with the ends of its interval, where they are known."""
    interval = f" [{metric_text(low)}, {metric_text(high)}]" if np.isfinite(low + high) else ""
    return number_cell(value, f"{metric_text(value)}{interval}")


def headed(metric: Metric) -> str:
    """A metric's title and which way it is better."""
    return f"{metric.heading}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def order_of(metric: Metric, primary: Metric) -> str:
    """How a metric's column is sorted in rows that are sorted by the primary one."""
    if metric != primary:
        return "none"
    return "descending" if metric.higher_is_better else "ascending"
