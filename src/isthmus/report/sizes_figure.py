"""The judged metric by the number of labelled images, and what the law says of more."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from isthmus.report.figures import bare, small_multiples
from isthmus.report.formatting import LIGHT, Paper
from isthmus.study.folder import StudyFolder


def sizes_figure(study: StudyFolder, paper: Paper = LIGHT) -> Figure | None:
    """A small multiple a setting, on one scale; None for a study that is not one of sizes.

    Bars are 95 % t intervals over seeds. The number of images is on a logarithmic axis.
    """
    judged = study.record.judged
    sizes = study.sizes[study.sizes["metric"] == judged.name]
    if sizes.empty:
        return None
    settings = list(sizes.groupby("variant", sort=False))
    figure, (rows, columns) = small_multiples(len(settings), 2.6, paper)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(settings) :]:
        axes.set_visible(False)
    for axes, (name, of_setting) in zip(grid.flat, settings, strict=False):
        axes.set_title(str(name), color=paper.ink, fontsize=10, loc="left", parse_math=False)
        _draw(axes, of_setting, paper)
        axes.set_xlabel("Labelled images", color=paper.ink)
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(judged.title, color=paper.ink)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(),
        loc="outside upper left",
        ncols=2,
        frameon=False,
        labelcolor=paper.ink,
    )
    return figure


def _draw(axes: Axes, sizes: pd.DataFrame, paper: Paper) -> None:
    """Measured means joined by a line; a dashed one leads on to what is predicted."""
    bare(axes, paper)
    measured = sizes[sizes["source"] == "measured"]
    predicted = sizes[sizes["source"] == "predicted"]
    _points(axes, measured, "o-", paper.training, paper)
    _points(axes, predicted, "o--", paper.ground, paper)
    ahead = pd.concat([measured.tail(1), predicted])
    axes.plot(ahead["images"], ahead["mean"], color=paper.training, linestyle="--", zorder=1)
    axes.set_xscale("log")
    counts = sizes["images"].unique()
    axes.set_xticks(counts, [f"{count:.0f}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())


def _points(axes: Axes, sizes: pd.DataFrame, style: str, fill: str, paper: Paper) -> None:
    axes.errorbar(
        sizes["images"],
        sizes["mean"],
        yerr=[sizes["mean"] - sizes["low"], sizes["high"] - sizes["mean"]],
        fmt=style,
        color=paper.training,
        markerfacecolor=fill,
        label=sizes["source"].iloc[0],
    )
