"""A pair of axes in a drawing: coordinates of values, grid, curves and markers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from isthmus.report.svg import Drawing, Point, Px, points

SMALL_PX = 11
MINUS = "\N{MINUS SIGN}"

Ends = Point
"""The lowest and the highest value."""


@dataclass(frozen=True)
class Axes:
    """A rectangle of a drawing; ``x_ends`` and ``y_ends`` are the values at its edges."""

    drawing: Drawing
    left: Px
    top: Px
    width: Px
    height: Px
    x_ends: Ends
    y_ends: Ends
    is_log: bool = False
    """Whether x is on a logarithmic scale."""

    def x(self, value: Px) -> float:
        """The x coordinate of a value; values beyond ``x_ends`` lie outside the rectangle."""
        if self.is_log:
            low, high = map(math.log, self.x_ends)
            return self.left + self.width * _share(math.log(value), (low, high))
        return self.left + self.width * _share(value, self.x_ends)

    def y(self, value: Px) -> float:
        """The y coordinate of a value, which is measured downwards."""
        return self.top + self.height * (1 - _share(value, self.y_ends))

    def grid(
        self,
        x_ticks: Sequence[Px],
        y_ticks: Sequence[Px],
        x_text: Callable[[Px], str],
        y_text: Callable[[Px], str] = lambda value: tick_text(value),
    ) -> None:
        """Append horizontal lines at the y ticks, and the texts of both kinds of ticks."""
        bottom = self.top + self.height
        small: dict[str, Any] = {"size": SMALL_PX, "fill": "quiet"}
        for value in y_ticks:
            y = self.y(value)
            self.drawing.line(
                (self.left, y), (self.left + self.width, y), "faint", stroke_width=0.5
            )
            if words := y_text(value):
                self.drawing.text((self.left - 5, y + 4), words, text_anchor="end", **small)
        for value in x_ticks:
            x = self.x(value)
            self.drawing.line((x, bottom), (x, bottom + 3), "faint")
            self.drawing.text((x, bottom + 14), x_text(value), text_anchor="middle", **small)

    def curve(self, xs: Iterable[Px], ys: Iterable[Px], ink: str, **more: Any) -> None:
        """Append a line through points; a single point becomes a dot, because lines have round ends."""
        places = [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)]
        look = {"fill": "none", "stroke": ink, "stroke_linecap": "round"} | more
        if places:
            self.drawing.add(
                "polyline", points=points(places * (2 if len(places) == 1 else 1)), **look
            )

    def bar(self, x: Px, ends: Ends, ink: str) -> None:
        """Append a vertical bar between two values; nothing if one of them is not finite."""
        if np.isfinite(sum(ends)):
            low, high = (self.y(float(np.clip(end, *self.y_ends))) for end in ends)
            self.drawing.line((self.x(x), low), (self.x(x), high), ink, stroke_width=1.5)

    def dot(self, x: Px, y: Px, ink: str, fill: str) -> None:
        """Append a small circle."""
        self.drawing.add("circle", cx=self.x(x), cy=self.y(y), r=3.5, stroke=ink, fill=fill)


def ticks(ends: Ends, most: int, *, whole: bool = False) -> list[float]:
    """Ticks at multiples of 1, 2 or 5 times a power of ten, with at most ``most`` steps between them.

    >>> ticks((0.41, 0.72), 4), ticks((1, 9), 4, whole=True), ticks((3.0, 3.0), 4)
    ([0.5, 0.6, 0.7], [2.0, 4.0, 6.0, 8.0], [3.0])
    """
    low, high = ends
    if low == high:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * k for k in (1, 2, 5, 10) if (high - low) / (size * k) <= most)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_text(value: Px) -> str:
    """The text of a tick, with at most four digits."""
    return f"{value:.4g}".replace("-", MINUS)


def padded(values: ArrayLike, share: float = 0.05) -> Ends:
    """The lowest and highest finite value, extended by a margin; 0 and 1 if no value is finite."""
    numbers = np.asarray(values, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = share * (high - low) or 0.5 * abs(low) or 1.0
    return low - room, high + room


def _share(value: Px, ends: Ends) -> float:
    low, high = ends
    return (value - low) / (high - low) if high != low else 0.5
