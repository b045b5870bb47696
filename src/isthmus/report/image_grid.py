"""Small images in rows and columns with words around them, drawn pixel for pixel.

One image's pixel is a whole number of the figure's pixels at ``DPI``, so none is blurred.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from isthmus.report.formatting import DPI, Paper, rgb

_SIDE_PX = 88
"""An image is drawn at the whole multiple of its side that comes nearest to this."""
_SMALL, _LARGE = 8.0, 11.0
"""Type sizes, in points."""
_LINE_PX, _TITLE_PX = 19, 27
_EDGE_PX, _BETWEEN_PX, _LEAST_WIDTH_PX = 16, 4, 420
_MOST_SIDE_WORDS_PX = 170


@dataclass(frozen=True)
class ImageGrid:
    """What is drawn. ``images`` of one place stand side by side; words may be left out."""

    images: UInt8[np.ndarray, "place together channel height width"]
    columns: int
    title: str
    note: str = ""
    captions: Sequence[str] = ()
    """Under each place."""
    heads: Sequence[str] = ()
    """Over each column."""
    sides: Sequence[str] = ()
    """Left of each row."""

    @property
    def rows(self) -> int:
        """Rows that the places fill, the last one perhaps in part."""
        return math.ceil(len(self.images) / self.columns)

    @cached_property
    def scale(self) -> int:
        """Pixels of the figure for one of an image, each way."""
        side: int = self.images.shape[-1]
        return max(1, round(_SIDE_PX / side))

    @cached_property
    def place_px(self) -> tuple[int, int]:
        """Height and width of a place, the frames of its images included."""
        _, together, _, height, width = self.images.shape
        across = together * (width * self.scale + 2) + (together - 1) * _BETWEEN_PX
        return height * self.scale + 2, across

    @cached_property
    def gap_px(self) -> int:
        """Between two columns: wider where places hold several images."""
        return 10 if self.images.shape[1] == 1 else 26

    @cached_property
    def caption_lines(self) -> list[str]:
        """Captions that fit; if one does not fit in a line, all break after their arrow."""
        room = self.place_px[1] + self.gap_px - 6
        if all(_width_px(caption) <= room for caption in self.captions):
            return list(self.captions)
        broken = (caption.replace("→ ", "→\n") for caption in self.captions)
        return ["\n".join(_fitted(line, room) for line in words.split("\n")) for words in broken]

    @cached_property
    def side_words(self) -> list[str]:
        """The words left of the rows, cut to what there is room for."""
        return [_fitted(words, _MOST_SIDE_WORDS_PX) for words in self.sides]

    @cached_property
    def left_px(self) -> int:
        """Where the first column starts."""
        widest = max(map(_width_px, self.side_words), default=0)
        return _EDGE_PX + (widest + 10 if widest else 0)

    @cached_property
    def width_px(self) -> int:
        """Width of the figure."""
        across = self.columns * (self.place_px[1] + self.gap_px) - self.gap_px
        return max(self.left_px + across + _EDGE_PX, _LEAST_WIDTH_PX)

    @cached_property
    def row_px(self) -> int:
        """From one row to the next."""
        lines = max((1 + words.count("\n") for words in self.caption_lines), default=0)
        return self.place_px[0] + (lines * _LINE_PX + 14 if lines else self.gap_px)


def drawn_grid(grid: ImageGrid, paper: Paper) -> Figure:
    """The grid as a figure whose size is exact at ``DPI``."""
    title = _wrapped(grid.title, grid.width_px - 2 * _EDGE_PX, _LARGE)
    note = _wrapped(grid.note, grid.width_px - 2 * _EDGE_PX, _SMALL)
    note_top = _EDGE_PX + _TITLE_PX * len(title)
    top = note_top + _LINE_PX * len(note) + (10 if note or not grid.heads else 2)
    top += _LINE_PX + 4 if grid.heads else 0
    height = top + grid.rows * grid.row_px + (0 if grid.captions else _EDGE_PX - grid.gap_px)
    figure = Figure((grid.width_px / DPI, height / DPI), dpi=DPI, facecolor=paper.ground)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    mosaic = _mosaic(grid, paper)
    right, bottom = grid.left_px + mosaic.shape[1], top + mosaic.shape[0]
    axes.imshow(mosaic, extent=(grid.left_px, right, bottom, top), interpolation="nearest")
    axes.set(xlim=(0, grid.width_px), ylim=(height, 0), aspect="auto")
    _say(axes, _EDGE_PX, _EDGE_PX, "\n".join(title), paper.ink, _LARGE, ha="left", va="top")
    _say(axes, _EDGE_PX, note_top, "\n".join(note), paper.quiet, _SMALL, ha="left", va="top")
    _say_around(axes, grid, top, paper)
    return figure


def _mosaic(grid: ImageGrid, paper: Paper) -> UInt8[np.ndarray, "height width 3"]:
    """All images in hairline frames on the paper's ground."""
    down, (place_height, place_width) = grid.row_px, grid.place_px
    across = place_width + grid.gap_px
    size = (down * (grid.rows - 1) + place_height, across * grid.columns - grid.gap_px, 3)
    mosaic = np.empty(size, dtype=np.uint8)
    mosaic[:] = rgb(paper.ground)
    for place, together in enumerate(grid.images):
        row, column = divmod(place, grid.columns)
        left = across * column
        for image in together:
            colours = np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3))
            shown = colours.repeat(grid.scale, axis=0).repeat(grid.scale, axis=1)
            height, width = shown.shape[0] + 2, shown.shape[1] + 2
            framed = mosaic[down * row : down * row + height, left : left + width]
            framed[:] = rgb(paper.faint)
            framed[1:-1, 1:-1] = shown
            left += width + _BETWEEN_PX
    return mosaic


