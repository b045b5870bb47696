"""Learning curves: one panel per variant and quantity, one line per run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from markupsafe import escape

from isthmus.metrics.wording import count_text, metric_text
from isthmus.report.axes import SMALL_PX, Axes, Ends, padded, ticks
from isthmus.report.svg import Drawing, Px, beside, element
from isthmus.study.study_folder import StudyFolder

PARTS = {"train": "training", "validation": "validation"}
"""Prefix of columns in metrics.csv -> name in the report, which is also the ink of the line."""

_WIDTH, _PLOT, _PANEL, _NAME = 340, 124, 172, 18
_LEFT, _RIGHT = 46, 10
_MOST_POINTS = 150
"""Largest number of points of a line; more points would be indistinguishable at this width."""

Epochs = Float[np.ndarray, " epoch"]


@dataclass(frozen=True)
class _Line:
    """The finite values of one run for each epoch, on training or validation images."""

    part: str
    seed: int
    is_failed: bool
    epochs: Epochs
    values: Epochs


@dataclass(frozen=True)
class _Panel:
    """One quantity of one variant; panels with equal ``scale`` have the same y axis."""

    variant: str
    title: str
    scale: tuple[str, ...]
    lines: tuple[_Line, ...]


def curve_charts(study: StudyFolder) -> dict[str, Drawing]:
    """Variant -> drawing with two panels: the loss, and the metric ``curve`` of the study's record.

    Empty if no run has recorded its epochs. The metric, such as pixel accuracy, has the same y axis for
    all variants; the loss has the same y axis only for variants that minimise the same loss. Thick lines
    are means over the runs that did not fail, bands reach from the lowest to the highest of these runs,
    thin lines are single runs, and dotted lines are failed runs.
    """
    if study.epochs.empty:
        return {}
    panels = list(_panels(study))
    epochs = float(study.epochs["epoch"].min()), float(study.epochs["epoch"].max())
    scales = {of.scale: _height([p for p in panels if p.scale == of.scale]) for of in panels}
    charts: dict[str, Drawing] = {}
    for place, panel in enumerate(panels):
        label = f"Learning curves of {panel.variant}, one line per run"
        chart = charts.setdefault(panel.variant, Drawing(_WIDTH, 2 * _PANEL, label))
        _draw(chart, place % 2 * _PANEL, panel, epochs, scales[panel.scale])
    return charts


def learning_curves(charts: Mapping[str, Drawing]) -> Drawing | None:
    """The curves of all variants side by side, with their names; None if there are none."""
    named = []
    for variant, chart in charts.items():
        whole = Drawing(_WIDTH, chart.height + _NAME, "Learning curves of every variant")
        whole.text((0, 12), variant, font_weight="bold")
        whole.place(chart, (0, _NAME))
        named.append(whole)
    if not named:
        return None
    drawing = beside(named, 3)
    for k, (part, words) in enumerate(PARTS.items()):
        drawing.text((24 + 90 * k, 16), words, fill=PARTS[part], font_weight="bold")
    return drawing


def _panels(study: StudyFolder) -> Iterator[_Panel]:
    by_run = study.epochs.groupby(["variant", "seed"])
    runs = {(name, int(str(seed))): table for (name, seed), table in by_run}
    failed = study.runs[study.runs["status"] == "failed"]
    failures = set(zip(failed["variant"], failed["seed"], strict=True))
    for variant in study.record.variants:
        own = [(seed, table) for (name, seed), table in runs.items() if name == variant]
        for quantity in ("loss", study.record.curve):
            lines = tuple(
                _Line(part, seed, (variant, seed) in failures, *_finite(table, column))
                for part in PARTS
                for seed, table in own
                if (column := f"{part}_{quantity}") in table
            )
            loss = _loss_of(study, variant) if quantity == "loss" else ()
            said = ", ".join(value for value in loss if value not in ("", "none"))
            title = study.record.title_of(quantity)
            yield _Panel(variant, f"{title} ({said})" if said else title, (quantity, *loss), lines)


def _finite(table: pd.DataFrame, column: str) -> tuple[Epochs, Epochs]:
    epochs, values = (np.asarray(table[key], dtype=np.float64) for key in ("epoch", column))
    known = np.isfinite(values)
    return epochs[known], values[known]


def _loss_of(study: StudyFolder, variant: str) -> tuple[str, ...]:
    """The settings of this variant's loss; empty if all variants minimise the same loss."""
    if not study.record.loss_differs:
        return ()
    prefix = f"{study.record.loss_table}."
    return study.settings_of(variant, prefix) or (variant,)


