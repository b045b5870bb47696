"""Charts of the primary metric: against what a run costs, and by the number of labelled images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from isthmus.metrics.wording import count_text, seconds_text
from isthmus.report.axes import SMALL_PX, Axes, padded, tick_text, ticks
from isthmus.report.svg import Drawing, beside, text_width
from isthmus.study.study_folder import StudyFolder

COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("train_seconds", "Training time", seconds_text),
    ("parameters", "Parameters", count_text),
    ("gflop", "GFLOP per image", count_text),
)
"""Column, title and format of each cost of a run."""

_PANEL, _GAP, _LINE = 170, 34, 20
_SIZES = (340, 200)


def cost_chart(study: StudyFolder) -> Drawing | None:
    """The primary metric beside time, parameters and GFLOP, one row per variant, best mean first.

    Error bars are ± one standard deviation over seeds. None if no run has finished.
    """
    primary = study.record.primary
    names = [v for v in study.by_primary_metric if study.values(v, primary.name).size]
    if not names:
        return None
    left, height = 20 + max(map(text_width, names)), _LINE * len(names)
    width = left + (1 + len(COSTS)) * (_PANEL + _GAP)
    label = f"{primary.heading} beside training time, parameters and GFLOP"
    drawing = Drawing(width, height + 44, label)
    for row, name in enumerate(names):
        y = 24 + (row + 0.5) * _LINE
        drawing.line((0, y), (width - _GAP, y), "faint", stroke_width=0.5)
        drawing.text((0, y - 3), name)
    columns = ((primary.name, primary.heading, tick_text), *COSTS)
    for k, (column, title, as_text) in enumerate(columns):
        values = [study.values(name, column) for name in names]
        means = np.array([of.mean() if of.size else np.nan for of in values])
        spreads = np.array([of.std(ddof=1) if of.size > 1 else 0.0 for of in values])
        low, high = padded([means - spreads, means + spreads])
        ends = (min(0.0, low), max(high, 1e-9)) if k else (low, high)
        axes = Axes(drawing, left + k * (_PANEL + _GAP), 24, _PANEL, height, ends, (len(names), 0))
        drawing.text((axes.left, 12), title, SMALL_PX, fill="quiet")
        axes.grid(ticks(ends, 2 if k else 3), (), as_text)
        for row, mean in enumerate(means.tolist()):
            if np.isfinite(mean):
                y, sd = axes.y(row + 0.5), float(spreads[row])
                start, end = (axes.x(mean - sd), y), (axes.x(mean + sd), y)
                drawing.line(start, end, "training", stroke_width=1.5)
                axes.dot(mean, row + 0.5, "training", "training")
    return drawing


def size_charts(study: StudyFolder) -> list[Drawing]:
    """The primary metric against the number of labelled images, one chart per setting.

    Empty if the study has no such numbers. Error bars are 95 % t intervals over seeds. The x axis is
    logarithmic.
    """
    sizes = study.sizes[study.sizes["metric"] == study.record.primary.name]
    if sizes.empty:
        return []
    heights = padded(sizes[["mean", "low", "high"]].to_numpy())
    ends = float(sizes["images"].min()) / 1.15, float(sizes["images"].max()) * 1.15
    return [
        _size_chart(
            study,
            str(name),
            own,
            Axes(Drawing(*_SIZES), 46, 42, 280, 116, ends, heights, is_log=True),
        )
        for name, own in sizes.groupby("variant", sort=False)
    ]


def sizes_chart(study: StudyFolder) -> Drawing | None:
    """All charts of ``size_charts`` side by side; None if there are none."""
    charts = size_charts(study)
    return beside(charts, 3) if charts else None


def _size_chart(study: StudyFolder, name: str, sizes: pd.DataFrame, axes: Axes) -> Drawing:
    """Measured means joined by a solid line; a dashed line leads to the predicted means."""
    drawing, title = axes.drawing, study.record.primary.heading
    drawing.label = f"{title} by number of labelled images, {name}"
    drawing.text((0, 12), name, font_weight="bold")
    drawing.text((0, 28), f"{title} by labelled images (dashed: predicted)", SMALL_PX, fill="quiet")
    axes.grid(
        sorted({float(count) for count in sizes["images"]}),
        ticks(axes.y_ends, 5),
        lambda count: f"{count:.0f}",
    )
    measured = sizes[sizes["source"] == "measured"]
    predicted = sizes[sizes["source"] == "predicted"]
    ahead = pd.concat([measured.tail(1), predicted])
    axes.curve(measured["images"], measured["mean"], "training", class_="measured")
    axes.curve(
        ahead["images"], ahead["mean"], "training", class_="predicted", stroke_dasharray="5 4"
    )
    for table, fill in ((measured, "training"), (predicted, "ground")):
        points = table[["images", "mean", "low", "high"]].to_numpy(dtype=float)
        for images, mean, low, high in points:
            axes.bar(images, (low, high), "training")
            axes.dot(images, mean, "training", fill)
    return drawing