def _say_around(axes: Axes, grid: ImageGrid, top: int, paper: Paper) -> None:
    """The words under the places, over the columns and left of the rows."""
    height, width = grid.place_px
    across = width + grid.gap_px
    for place, words in enumerate(grid.caption_lines):
        row, column = divmod(place, grid.columns)
        x, y = grid.left_px + across * column + width // 2, top + grid.row_px * row + height + 18
        _say(axes, x, y, words, paper.ink, _SMALL, ha="center", va="baseline")
    for column, words in enumerate(grid.heads):
        middle = grid.left_px + across * column + width // 2
        fitted = _fitted(words, across - 4)
        _say(axes, middle, top - 8, fitted, paper.ink, _SMALL, ha="center", va="baseline")
    for row, words in enumerate(grid.side_words):
        middle = top + grid.row_px * row + height // 2
        _say(axes, grid.left_px - 10, middle, words, paper.ink, _SMALL, ha="right", va="center")


def _say(
    axes: Axes, x: int, y: int, words: str, ink: str, size: float, *, ha: str, va: str
) -> None:
    if not words:
        return
    # A name is no formula, even with a dollar sign in it.
    axes.text(
        x, y, words, color=ink, fontsize=size, ha=ha, va=va, linespacing=1.25, parse_math=False
    )


def _width_px(words: str, size: float = _SMALL) -> int:
    width: float = text_to_path.get_text_width_height_descent(
        words, FontProperties(size=size), ismath=False
    )[0]
    return math.ceil(width * DPI / 72)


def _fitted(words: str, room_px: int) -> str:
    """The words, or as many of their letters and an ellipsis as fit into a line."""
    if _width_px(words) <= room_px:
        return words
    return next(
        cut
        for end in range(len(words) - 1, -1, -1)
        if _width_px(cut := f"{words[:end].rstrip()}…") <= room_px or end == 0
    )


def _wrapped(words: str, room_px: int, size: float) -> list[str]:
    """The words in lines that fit."""
    if not words:
        return []
    of_letter = _width_px(words, size) / len(words)
    return textwrap.wrap(words, max(12, int(room_px / of_letter)))
