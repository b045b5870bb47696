"""A table of the page: rows of text with the value that each cell sorts by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.metrics.metric import Metric
from isthmus.metrics.wording import metric_text, percent_text
from isthmus.study.folder import StudyFolder


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
    """A header; ``order`` is the ``aria-sort`` that the column starts with."""

    text: str
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
    """A captioned table. Rows come sorted by the column that says so, or as planned."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def word_cell(text: str) -> Cell:
    """Words, sorted by themselves."""
    return Cell(text, text)


def number_cell(value: float, text: str) -> Cell:
    """A number's text, sorted by its value."""
    return Cell(text, value if np.isfinite(value) else None)


def share_cell(share: float) -> Cell:
    """A share as per cent, shaded by it."""
    if not np.isfinite(share):
        return number_cell(share, percent_text(share))
    return Cell(percent_text(share), share, share=float(np.clip(share, 0, 1)))


def headed(metric: Metric) -> str:
    """A metric's title and which way it is better."""
    return f"{metric.title}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def order_of(metric: Metric, first: Metric) -> str:
    """How a metric's column is sorted where the rows are sorted by another one, or by it."""
    if metric != first:
        return "none"
    return "descending" if metric.higher_is_better else "ascending"


def data_sentence(study: StudyFolder) -> str:
    """What every table says: who judges, and the label scheme; under two metrics do not compare."""
    judge, label_scheme = study.record.judge, study.record.label_scheme
    judged = (
        f" The judge {judge.name} names the label of an image; of real test images it names the "
        f"true label of {metric_text(judge.accuracy)}."
        if judge
        else ""
    )
    return judged + (f" Data: {label_scheme}." if label_scheme else "")
