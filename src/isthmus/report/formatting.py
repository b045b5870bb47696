"""The colours of the report and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import ImageColor

IGNORED_COLOUR = "#999999"
"""Colour of ignored pixels; no class has this colour."""

BACKGROUND_COLOUR = "#262B36"
"""Colour of a class named background."""

_OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")


@dataclass(frozen=True)
class Paper:
    """Colours of a figure (background and inks), as CSS hex colours."""

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
    """One hex colour per class: dark for a background, else Okabe and Ito's seven, then paler colours.

    The seven colours are distinguishable with all common forms of colour blindness. The paler colours
    are not, so a legend must name the classes.

    Source: Okabe and Ito 2008, Color Universal Design, without black.

    >>> class_colours(("pet", "background"))
    ('#E69F00', '#262B36')
    """
    things = [name for name in names if name != "background"]
    cycles = (divmod(k, len(_OKABE_ITO)) for k in range(len(things)))
    colours = {
        n: _paler(_OKABE_ITO[k], cycle) for n, (cycle, k) in zip(things, cycles, strict=True)
    }
    return tuple(colours.get(name, BACKGROUND_COLOUR) for name in names)


def class_legend(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Name and colour of each class, and of ignored pixels.

    >>> class_legend(("pet",))
    (('pet', '#E69F00'), ('ignored', '#999999'))
    """
    return (*zip(names, class_colours(names), strict=True), ("ignored", IGNORED_COLOUR))


@cache
def palette(names: tuple[str, ...]) -> UInt8[np.ndarray, "256 3"]:
    """RGB of each mask value: the colours of the classes, and grey for all other values."""
    colours = [*class_colours(names[:255]), *[IGNORED_COLOUR] * 256][:256]
    return np.array([ImageColor.getrgb(colour) for colour in colours], dtype=np.uint8)


def _paler(colour: str, cycle: int) -> str:
    """The colour mixed with white; the proportion of white increases with ``cycle``."""
    parts = (round(255 + 0.55**cycle * (part - 255)) for part in ImageColor.getrgb(colour))
    return "#{:02X}{:02X}{:02X}".format(*parts)
