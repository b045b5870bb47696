"""The effects as a file: the page's rows and bars, drawn for a paper or a slide."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isthmus.report.effects_svg import Effect, Effects, Scale, effects, scale_of, ticks_of
from isthmus.report.formatting import LIGHT, Paper
from isthmus.study.folder import StudyFolder
from isthmus.study.recommendation import shown_effects

_MARKERS = {"equivalent": "s", "cannot tell": "o"}
_TELLING = "D"


def effects_figure(study: StudyFolder, paper: Paper = LIGHT) -> Figure | None:
    """A row a comparison: words left, interval right; None without verdicts."""
    verdicts = shown_effects(study)
    shown = effects(verdicts, study.record)
    if not shown:
        return None
    height = 0.5 * len(verdicts) + 1.1
    figure = Figure(figsize=(9.5, height), facecolor=paper.ground)
    axes = figure.add_axes((0.5, 0.75 / height, 0.48, 1 - 0.85 / height))
    scale = scale_of(verdicts)
    for place, effect in enumerate(shown.rows):
        _draw_row(axes, effect, place, scale, paper)
    _dress(axes, shown, scale, paper)
    words = f"{study.record.judged.title}: the first less the second"
    axes.set_xlabel(words, color=paper.ink, fontsize=9)
    return figure


def _draw_row(axes: Axes, effect: Effect, y: int, scale: Scale, paper: Paper) -> None:
    verdict = effect.verdict
    inks = {"better": paper.better, "worse": paper.worse, "equivalent": paper.equivalent}
    ink = inks.get(verdict.verdict, paper.quiet)
    for low, high, width in (
        (verdict.family_low, verdict.family_high, 1.2),
        (verdict.low, verdict.high, 4.0),
    ):
        axes.plot([low, high], [y, y], color=ink, linewidth=width, solid_capstyle="butt")
    axes.plot(
        verdict.difference,
        y,
        marker=_MARKERS.get(verdict.verdict, _TELLING),
        markersize=7,
        color=ink,
        markerfacecolor=paper.ground if verdict.verdict == "cannot tell" else ink,
    )
    factor = f"{verdict.factor}: " if verdict.factor else ""
    words = f"{factor}{verdict.a} against {verdict.b}"
    numbers = f"{verdict.verdict}, {effect.difference} {effect.interval}, {effect.seeds}"
    axes.annotate(
        f"{words}\n{numbers}",
        (scale.low, y),
        xytext=(-10, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8,
        color=paper.ink,
        parse_math=False,
    )


def _dress(axes: Axes, shown: Effects, scale: Scale, paper: Paper) -> None:
    axes.set_facecolor(paper.ground)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(paper.faint)
    axes.set(xlim=(scale.low, scale.high), ylim=(len(shown.rows) - 0.4, -0.6), yticks=[])
    ticks = ticks_of(scale)
    axes.set_xticks([value for value, _ in ticks], [words for _, words in ticks])
    axes.tick_params(colors=paper.ink, labelsize=8)
    axes.axvline(0, color=paper.quiet, linewidth=0.8, zorder=0)
    margin = shown.rows[0].verdict.margin
    axes.axvspan(-margin, margin, color=paper.faint, alpha=0.4, linewidth=0, zorder=-1)
