"""The figures that are drawn from numbers: learning curves, and cost against metric."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from isthmus.metrics.wording import count_text, seconds_text
from isthmus.report.curves import PART_WORDS, Panel, panels
from isthmus.report.formatting import DPI, LIGHT, Paper
from isthmus.study.folder import StudyFolder

_COLUMNS = 3
_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("train_seconds", "Training time", seconds_text),
    ("parameters", "Parameters", count_text),
    ("gflop", "GFLOP an image", count_text),
)


def learning_curves(study: StudyFolder, paper: Paper = LIGHT) -> Figure | None:
    """Loss and the study's curve by epoch, a small multiple a variant; None if no run wrote any.

    The curve, such as pixel accuracy, shares one axis throughout. Loss shares one among the
    variants that minimise the same loss only. Lines are means over the runs that did not fail,
    bands reach from the lowest to the highest; failed runs are dotted.
    """
    drawn = panels(study)
    variants = [panel.variant for panel in drawn[::2]]
    if not variants:
        return None
    figure, (bands, columns) = small_multiples(len(variants), 3.7, paper)
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    sharing: dict[tuple[str, ...], Axes] = {}
    for place in range(bands * columns):
        band, column = divmod(place, columns)
        pair = grid[2 * band : 2 * band + 2, column]
        if place >= len(variants):
            for axes in pair:
                axes.set_visible(False)
            continue
        pair[0].set_title(
            variants[place], color=paper.ink, fontsize=10, loc="left", parse_math=False
        )
        pair[1].set_xlabel("Epoch", color=paper.ink)
        for axes, panel in zip(pair, drawn[2 * place : 2 * place + 2], strict=True):
            bare(axes, paper)
            _curve(axes, panel, paper)
            _share_height(axes, sharing.setdefault(panel.scale, axes))
            if column == 0 or panel.loss:
                said = panel.loss_words
                words = study.record.title_of(panel.quantity)
                gap = " " if len(said) < 14 else "\n"
                axes.set_ylabel(f"{words}{gap}({said})" if said else words, color=paper.ink)
    _name_lines(figure, paper)
    return figure


def cost_figure(study: StudyFolder, paper: Paper = LIGHT) -> Figure | None:
    """The first metric against time, parameters and GFLOP; None without a finished run.

    Bars reach one standard deviation over seeds each way. The names stand on the right,
    a guide leads from each to its points.
    """
    first = study.record.judged
    shown = [v for v in study.by_judged_metric if np.isfinite(study.mean(v, first.name))]
    if not shown:
        return None
    height = max(3.2, 0.26 * len(shown) + 1.2)
    figure = Figure(figsize=(10.5, height), facecolor=paper.ground)
    grid = figure.subplots(1, 3, sharey=True)
    figure.subplots_adjust(left=0.065, right=0.76, top=0.95, bottom=0.62 / height, wspace=0.08)
    for axes, (column, name, as_text) in zip(grid, _COSTS, strict=True):
        bare(axes, paper)
        _cost_points(axes, study, shown, column, paper)
        axes.set_xlabel(name, color=paper.ink)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _, text=as_text: text(x)))
    grid[0].set_ylabel(first.title, color=paper.ink)
    line = 0.19 / (grid[-1].get_position().height * height)
    _name_points(grid[-1], {v: study.mean(v, first.name) for v in shown}, line, paper)
    return figure


def small_multiples(count: int, height: float, paper: Paper) -> tuple[Figure, tuple[int, int]]:
    """An empty figure for that many panels of this height in inches, and its rows and columns."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    size = (max(3.1 * columns, 5.0), height * rows + 0.4)
    return Figure(figsize=size, facecolor=paper.ground, layout="constrained"), (rows, columns)


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def bare(axes: Axes, paper: Paper) -> None:
    """Axes of every figure: two spines, a quiet grid, whole numbers below."""
    axes.set_facecolor(paper.ground)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(paper.faint)
    axes.tick_params(colors=paper.ink, labelsize=8)
    axes.grid(color=paper.faint, linewidth=0.5, alpha=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _share_height(axes: Axes, first: Axes) -> None:
    if axes is not first:
        axes.sharey(first)
    axes.autoscale_view()


def _curve(axes: Axes, panel: Panel, paper: Paper) -> None:
    colours = _colours(paper)
    for line in panel.lines:
        if line.is_failed:
            axes.plot(line.values, color=colours[line.part], linestyle=":", linewidth=1)
    for part, by_seed in panel.sound.items():
        axes.plot(by_seed.mean(axis=1), color=colours[part], linewidth=1.5)
        if by_seed.shape[1] > 1:
            low, high = by_seed.min(axis=1), by_seed.max(axis=1)
            colour = colours[part]
            axes.fill_between(by_seed.index, low, high, color=colour, alpha=0.2, linewidth=0)


def _colours(paper: Paper) -> dict[str, str]:
    return {"train": paper.training, "validation": paper.validation}


def _name_lines(figure: Figure, paper: Paper) -> None:
    lines = [Patch(color=c, label=PART_WORDS[part]) for part, c in _colours(paper).items()]
    figure.legend(
        handles=lines,
        loc="outside upper left",
        ncols=2,
        frameon=False,
        labelcolor="linecolor",
        handlelength=0.8,
    )


def _cost_points(
    axes: Axes, study: StudyFolder, variants: list[str], column: str, paper: Paper
) -> None:
    metric = study.record.judged.name
    costs = [study.mean(variant, column) for variant in variants]
    axes.set_xlim(0, 1.1 * max((cost for cost in costs if cost > 0), default=1.0))
    for variant, cost in zip(variants, costs, strict=True):
        values = study.values(variant, metric)
        axes.axhline(float(values.mean()), color=paper.faint, linewidth=0.8, zorder=0)
        if not np.isfinite(cost):
            continue
        spread = float(values.std(ddof=1)) if values.size > 1 else None
        axes.errorbar(cost, float(values.mean()), yerr=spread, fmt="o", color=paper.training)


def _name_points(axes: Axes, heights: dict[str, float], line: float, paper: Paper) -> None:
    """Names right of the last panel, by height, at least ``line`` of the panel's height apart."""
    low, high = axes.get_ylim()
    wanted = sorted(((h - low) / (high - low), name) for name, h in heights.items())
    slots = _apart([height for height, _ in wanted], line)
    for (height, name), slot in zip(wanted, slots, strict=True):
        axes.add_artist(
            ConnectionPatch(
                xyA=(1.0, height),
                xyB=(1.06, slot),
                coordsA="axes fraction",
                coordsB="axes fraction",
                color=paper.faint,
                linewidth=0.8,
                clip_on=False,
            )
        )
        axes.text(
            1.08,
            slot,
            name,
            transform=axes.transAxes,
            va="center",
            fontsize=9,
            color=paper.ink,
            parse_math=False,
        )


def _apart(wanted: list[float], gap: float) -> list[float]:
    """Ascending places moved as little as a two-way sweep can, so that each keeps its gap.

    >>> [round(place, 2) for place in _apart([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    up, down = list(wanted), list(wanted)
    for k in range(1, len(up)):
        up[k] = max(up[k], up[k - 1] + gap)
    for k in reversed(range(len(down) - 1)):
        down[k] = min(down[k], down[k + 1] - gap)
    return [(a + b) / 2 for a, b in zip(up, down, strict=True)]
