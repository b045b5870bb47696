"""The figures that are drawn from numbers: learning curves, and cost against score."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from isthmus.report.look import DPI, LIGHT, Paper, count_text, seconds_text
from isthmus.report.read import Study

_COLUMNS = 3
_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("train_seconds", "Training time", seconds_text),
    ("parameters", "Parameters", count_text),
    ("gflop", "GFLOP a picture", count_text),
)


def learning_curves(study: Study, paper: Paper = LIGHT) -> Figure | None:
    """Loss and the study's curve by epoch, a small multiple a variant; None if no run wrote any.

    The curve, such as pixel accuracy, shares one axis throughout. Loss shares one among the
    variants that minimise the same loss only. Lines are means over the runs that did not fail,
    bands reach from the lowest to the highest; failed runs are dotted.
    """
    variants = study.about.variants
    if study.epochs.empty or not variants:
        return None
    columns = min(_COLUMNS, len(variants))
    bands = -(-len(variants) // columns)
    figure = Figure(
        figsize=(max(3.1 * columns, 5.0), 3.7 * bands + 0.4),
        facecolor=paper.ground,
        layout="constrained",
    )
    grid = figure.subplots(2 * bands, columns, squeeze=False)
    sharing: dict[tuple[str, ...], Axes] = {}
    for place in range(bands * columns):
        band, column = divmod(place, columns)
        panels = grid[2 * band : 2 * band + 2, column]
        if place >= len(variants):
            for axes in panels:
                axes.set_visible(False)
            continue
        panels[0].set_title(variants[place], color=paper.ink, fontsize=10, loc="left")
        panels[1].set_xlabel("Epoch", color=paper.ink)
        for axes, quantity in zip(panels, ("loss", study.about.curve), strict=True):
            own = _loss_of(study, variants[place]) if quantity == "loss" else ()
            _bare(axes, paper)
            _curve(axes, study, variants[place], quantity, paper)
            _share_height(axes, sharing.setdefault((quantity, *own), axes))
            if column == 0 or own:
                said = ", ".join(value for value in own if value not in ("", "none"))
                words = study.about.title_of(quantity)
                gap = " " if len(said) < 14 else "\n"
                axes.set_ylabel(f"{words}{gap}({said})" if said else words, color=paper.ink)
    _name_lines(figure, paper)
    return figure


def cost_figure(study: Study, paper: Paper = LIGHT) -> Figure | None:
    """The first score against time, parameters and GFLOP; None without a finished run.

    Bars reach one standard deviation over seeds each way. The names stand on the right,
    a guide leads from each to its points.
    """
    first = study.about.scores[0]
    shown = [v for v in study.by_first_score if np.isfinite(study.mean(v, first.name))]
    if not shown:
        return None
    height = max(3.2, 0.26 * len(shown) + 1.2)
    figure = Figure(figsize=(10.5, height), facecolor=paper.ground)
    grid = figure.subplots(1, 3, sharey=True)
    figure.subplots_adjust(left=0.065, right=0.76, top=0.95, bottom=0.62 / height, wspace=0.08)
    for axes, (column, name, as_text) in zip(grid, _COSTS, strict=True):
        _bare(axes, paper)
        _cost_points(axes, study, shown, column, paper)
        axes.set_xlabel(name, color=paper.ink)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _, text=as_text: text(x)))
    grid[0].set_ylabel(first.title, color=paper.ink)
    line = 0.19 / (grid[-1].get_position().height * height)
    _name_points(grid[-1], {v: study.mean(v, first.name) for v in shown}, line, paper)
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def _bare(axes: Axes, paper: Paper) -> None:
    axes.set_facecolor(paper.ground)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(paper.faint)
    axes.tick_params(colors=paper.ink, labelsize=8)
    axes.grid(color=paper.faint, linewidth=0.5, alpha=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _loss_of(study: Study, variant: str) -> tuple[str, ...]:
    """What tells this variant's loss from others; nothing if all minimise the same one."""
    if not study.about.loss_differs:
        return ()
    prefix = "objective." if study.about.task == "generate" else "loss."
    return study.settings_of(variant, prefix) or (variant,)


def _share_height(axes: Axes, first: Axes) -> None:
    if axes is not first:
        axes.sharey(first)
    axes.autoscale_view()


def _curve(axes: Axes, study: Study, variant: str, quantity: str, paper: Paper) -> None:
    failed = study.runs[(study.runs["variant"] == variant) & (study.runs["status"] == "failed")]
    of_variant = study.epochs[study.epochs["variant"] == variant]
    for part, colour in (("train", paper.training), ("validation", paper.validation)):
        column = f"{part}_{quantity}"
        if column not in of_variant:
            continue
        by_seed = of_variant.pivot_table(index="epoch", columns="seed", values=column)
        by_seed = by_seed.where(np.isfinite(by_seed))
        is_failed = by_seed.columns.isin(failed["seed"])
        for seed in by_seed.columns[is_failed]:
            axes.plot(by_seed.index, by_seed[seed], color=colour, linestyle=":", linewidth=1)
        sound = by_seed.loc[:, ~is_failed]
        if sound.shape[1]:
            axes.plot(sound.index, sound.mean(axis=1), color=colour, linewidth=1.5)
        if sound.shape[1] > 1:
            low, high = sound.min(axis=1), sound.max(axis=1)
            axes.fill_between(sound.index, low, high, color=colour, alpha=0.2, linewidth=0)


def _name_lines(figure: Figure, paper: Paper) -> None:
    lines = [
        Patch(color=paper.training, label="training"),
        Patch(color=paper.validation, label="validation"),
    ]
    figure.legend(
        handles=lines,
        loc="outside upper left",
        ncols=2,
        frameon=False,
        labelcolor="linecolor",
        handlelength=0.8,
    )


def _cost_points(axes: Axes, study: Study, variants: list[str], column: str, paper: Paper) -> None:
    score = study.about.scores[0].name
    costs = [study.mean(variant, column) for variant in variants]
    axes.set_xlim(0, 1.1 * max((cost for cost in costs if cost > 0), default=1.0))
    for variant, cost in zip(variants, costs, strict=True):
        values = study.values(variant, score)
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
