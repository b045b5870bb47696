"""Grids of small images with words around them; images are enlarged without interpolation.

The side of an enlarged pixel is a whole number of px, so that no pixel is blurred.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from isthmus.report.svg import FONT_PX, Drawing, Point, encoded, fitted, text_width, wrapped

_SIDE_PX = 84
"""Images are enlarged by the whole factor that brings their side nearest to this size."""
_TITLE_PX, _LINE, _EDGE = 15, 17, 16
_LEAST_WIDTH, _MOST_SIDE = 420, 170

Pixels = UInt8[np.ndarray, "place together channel height width"]


@dataclass(frozen=True)
class ImageGrid:
    """The content of a grid. A place (cell) has one or more images side by side; words are optional."""

    images: Pixels
    columns: int
    title: str
    note: str = ""
    captions: Sequence[str] = ()
    """Words under each place."""
    heads: Sequence[str] = ()
    """Words above each column."""
    sides: Sequence[str] = ()
    """Words to the left of each row."""

    @cached_property
    def scale(self) -> int:
        """Side of an enlarged pixel in px."""
        side: int = self.images.shape[-1]
        return max(1, round(_SIDE_PX / side))

    @cached_property
    def gaps(self) -> tuple[int, int]:
        """Gaps between the images of a place, and between columns, in pixels (before enlarging)."""
        together = self.images.shape[1]
        return math.ceil(3 / self.scale), math.ceil((10 if together == 1 else 26) / self.scale)

    @cached_property
    def place(self) -> tuple[int, int]:
        """Height and width of a place in pixels (before enlarging)."""
        _, together, _, height, width = self.images.shape
        return height, together * (width + self.gaps[0]) - self.gaps[0]

    @cached_property
    def across(self) -> int:
        """Distance between columns in px."""
        return (self.place[1] + self.gaps[1]) * self.scale

    @cached_property
    def captions_cut(self) -> list[list[str]]:
        """The lines of each caption; if any caption is too wide, all captions break after their arrow."""
        room = self.across - 6
        if all(text_width(caption) <= room for caption in self.captions):
            return [[caption] for caption in self.captions]
        broken = (caption.replace("→ ", "→\n").split("\n") for caption in self.captions)
        return [[fitted(line, room) for line in lines] for lines in broken]

    @cached_property
    def down(self) -> int:
        """Distance between rows in px, a multiple of ``scale``."""
        lines = max(map(len, self.captions_cut), default=0)
        gap = lines * _LINE + 12 if lines else self.gaps[1] * self.scale
        return (self.place[0] + math.ceil(gap / self.scale)) * self.scale

    @cached_property
    def mosaic(self) -> UInt8[np.ndarray, "height width channel"]:
        """All images on a transparent background, with opacity as the last channel."""
        channels, height, width = self.images.shape[2:]
        rows = math.ceil(len(self.images) / self.columns)
        size = (rows * self.down // self.scale, self.columns * self.across // self.scale)
        mosaic = np.zeros((*size, channels + 1), dtype=np.uint8)
        for k, place in enumerate(self.images):
            top, left = k // self.columns * self.down, k % self.columns * self.across
            y, x = top // self.scale, left // self.scale
            for image in place:
                mosaic[y : y + height, x : x + width, :-1] = np.moveaxis(image, 0, -1)
                mosaic[y : y + height, x : x + width, -1] = 255
                x += width + self.gaps[0]
        return mosaic


def drawn_grid(grid: ImageGrid) -> Drawing:
    """The grid as a drawing; the title is the text alternative."""
    sides = [fitted(words, _MOST_SIDE) for words in grid.sides]
    left = _EDGE + (max(map(text_width, sides), default=-10) + 10 if any(sides) else 0)
    width = max(left + grid.columns * grid.across + _EDGE, _LEAST_WIDTH)
    drawing = Drawing(round(width), 0, grid.title)
    y = _EDGE
    for text, size, ink in ((grid.title, _TITLE_PX, "ink"), (grid.note, FONT_PX, "quiet")):
        for line in wrapped(text, width - 2 * _EDGE, size):
            drawing.text((_EDGE, y + size - 2), line, size, fill=ink)
            y += size + 6
    y += 4 + (_LINE if grid.heads else 0)
    _write_around(drawing, grid, sides, (left, y))
    mosaic = grid.mosaic
    height, across = mosaic.shape[0] * grid.scale, mosaic.shape[1] * grid.scale
    drawing.image((left, y), (across, height), encoded(Image.fromarray(mosaic), "png"))
    drawing.height = y + height + (0 if grid.captions else _EDGE // 2)
    return drawing


def _write_around(drawing: Drawing, grid: ImageGrid, sides: Sequence[str], corner: Point) -> None:
    """Write the words under the places, above the columns and to the left of the rows."""
    left, top = corner
    height, width = (side * grid.scale for side in grid.place)
    for k, lines in enumerate(grid.captions_cut):
        x, y = left + k % grid.columns * grid.across, top + k // grid.columns * grid.down
        for line, words in enumerate(lines):
            at = (x + width / 2, y + height + 14 + line * _LINE)
            drawing.text(at, words, text_anchor="middle")
    for column, words in enumerate(grid.heads):
        at = (left + column * grid.across + width / 2, top - 7)
        drawing.text(at, fitted(words, grid.across - 4), text_anchor="middle")
    for row, words in enumerate(sides):
        drawing.text((left - 10, top + row * grid.down + height / 2 + 4), words, text_anchor="end")


def as_png(drawing: Drawing, factor: int = 2) -> bytes:
    """A grid as a PNG file with ``factor`` pixels per px, for programs that cannot read SVG.

    Only texts and images of the drawing are rendered. Needs matplotlib, which provides the fonts.
    """
    from matplotlib.figure import Figure

    figure = Figure((drawing.width / 100, drawing.height / 100), dpi=100 * factor)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis("off")
    for part in ElementTree.fromstring(drawing.file()):
        value, tag = part.attrib, part.tag.rpartition("}")[2]
        if tag == "image":
            x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
            with Image.open(
                io.BytesIO(base64.b64decode(value["href"].partition(",")[2]))
            ) as opened:
                pixels = np.asarray(opened.convert("RGBA"))
            extent = (x, x + width, y + height, y)
            axes.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto")
        elif tag == "text":
            align = {"middle": "center", "end": "right"}.get(value.get("text-anchor", ""), "left")
            size = 0.72 * float(value["font-size"])
            look: dict[str, Any] = {
                "ha": align,
                "fontsize": size,
                "color": value["fill"],
                "parse_math": False,
            }
            axes.text(float(value["x"]), float(value["y"]), part.text or "", **look)
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
