"""Sheets of what one VAE makes: every picture with the label that went in, in words.

``SHEETS`` draws the arrays that a run leaves in ``sheets.npz``. An array that is not there
means that its sheet is not there either: None. The null label is called "no label".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer, Shaped, UInt8
from matplotlib.figure import Figure

from isthmus.report.look import LIGHT, Paper
from isthmus.report.picture_grid import PictureGrid, as_bytes, drawn_grid

Sheets = Mapping[str, Shaped[np.ndarray, "..."]]
Labels = Integer[np.ndarray, " n"]
Draw = Callable[[Sheets, Sequence[str], Paper], Figure | None]

NO_LABEL = "no label"
"""What stands where a label was not told."""

TITLES = {
    "swap": "Encoded with the true label, decoded with a wrong one",
    "random": "Drawn from the prior, each with a label",
    "null": "Drawn from the prior without a label",
    "style": "One style a row, one label a column",
    "reconstruction": "Reconstructed with the true label",
    "interpolation": "From one test picture to another of the same label",
    "traversal": "One unit of z moved, the others kept",
}
"""What each sheet shows, as its title says it."""

_PAIR = "Left: a test picture; right: what the network makes of it. Below: "
_COLUMNS, _SHEET = 5, 25


def swap_sheet(sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT) -> Figure | None:
    """Test pictures beside what they become under a wrong label; caption: true → given."""
    keys = ("swap_source", "swap_output", "swap_true", "swap_given")
    if not _holds(sheets, *keys):
        return None
    source, output, true, given = (sheets[key] for key in keys)
    words = zip(_names(class_names, true), _names(class_names, given), strict=True)
    grid = PictureGrid(
        _pairs(source, output),
        _COLUMNS,
        TITLES["swap"],
        note=f"{_PAIR}true label → label given.",
        captions=[f"{before} → {after}" for before, after in words],
    )
    return drawn_grid(grid, paper)


def random_sheet(sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT) -> Figure | None:
    """Draws from the prior with random labels; caption: the label given."""
    if not _holds(sheets, "random_output", "random_given"):
        return None
    grid = PictureGrid(
        sheets["random_output"][:, None],
        _COLUMNS,
        TITLES["random"],
        note="Below: the label given, drawn at random.",
        captions=_names(class_names, sheets["random_given"]),
    )
    return drawn_grid(grid, paper)


def null_sheet(sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT) -> Figure | None:  # noqa: ARG001 (like its siblings)
    """Draws from the prior for which no label was told."""
    if not _holds(sheets, "null_output"):
        return None
    output = sheets["null_output"]
    grid = PictureGrid(
        output[:, None],
        _COLUMNS,
        TITLES["null"],
        note="The same network, told the null label.",
        captions=[NO_LABEL] * len(output),
    )
    return drawn_grid(grid, paper)


def style_sheet(sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT) -> Figure | None:
    """The same draw of z under every label, a row a draw; ten rows."""
    if not _holds(sheets, "style_output"):
        return None
    output, rows = sheets["style_output"], 10
    columns = len(output) // rows
    grid = PictureGrid(
        output[:, None],
        columns,
        TITLES["style"],
        note="Each row decodes one draw of z under every label.",
        heads=_names(class_names, np.arange(columns)),
        sides=[f"z {row + 1}" for row in range(rows)],
    )
    return drawn_grid(grid, paper)


def reconstruction_sheet(
    sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Test pictures beside their reconstructions; caption: their label."""
    keys = ("swap_source", "reconstruction_output", "swap_true")
    if not _holds(sheets, *keys):
        return None
    source, output, true = (sheets[key] for key in keys)
    grid = PictureGrid(
        _pairs(source, output),
        _COLUMNS,
        TITLES["reconstruction"],
        note=f"{_PAIR}its label.",
        captions=_names(class_names, true),
    )
    return drawn_grid(grid, paper)


