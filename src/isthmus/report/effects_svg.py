"""The effects beside the answer: every difference in words and as an interval on one scale.

A bar is SVG whose x lengths are per cent of its width, so that it fills any screen and its
words keep their size. Colours are the page's; a verdict's mark also has its own shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import counted, interval_text, signed_text
from isthmus.report.verdict_rows import MARKS
from isthmus.study.recommendation import decimals_of
from isthmus.study.records import StudyRecord, Verdict

_HEIGHT, _AXIS_HEIGHT = 30, 22
_SHAPES = {
    "equivalent": "M-5,-5H5V5H-5Z",
    "cannot tell": "M-4.5,0a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0Z",
}
_TELLING = "M0,-6.5L6.5,0L0,6.5L-6.5,0Z"


@dataclass(frozen=True)
class Effect:
    """One row: what was compared, the verdict, and the words and the bar that show it."""

    verdict: Verdict
    mark: str
    difference: str
    interval: str
    seeds: str
    bar: Markup


@dataclass(frozen=True)
class Effects:
    """The rows, their common scale and what must be said of it."""

    rows: tuple[Effect, ...]
    axis: Markup
    ends: tuple[str, str]
    """What lies left and right of zero."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """The differences that the bars' width stands for."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where a value lies, in per cent of the width; outside, at the nearer end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * float(np.clip(share, 0, 1)), 2)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the scale."""
        return self.low <= value <= self.high


def effects(verdicts: Sequence[Verdict], about: StudyRecord) -> Effects | None:
    """The verdicts on one metric as rows of words and bars; None without any."""
    if not verdicts:
        return None
    scale, decimals = scale_of(verdicts), decimals_of(verdicts)
    margin = verdicts[0].margin
    rows = tuple(_row(verdict, scale, decimals) for verdict in verdicts)
    ends = ("the second is better", "the first is better")
    if not about.judged.higher_is_better:
        ends = (ends[1], ends[0])
    return Effects(rows, _axis(scale), ends, tuple(_notes(verdicts, about, margin)))


def scale_of(verdicts: Sequence[Verdict]) -> Scale:
    """From the lowest end to the highest, zero and the margin among them.

    The simultaneous intervals of few seeds may be so wide that nothing else could be seen:
    they stretch the scale to twice what it needs without them at most.
    """
    ends = [v for verdict in verdicts for v in (verdict.low, verdict.high, verdict.difference)]
    margins = [side * verdict.margin for verdict in verdicts for side in (-1, 1)]
    inner = [0.0, *(value for value in (*ends, *margins) if np.isfinite(value))]
    low, high = min(inner), max(inner)
    if low == high:
        low, high = -1.0, 1.0
    room = (high - low) / 2
    outer = [v for verdict in verdicts for v in (verdict.family_low, verdict.family_high)]
    finite = [value for value in outer if np.isfinite(value)]
    low, high = max(min([low, *finite]), low - room), min(max([high, *finite]), high + room)
    edge = 0.04 * (high - low)
    return Scale(low - edge, high + edge)


def ticks_of(scale: Scale) -> tuple[tuple[float, str], ...]:
    """Round differences on the scale, and their words."""
    values = [
        float(v) for v in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(scale.low, scale.high)
    ]
    decimals = decimals_for(5 * (values[1] - values[0]))
    return tuple((v, signed_text(v, decimals)) for v in values if scale.holds(v))


def _row(verdict: Verdict, scale: Scale, decimals: int) -> Effect:
    between = interval_text(verdict.low, verdict.high, decimals)
    seeds = counted(int(verdict.n), "seed") if np.isfinite(verdict.n) else ""
    if np.isfinite(verdict.needs_seeds):
        seeds += f", needs about {verdict.needs_seeds:.0f}"
    return Effect(
        verdict,
        MARKS.get(verdict.verdict, ""),
        signed_text(verdict.difference, decimals),
        between if verdict.has_interval else "no interval" if verdict.n else "",
        seeds,
        _bar(verdict, scale),
    )


def _bar(verdict: Verdict, scale: Scale) -> Markup:
    zero = scale.percent(0.0)
    parts = []
    if np.isfinite(verdict.margin):
        left, right = scale.percent(-verdict.margin), scale.percent(verdict.margin)
        parts.append(
            f'<rect class="margin" x="{left}%" width="{right - left:.2f}%" y="0" height="100%"/>'
        )
    parts.append(f'<line class="zero" x1="{zero}%" x2="{zero}%" y1="0" y2="100%"/>')
    for name, low, high in (
        ("thin", verdict.family_low, verdict.family_high),
        ("thick", verdict.low, verdict.high),
    ):
        if np.isfinite(low + high):
            ends = f'x1="{scale.percent(low)}%" x2="{scale.percent(high)}%"'
            parts.append(f'<line class="{name}" {ends} y1="50%" y2="50%"/>')
            parts += [_beyond(scale, end) for end in (low, high) if not scale.holds(end)]
    if np.isfinite(verdict.difference):
        shape = _SHAPES.get(verdict.verdict, _TELLING)
        place = scale.percent(verdict.difference)
        parts.append(_sign("point", shape, place))
    name = verdict.verdict.replace(" ", "-")
    return Markup('<svg class="bar {}" height="{}" aria-hidden="true">{}</svg>').format(
        name, _HEIGHT, Markup("".join(parts))
    )


def _beyond(scale: Scale, end: float) -> str:
    """An arrow where an interval leaves the scale."""
    shape = "M0,0L7,-4V4Z" if end < scale.low else "M0,0L-7,-4V4Z"
    return _sign("beyond", shape, scale.percent(end))


def _sign(name: str, shape: str, percent: float) -> str:
    """A shape of its own size at a place on the bar."""
    path = f'<path class="{name}" d="{shape}"/>'
    return f'<svg x="{percent}%" y="50%" overflow="visible">{path}</svg>'


def _axis(scale: Scale) -> Markup:
    parts = []
    for value, words in ticks_of(scale):
        x = scale.percent(value)
        anchor = "start" if x < 6 else "end" if x > 94 else "middle"
        parts.append(f'<line class="tick" x1="{x}%" x2="{x}%" y1="0" y2="5"/>')
        parts.append(f'<text x="{x}%" y="18" text-anchor="{anchor}">{words}</text>')
    svg = f'<svg class="bar axis" height="{_AXIS_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'
    return Markup(svg)


def _notes(verdicts: Sequence[Verdict], about: StudyRecord, margin: float) -> list[str]:
    """What the bars are, in words."""
    kind = verdicts[0].kind
    compared = about.analysis.family.get(kind, 0)
    looks = len(about.analysis.looks)
    family = f"all {counted(compared, 'comparison')}" if compared > 1 else "all comparisons"
    looked = f", wide enough for {counted(looks, 'look')} at the data" if looks > 1 else ""
    notes = []
    if any(verdict.has_interval for verdict in verdicts):
        notes.append(
            f"Thick: {about.confidence} t interval over seeds{looked}. "
            f"Thin: the one that holds for {family} of this kind at once. "
            "Verdicts allow for all of this kind, and for the other kinds."
        )
    if np.isfinite(margin):
        notes.append(f"Grey band: differences up to {margin:g}, named as too small to matter.")
    if others := about.analysis.metrics[1:]:
        titles = ", ".join(map(about.title_of, others))
        notes.append(f"Other metrics may say otherwise: {titles}; see Verdicts.")
    return notes
