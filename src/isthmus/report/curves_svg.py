"""Learning curves inside the page: lines that say which run they are when they are pointed at.

A panel is one SVG. Without a script each line still has its title; with the page's script the
line nearest to the pointer, or the one that has the keyboard's focus, is named under its panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from isthmus.metrics.wording import count_text, metric_text
from isthmus.report.curves import PART_WORDS, Line, Panel, panels
from isthmus.study.folder import StudyFolder

_WIDTH, _HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 6, 20
_MOST_POINTS = 150
"""Of one line: more cannot be told apart at this width."""


@dataclass(frozen=True)
class Chart:
    """One panel as it stands in the page."""

    title: str
    svg: Markup
    runs: int


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie in a panel."""

    epochs: tuple[float, float]
    heights: tuple[float, float]

    def x(self, epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * _share(epoch, self.epochs)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * _share(value, self.heights)

    def points(self, values: pd.Series) -> str:
        epochs, heights = values.index.to_numpy(dtype=float), values.to_numpy(dtype=float)
        points = [
            f"{self.x(epoch):.1f},{self.y(value):.1f}"
            for epoch, value in zip(epochs.tolist(), heights.tolist(), strict=True)
        ]
        # A line needs two ends: a single epoch is a line to itself, drawn as a dot.
        return " ".join(points * 2 if len(points) == 1 else points)


def charts(study: StudyFolder) -> dict[str, list[Chart]]:
    """Variant -> its charts: loss, then the study's curve; empty if no run wrote its epochs."""
    drawn = panels(study)
    epochs = (float(study.epochs["epoch"].min()), float(study.epochs["epoch"].max()))
    by_scale: dict[tuple[str, ...], list[Panel]] = {}
    for panel in drawn:
        by_scale.setdefault(panel.scale, []).append(panel)
    heights = {scale: _heights(sharing) for scale, sharing in by_scale.items()}
    shown: dict[str, list[Chart]] = {}
    for panel in drawn:
        words = study.record.title_of(panel.quantity)
        title = f"{words} ({panel.loss_words})" if panel.loss_words else words
        chart = Chart(
            title, _svg(panel, _Frame(epochs, heights[panel.scale]), title), len(panel.lines)
        )
        shown.setdefault(panel.variant, []).append(chart)
    return shown


def _heights(sharing: Iterable[Panel]) -> tuple[float, float]:
    """Lowest to highest value of sound runs; failed ones count only where there are no others."""
    sharing = list(sharing)
    sound = [line.values for panel in sharing for line in panel.lines if not line.is_failed]
    values = pd.concat(
        [*(sound or [x.values for p in sharing for x in p.lines]), pd.Series([np.nan])]
    )
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low):
        return 0.0, 1.0
    room = 0.04 * (high - low) or 0.5 * abs(low) or 1.0
    return low - room, high + room


def _svg(panel: Panel, frame: _Frame, title: str) -> Markup:
    parts = [*_grid(frame), *_bands(panel, frame)]
    parts += [_line(panel, line, frame, is_first=k == 0) for k, line in enumerate(panel.lines)]
    label = escape(
        f"{title} by epoch, {panel.variant}: {len(panel.lines)} curves; arrow keys go through them"
    )
    return Markup(
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _grid(frame: _Frame) -> Iterator[str]:
    for value in _ticks(frame.heights, 4):
        y = round(frame.y(value), 1)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 3.5}" text-anchor="end">{_tick_text(value)}</text>'
    for epoch in _ticks(frame.epochs, 5):
        x = round(frame.x(epoch), 1)
        anchor = "end" if x > _WIDTH - 20 else "middle"
        yield f'<text x="{x}" y="{_HEIGHT - 5}" text-anchor="{anchor}">{count_text(epoch)}</text>'


def _bands(panel: Panel, frame: _Frame) -> Iterator[str]:
    """Lowest to highest seed, and their mean."""
    for part, by_seed in panel.sound.items():
        thinned = _thinned(by_seed)
        if by_seed.shape[1] > 1:
            outline = (
                frame.points(thinned.max(axis=1).dropna()),
                frame.points(thinned.min(axis=1).dropna()[::-1]),
            )
            yield f'<polygon class="band {part}" points="{" ".join(outline)}"/>'
        mean = thinned.mean(axis=1).dropna()
        yield f'<polyline class="mean {part}" points="{frame.points(mean)}"/>'


def _line(panel: Panel, line: Line, frame: _Frame, *, is_first: bool) -> str:
    values = _thinned(line.values.to_frame())[line.values.name].dropna()
    last = line.values.dropna()
    failed = ", failed" if line.is_failed else ""
    at = (
        f"{metric_text(float(last.iloc[-1]))} at epoch {last.index[-1]:g}"
        if len(last)
        else "no value"
    )
    words = f"{panel.variant}, seed {line.seed}{failed}, {PART_WORDS[line.part]}: {at}"
    points = frame.points(values.clip(*frame.heights))
    name = f"run {line.part}{' failed' if line.is_failed else ''}"
    return (
        f'<g class="{name}" role="img" tabindex="{0 if is_first else -1}" aria-label="{escape(words)}">'
        f'<title>{escape(words)}</title><polyline class="reach" points="{points}"/>'
        f'<polyline class="own" points="{points}"/></g>'
    )


def _thinned(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Epochs spread evenly, first and last among them."""
    if len(by_seed) <= _MOST_POINTS:
        return by_seed
    return by_seed.iloc[np.linspace(0, len(by_seed) - 1, _MOST_POINTS).round().astype(int)]


def _ticks(ends: tuple[float, float], most: int) -> Sequence[float]:
    low, high = ends
    if low == high:
        return [low]
    values = MaxNLocator(most, integer=high - low > 3).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _tick_text(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return (value - low) / (high - low) if high > low else 0.5
