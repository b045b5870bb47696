"""Drawings as SVG, embedded in the report (with the colours of the report) or written as files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from markupsafe import Markup, escape
from PIL import Image, ImageFont

from isthmus.report.formatting import LIGHT, Paper

FONT_PX = 12
_INKS = tuple(ink.name for ink in fields(Paper))
_FONT = 'font-family="system-ui, sans-serif"'

Px = int | float
Point = tuple[Px, Px]


@dataclass
class Drawing:
    """Shapes and text on ``width`` x ``height`` px, y downwards; ``label`` is its text alternative.

    Colours are field names of ``Paper``, so that the report can also show a drawing in dark mode.
    """

    width: Px
    height: Px
    label: str = ""
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, content: str = "", **attributes: Any) -> None:
        """Append an element; ``attributes`` are those of ``element``."""
        self.parts.append(element(tag, content, **attributes))

    def line(self, start: Point, end: Point, stroke: str = "ink", **more: Any) -> None:
        """Append a straight line."""
        (x1, y1), (x2, y2) = start, end
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, **more)

    def text(self, at: Point, words: str, size: Px = FONT_PX, **more: Any) -> None:
        """Append one line of text; ``at`` is the start of its baseline unless ``text_anchor`` is given."""
        look = {"fill": "ink", "font_size": size} | more
        self.add("text", str(escape(words)), x=at[0], y=at[1], **look)

    def image(self, at: Point, size: Point, source: str) -> None:
        """Append an image of pixels, scaled without smoothing."""
        (x, y), (width, height) = at, size
        look = {"href": source, "style": "image-rendering: pixelated"}
        self.add("image", x=x, y=y, width=width, height=height, **look)

    def place(self, other: Drawing, at: Point) -> None:
        """Append another drawing with its upper left corner at a point."""
        size = {"width": other.width, "height": other.height}
        view = f"0 0 {_number(other.width)} {_number(other.height)}"
        self.add("svg", "".join(other.parts), x=at[0], y=at[1], **size, viewBox=view)

    def inline(self, role: str = "img") -> Markup:
        """The drawing as part of an HTML page that defines the colours as CSS variables."""
        width, height = _number(self.width), _number(self.height)
        about = f'role="{role}" aria-label="{escape(self.label)}" style="--natural: {width}px"'
        return Markup(
            f'<svg viewBox="0 0 {width} {height}" {_FONT} {about}>{"".join(self.parts)}</svg>'
        )

    def file(self) -> bytes:
        """The drawing as an SVG file, with dark ink on white."""
        size = f'width="{_number(self.width)}" height="{_number(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
        ground = element("rect", width=self.width, height=self.height, fill="ground")
        whole = str(self.inline()).replace("<svg", head, 1).replace(">", f">{ground}", 1)
        return re.sub(r"var\(--(\w+)\)", lambda ink: getattr(LIGHT, ink[1]), whole).encode()

    def _repr_svg_(self) -> str:
        """The representation of the drawing in a notebook."""
        return self.file().decode()


def element(tag: str, content: str = "", **attributes: Any) -> str:
    """An SVG element.

    In names of attributes, a final ``_`` is removed and other ``_`` become ``-``; attributes with the
    value None are left out; a value that is a name of an ink becomes the CSS variable of that ink.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{said}>{content}</{tag}>" if content else f"<{tag}{said}/>"


def points(places: Sequence[Point]) -> str:
    """The attribute ``points`` of a polyline or polygon."""
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in places)


def beside(drawings: Sequence[Drawing], columns: int, gap: Px = 24) -> Drawing:
    """One drawing that contains drawings of equal size, in rows of ``columns`` drawings."""
    columns = min(columns, len(drawings))
    width, height = drawings[0].width + gap, drawings[0].height + gap
    rows = -(-len(drawings) // columns)
    whole = Drawing(columns * width + gap, rows * height + gap, drawings[0].label)
    for k, drawing in enumerate(drawings):
        whole.place(drawing, (gap + k % columns * width, gap + k // columns * height))
    return whole


def encoded(image: Image.Image, kind: str, **options: Any) -> str:
    """An image file as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@cache
def text_width(words: str, size: Px = FONT_PX) -> float:
    """Upper bound on the width of a line of text in common sans-serif fonts, in px."""
    return 1.15 * ImageFont.load_default(size).getlength(words)


def fitted(words: str, room: Px, size: Px = FONT_PX) -> str:
    """The words, cut and with an ellipsis if they do not fit into ``room``."""
    if text_width(words, size) <= room:
        return words
    cuts = (f"{words[:end].rstrip()}…" for end in range(len(words) - 1, 0, -1))
    return next((cut for cut in cuts if text_width(cut, size) <= room), "…")


def wrapped(words: str, room: Px, size: Px = FONT_PX) -> list[str]:
    """The words in lines that fit into ``room``, unless a single word is longer."""
    lines: list[str] = []
    for word in words.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _value(value: object) -> str:
    if isinstance(value, int | float):
        return _number(value)
    return f"var(--{value})" if value in _INKS else str(escape(value))


def _number(value: Px) -> str:
    return f"{value:.1f}".removesuffix(".0")