def _height(sharing: Iterable[_Panel]) -> Ends:
    """Lowest and highest value of the runs that did not fail, or of all runs if all have failed."""
    lines = [line for panel in sharing for line in panel.lines]
    succeeded = [line for line in lines if not line.is_failed]
    return padded(np.concatenate([np.empty(0), *(line.values for line in succeeded or lines)]))


def _draw(drawing: Drawing, top: Px, panel: _Panel, epochs: Ends, height: Ends) -> None:
    drawing.text((0, top + 12), panel.title, SMALL_PX, fill="quiet")
    axes = Axes(drawing, _LEFT, top + 22, _WIDTH - _LEFT - _RIGHT, _PLOT, epochs, height)
    axes.grid(ticks(epochs, 5, whole=True), ticks(height, 5), count_text)
    for part in PARTS:
        succeeded = [line for line in panel.lines if line.part == part and not line.is_failed]
        if any(line.values.size for line in succeeded):
            _draw_mean(axes, succeeded, PARTS[part])
    for line in panel.lines:
        _draw_run(axes, panel.variant, line)


def _draw_mean(axes: Axes, lines: list[_Line], ink: str) -> None:
    """The mean over runs and, if there are several runs, the band from the lowest to the highest run."""
    epochs = np.unique(np.concatenate([line.epochs for line in lines]))
    values = np.full((len(lines), len(epochs)), np.nan)
    for row, line in zip(values, lines, strict=True):
        row[np.searchsorted(epochs, line.epochs)] = line.values
    chosen = _thinned(len(epochs))
    epochs, values = epochs[chosen], values[:, chosen]
    if len(lines) > 1:
        outline = np.concatenate([epochs, epochs[::-1]])
        ends = np.concatenate([np.nanmax(values, axis=0), np.nanmin(values, axis=0)[::-1]])
        axes.curve(outline, ends, "none", fill=ink, opacity=0.16)
    axes.curve(epochs, np.nanmean(values, axis=0), ink, class_="mean", stroke_width=1.8)


def _draw_run(axes: Axes, variant: str, line: _Line) -> None:
    """One run, with a title that identifies it and an invisible wide line that is easy to point at."""
    said = "no value"
    if line.values.size:
        said = f"{metric_text(float(line.values[-1]))} at epoch {line.epochs[-1]:g}"
    failed = ", failed" if line.is_failed else ""
    run = Drawing(axes.drawing.width, axes.drawing.height)
    title = escape(f"{variant}, seed {line.seed}{failed}, {PARTS[line.part]}: {said}")
    run.add("title", str(title))
    chosen = _thinned(len(line.values))
    xs, ys = line.epochs[chosen], np.clip(line.values[chosen], *axes.y_ends)
    look: dict[str, Any] = {"stroke_width": 0.6, "opacity": 0.5}
    if line.is_failed:
        look = {"stroke_width": 1.2, "stroke_dasharray": "1.5 2.5"}
    inside = replace(axes, drawing=run)
    inside.curve(xs, ys, "none", stroke_width=9, pointer_events="stroke")
    inside.curve(xs, ys, PARTS[line.part], class_="own", **look)
    name = f"run {line.part}{' failed' if line.is_failed else ''}"
    axes.drawing.parts.append(element("g", "".join(run.parts), class_=name))


def _thinned(count: int) -> np.ndarray:
    """Indices of at most ``_MOST_POINTS`` of ``count`` epochs, evenly spaced from first to last."""
    most = min(count, _MOST_POINTS)
    return np.linspace(0, count - 1, most).round().astype(int) if count else np.arange(0)