def interpolation_sheet(
    sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Rows of ten steps between two test pictures of one label, which heads the row."""
    if not _holds(sheets, "interpolation_output", "swap_true"):
        return None
    output, columns = sheets["interpolation_output"], 10
    # Unless they are told, the rows have the lowest labels; few enough, the swaps show them all.
    shown = np.unique(sheets["swap_true"][: 0 if len(class_names) > _SHEET else _SHEET])
    labels = sheets.get("interpolation_label", shown)
    grid = PictureGrid(
        output[:, None],
        columns,
        TITLES["interpolation"],
        note="z moves in a straight line; 0 % and 100 % are the reconstructions of the two.",
        heads=[f"{share:.0%}".replace("%", " %") for share in np.linspace(0, 1, columns)],
        sides=_names(class_names, labels[: len(output) // columns]),
    )
    return drawn_grid(grid, paper)


def traversal_sheet(
    sheets: Sheets, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """The first picture of the swap sheet with one unit of z moved from -3 to 3, a row a unit."""
    if not _holds(sheets, "traversal_output", "traversal_unit", "swap_true"):
        return None
    units, columns = sheets["traversal_unit"], 10
    (label,) = _names(class_names, sheets["swap_true"][:1])
    grid = PictureGrid(
        sheets["traversal_output"][: columns * len(units), None],
        columns,
        TITLES["traversal"],
        note=f"A test picture of label {label}; the units whose posterior means vary most.",
        heads=[f"{value:+.1f}".replace("-", "−") for value in np.linspace(-3, 3, columns)],  # noqa: RUF001
        sides=[f"unit {unit}" for unit in units],
    )
    return drawn_grid(grid, paper)


SHEETS: dict[str, Draw] = {
    "swap": swap_sheet,
    "random": random_sheet,
    "null": null_sheet,
    "style": style_sheet,
    "reconstruction": reconstruction_sheet,
    "interpolation": interpolation_sheet,
    "traversal": traversal_sheet,
}
"""(arrays of sheets.npz, class names, paper) -> the sheet, by name, the most telling first."""


def label_columns(
    rows: Float[np.ndarray, "row label channel height width"],
    names: Sequence[str],
    sources: Float[np.ndarray, "row channel height width"] | None = None,
    row_names: Sequence[str] = (),
    paper: Paper = LIGHT,
) -> Figure:
    """Pictures with values in [0, 1], a column a label; with sources, these come first.

    Args:
        rows: Pictures; each row shares its z.
        names: Names of the labels.
        sources: The picture that each row comes from.
        row_names: What heads each row; without any, the rows are z 1, z 2, ...
        paper: Ground and inks.
    """
    before = [] if sources is None else [sources[:, None]]
    pictures = np.concatenate([*before, rows], axis=1)
    grid = PictureGrid(
        as_bytes(pictures.reshape(-1, 1, *pictures.shape[2:])),
        pictures.shape[1],
        TITLES["style"] if sources is None else "The same picture under other labels",
        heads=[*["picture"] * len(before), *names],
        sides=list(row_names) or [f"z {row + 1}" for row in range(len(rows))],
    )
    return drawn_grid(grid, paper)


def _holds(sheets: Sheets, *keys: str) -> bool:
    return all(key in sheets and len(sheets[key]) for key in keys)


def _pairs(
    source: UInt8[np.ndarray, "n channel height width"],
    output: UInt8[np.ndarray, "n channel height width"],
) -> UInt8[np.ndarray, "n 2 channel height width"]:
    return np.stack([source, output], axis=1)


def _names(class_names: Sequence[str], labels: Labels) -> list[str]:
    """The names of labels; one that has none says its number, and after the last comes the null.

    >>> _names(("cat", "dog"), np.array([1, 2]))
    ['dog', 'no label']
    """
    known = dict(enumerate([*class_names, NO_LABEL] if class_names else ()))
    return [known.get(int(label), str(label)) for label in labels]
