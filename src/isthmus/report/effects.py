"""Forest plot of the differences that the recommendation is based on: words, and intervals on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import counted, interval_text, signed_text
from isthmus.report.axes import SMALL_PX, Axes, Ends, ticks
from isthmus.report.svg import Drawing, Point, Px, fitted, points, text_width
from isthmus.report.verdict_tables import MARKS
from isthmus.study.recommendation import decimals_of, shown_effects
from isthmus.study.records import StudyRecord, Verdict
from isthmus.study.study_folder import StudyFolder

WIDE, NARROW = 1180, 370
"""Widths in px of two layouts: words to the left of the intervals, or above the intervals (for phones)."""

_INKS = {"better": "better", "worse": "worse", "equivalent": "equivalent"}
_SQUARE = ((-5, -5), (5, -5), (5, 5), (-5, 5))
_DIAMOND = ((0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0))
_SIZE, _GAP, _LEAST_BAR, _AXIS = 13, 16, 240, 44


def effects_chart(study: StudyFolder, width: int = WIDE) -> Drawing | None:
    """One row per comparison behind the recommendation, with its interval; None without verdicts."""
    verdicts = shown_effects(study)
    if not verdicts:
        return None
    decimals, ends = decimals_of(verdicts), scale_of(verdicts)
    rows = [_words(verdict, decimals) for verdict in verdicts]
    places = _columns(rows)
    is_wide = width - places[-1] >= _LEAST_BAR
    left, row = (places[-1], 30) if is_wide else (8, 58)
    label = f"Differences in {study.record.primary.title} with their intervals; the same stand under Verdicts"
    drawing = Drawing(width, row * len(verdicts) + _AXIS, label)
    axes = Axes(drawing, left, 0, width - 8 - left, row * len(verdicts), ends, (len(verdicts), 0))
    for k, (verdict, words) in enumerate(zip(verdicts, rows, strict=True)):
        drawing.line((0, k * row), (width, k * row), "faint", stroke_width=0.5)
        _write(drawing, verdict, words, places if is_wide else None, k * row)
        _draw_interval(axes, verdict, (k + 1) * row - 15)
    _draw_axis(axes, study.record)
    return drawing


def effect_notes(study: StudyFolder) -> tuple[str, ...]:
    """Explanations of the intervals."""
    verdicts, analysis = shown_effects(study), study.record.analysis
    compared, looks = analysis.family.get(verdicts[0].kind, 0), len(analysis.looks)
    family = f"all {counted(compared, 'comparison')}" if compared > 1 else "all comparisons"
    looked = f", widened for {counted(looks, 'planned look')} at the data" if looks > 1 else ""
    margin, others = verdicts[0].margin, ", ".join(map(study.record.title_of, analysis.metrics[1:]))
    notes = (
        any(verdict.has_interval for verdict in verdicts)
        and f"Thick: {study.record.confidence} t interval over seeds{looked}. Thin: simultaneous interval "
        f"for {family} of this kind. Verdicts are corrected for all comparisons of every kind.",
        np.isfinite(margin)
        and f"Grey band: the margin; differences up to {margin:g} are too small to matter.",
        others and f"Other metrics may rank differently: {others}; see Verdicts.",
    )
    return tuple(note for note in notes if note)


def scale_of(verdicts: Sequence[Verdict]) -> Ends:
    """The ends of the x axis, which includes all intervals, zero and the margin.

    With few seeds, simultaneous intervals may be so wide that all other intervals would be invisible.
    Therefore the axis is at most twice as long as without the simultaneous intervals.
    """
    inner = [
        0.0,
        *(value for v in verdicts for value in (v.low, v.high, v.difference, v.margin, -v.margin)),
    ]
    finite = [value for value in inner if np.isfinite(value)]
    low, high = min(finite), max(finite)
    if low == high:
        low, high = -1.0, 1.0
    room = (high - low) / 2
    outer = [end for v in verdicts for end in (v.family_low, v.family_high) if np.isfinite(end)]
    low, high = max(min([low, *outer]), low - room), min(max([high, *outer]), high + room)
    edge = 0.04 * (high - low)
    return low - edge, high + edge


def _words(verdict: Verdict, decimals: int) -> tuple[str, ...]:
    """The words of a row: factor, variants or levels, verdict, difference with interval, seeds."""
    between = interval_text(verdict.low, verdict.high, decimals)
    seeds = counted(int(verdict.n), "seed") if np.isfinite(verdict.n) else ""
    needs = f", needs about {verdict.needs_seeds:.0f}" if np.isfinite(verdict.needs_seeds) else ""
    interval = between if verdict.has_interval else "no interval" if verdict.n else ""
    return (
        verdict.field,
        f"{verdict.a} against {verdict.b}",
        f"{MARKS.get(verdict.verdict, '')} {verdict.verdict}",
        f"{signed_text(verdict.difference, decimals)} {interval}",
        f"{seeds}{needs}",
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[float]:
    """Positions (x) of each column of words in the wide layout, and of the end of the last column."""
    starts = [0.0]
    for words in zip(*rows, strict=True):
        widest = max(text_width(text, _SIZE) for text in words)
        starts.append(starts[-1] + (widest + _GAP if widest else 0))
    return starts


def _write(
    drawing: Drawing, verdict: Verdict, words: tuple[str, ...], columns: list[float] | None, top: Px
) -> None:
    """Write the words of one row: in columns (wide layout), or in two lines."""
    factor, compared, said, size, seeds = words
    ink, end = _INKS.get(verdict.verdict, "quiet"), drawing.width
    if columns:
        looks: tuple[dict[str, Any], ...] = (
            {"fill": "quiet"},
            {},
            {"fill": ink, "font_weight": "bold"},
            {},
            {"fill": "quiet"},
        )
        for x, text, look in zip(columns, words, looks, strict=False):
            drawing.text((x, top + 19), text, _SIZE, **look)
        return
    first = f"{factor}: {compared}" if factor else compared
    drawing.text((0, top + 15), fitted(first, end - text_width(seeds) - 12))
    drawing.text((end, top + 15), seeds, text_anchor="end", fill="quiet")
    drawing.text((0, top + 32), said, fill=ink, font_weight="bold")
    drawing.text((end, top + 32), size, text_anchor="end")


def _draw_interval(axes: Axes, verdict: Verdict, y: Px) -> None:
    """Draw the margin and both intervals, with an arrow where an interval exceeds the axis.

    The simultaneous interval is thin, the interval of the single comparison is thick.
    """
    ink, drawing = _INKS.get(verdict.verdict, "quiet"), axes.drawing
    if np.isfinite(verdict.margin):
        low, high = axes.x(-verdict.margin), axes.x(verdict.margin)
        size = {"width": high - low, "height": 30}
        drawing.add("rect", "", x=low, y=y - 15, fill="faint", opacity=0.5, **size)
    drawing.line((axes.x(0), y - 15), (axes.x(0), y + 15), "quiet")
    for name, low, high, width in (
        ("thin", verdict.family_low, verdict.family_high, 1.6),
        ("thick", verdict.low, verdict.high, 5),
    ):
        if np.isfinite(low + high):
            ends = [axes.x(float(np.clip(end, *axes.x_ends))) for end in (low, high)]
            drawing.line((ends[0], y), (ends[1], y), ink, stroke_width=width, class_=name)
            if low < axes.x_ends[0]:
                _sign(drawing, ((0, 0), (7, -4), (7, 4)), (ends[0], y), ink, class_="beyond")
            if high > axes.x_ends[1]:
                _sign(drawing, ((0, 0), (-7, -4), (-7, 4)), (ends[1], y), ink, class_="beyond")
    if np.isfinite(verdict.difference):
        at = axes.x(verdict.difference), y
        look: dict[str, Any] = {"class_": "point", "stroke_width": 2}
        if verdict.verdict == "cannot tell":
            drawing.add("circle", cx=at[0], cy=y, r=4.5, stroke=ink, fill="ground", **look)
        else:
            shape = _SQUARE if verdict.verdict == "equivalent" else _DIAMOND
            _sign(drawing, shape, at, ink, **look)


def _sign(drawing: Drawing, shape: Sequence[Point], at: Point, ink: str, **look: Any) -> None:
    places = [(at[0] + x, at[1] + y) for x, y in shape]
    drawing.add("polygon", points=points(places), stroke=ink, fill=ink, **look)


def _draw_axis(axes: Axes, about: StudyRecord) -> None:
    values = ticks(axes.x_ends, int(axes.width // 70))
    decimals = decimals_for(5 * (values[1] - values[0])) if len(values) > 1 else 3
    axes.grid(values, (), lambda value: signed_text(value, decimals))
    ends = ("the second is better", "the first is better")
    left, right = ends if about.primary.higher_is_better else ends[::-1]
    y = axes.height + 34
    look: dict[str, Any] = {"fill": "quiet", "size": SMALL_PX}
    axes.drawing.text((axes.left, y), f"← {left}", **look)
    axes.drawing.text((axes.left + axes.width, y), f"{right} →", text_anchor="end", **look)
