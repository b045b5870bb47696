"""The sheet: the same test pictures, their truth and every variant's mask, side by side."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from isthmus.report.look import LIGHT, Paper, class_legend, palette, score_text
from isthmus.report.read import Picture, Study

_TILE_PX = 192


def sheet(study: Study, paper: Paper = LIGHT) -> Figure | None:
    """Picture, truth and every variant's mask, a row a picture; None without pictures."""
    if not study.pictures:
        return None
    variants = study.about.variants
    columns, rows = 2 + len(variants), len(study.pictures)
    size = (1.25 * columns + 1.1, 1.45 * rows + 1.0)
    figure = Figure(figsize=size, facecolor=paper.ground)
    axes = figure.add_axes((1.05 / size[0], 0.1 / size[1], 1 - 1.1 / size[0], 1 - 0.9 / size[1]))
    axes.axis("off")
    for column, name in enumerate(("picture", "truth", *variants)):
        words = name.replace("_", "\n")
        _say(axes, column + 0.5, -0.08, words, paper, ha="center", va="bottom")
    for row, picture in enumerate(study.pictures):
        top = 1.16 * row
        words = f"{picture.role}\n{_shortened(picture.picture)}"
        _say(axes, -0.06, top + 0.5, words, paper, ha="right", va="center")
        for column, file in enumerate(_files(picture, variants)):
            drawn = tile(study, file, is_mask=column > 0, side_px=_TILE_PX)
            _show(axes, drawn, float(column), top, paper)
        for column, variant in enumerate(variants, start=2):
            score = f"mean IoU {score_text(score_of(picture, variant))}"
            _say(axes, column + 0.5, top + 1.01, score, paper, ha="center", va="top")
    axes.set_xlim(0, columns)
    axes.set_ylim(1.16 * rows, 0)
    _name_classes(figure, study, paper)
    return figure


def score_of(picture: Picture, variant: str) -> float:
    """That picture's mean IoU for one variant; NaN where it is not known."""
    score = picture.mean_iou.get(variant)
    return float("nan") if score is None else score


def _files(picture: Picture, variants: tuple[str, ...]) -> tuple[str | None, ...]:
    """File names of picture, truth and each variant's mask; None where there is no mask."""
    return (picture.image, picture.truth, *(picture.predictions.get(v) for v in variants))


def tile(study: Study, file: str | None, *, is_mask: bool, side_px: int) -> Image.Image | None:
    """One picture of the sheet in colours, at most so large; None if the file is not there."""
    path = study.folder / "pictures" / file if file else None
    if path is None or not path.is_file():
        return None
    with Image.open(path) as opened:
        if not is_mask:
            shown = opened.convert("RGB")
            shown.thumbnail((side_px, side_px))
            return shown
        mask = opened.convert("L")
    mask.thumbnail((side_px, side_px), Image.Resampling.NEAREST)
    return painted(np.asarray(mask), study.about.class_names)


def painted(mask: UInt8[np.ndarray, "height width"], class_names: tuple[str, ...]) -> Image.Image:
    """A mask of class ids as a palette picture; ids that are no class are grey."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette(class_names).tobytes())
    return picture


def _show(axes: Axes, picture: Image.Image | None, left: float, top: float, paper: Paper) -> None:
    if picture is None:
        _say(axes, left + 0.5, top + 0.5, "no picture", paper, ha="center", va="center")
        return
    extent = (left + 0.02, left + 0.98, top + 0.98, top + 0.02)
    axes.imshow(np.asarray(picture.convert("RGB")), extent=extent, interpolation="nearest")


def _say(axes: Axes, x: float, y: float, words: str, paper: Paper, *, ha: str, va: str) -> None:
    axes.text(
        x,
        y,
        words,
        ha=ha,
        va=va,
        fontsize=8,
        color=paper.ink,
        linespacing=1.25,
        parse_math=False,
    )


def _shortened(name: str, limit: int = 16) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _name_classes(figure: Figure, study: Study, paper: Paper) -> None:
    classes = class_legend(study.about.class_names)
    legend = figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in classes],
        loc="upper left",
        ncols=len(classes),
        frameon=False,
        labelcolor=paper.ink,
        fontsize=9,
        handlelength=1.0,
        handleheight=1.0,
    )
    for words in legend.get_texts():
        words.set_parse_math(False)
