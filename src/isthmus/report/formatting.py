"""How the report looks: the only place of its colours, its resolution and its number formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

DPI = 140
"""Pixels an inch of every figure."""

IGNORED_COLOUR = "#999999"
"""Pixels that no metric looks at; no class has this colour."""

BACKGROUND_COLOUR = "#262B36"
"""A class called background stands back."""

_OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")


@dataclass(frozen=True)
class Paper:
    """Ground and inks of a figure, as CSS hex colours."""

    ground: str
    ink: str
    quiet: str
    faint: str
    training: str
    validation: str
    better: str
    worse: str
    equivalent: str


LIGHT = Paper(
    *("#ffffff", "#1b1f24", "#59616d", "#c9ced6", "#0072B2", "#D55E00"),
    *("#0072B2", "#C14F00", "#007A59"),
)
DARK = Paper(
    *("#171a1f", "#e6e8eb", "#a3abb8", "#454b55", "#56B4E9", "#E69F00"),
    *("#56B4E9", "#E69F00", "#2DBE94"),
)


def class_colours(names: tuple[str, ...]) -> tuple[str, ...]:
    """One hex colour a class: dark for a background, else Okabe and Ito's seven, then paler ones.

    The seven can be told apart with every common colour blindness; beyond the seventh
    class that no longer holds, so the legend's words must be read.

    Source: Okabe and Ito 2008, Color Universal Design, without black.

    >>> class_colours(("pet", "background"))
    ('#E69F00', '#262B36')
    """
    things = [name for name in names if name != "background"]
    of_thing = {
        name: _paler(_OKABE_ITO[k % len(_OKABE_ITO)], k // len(_OKABE_ITO))
        for k, name in enumerate(things)
    }
    return tuple(of_thing.get(name, BACKGROUND_COLOUR) for name in names)


def class_legend(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Name and colour of each class, and of the pixels that are no class.

    >>> class_legend(("pet",))
    (('pet', '#E69F00'), ('ignored', '#999999'))
    """
    return (*zip(names, class_colours(names), strict=True), ("ignored", IGNORED_COLOUR))


def palette(names: tuple[str, ...]) -> UInt8[np.ndarray, "256 3"]:
    """RGB of each mask value: the classes' colours, grey for every other value."""
    colours = np.full((256, 3), rgb(IGNORED_COLOUR), dtype=np.uint8)
    for value, colour in enumerate(class_colours(names[:255])):
        colours[value] = rgb(colour)
    return colours


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a CSS hex colour, 0 .. 255 each.

    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mixed(ground: str, ink: str, share: float) -> str:
    """The ground with a share of the ink, as a CSS hex colour.

    >>> mixed("#ffffff", "#000000", 0.2)
    '#CCCCCC'
    """
    parts = zip(rgb(ground), rgb(ink), strict=True)
    return "#{:02X}{:02X}{:02X}".format(*(round(a + share * (b - a)) for a, b in parts))


def _paler(colour: str, cycle: int) -> str:
    return mixed("#ffffff", colour, 0.55**cycle)
