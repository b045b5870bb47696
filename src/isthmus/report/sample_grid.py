"""The sample grid: the same test images, their truth and every variant's mask, side by side."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from isthmus.metrics.wording import metric_text
from isthmus.report.formatting import LIGHT, Paper, class_legend, palette
from isthmus.study.folder import StudyFolder
from isthmus.study.records import ShownImage

_TILE_PX = 192


def sample_grid(study: StudyFolder, paper: Paper = LIGHT) -> Figure | None:
    """Image, truth and every variant's mask, a row an image; None without images."""
    if not study.images:
        return None
    variants = study.record.variants
    columns, rows = 2 + len(variants), len(study.images)
    size = (1.25 * columns + 1.1, 1.45 * rows + 1.0)
    figure = Figure(figsize=size, facecolor=paper.ground)
    axes = figure.add_axes((1.05 / size[0], 0.1 / size[1], 1 - 1.1 / size[0], 1 - 0.9 / size[1]))
    axes.axis("off")
    for column, name in enumerate(("image", "truth", *variants)):
        words = name.replace("_", "\n")
        _say(axes, column + 0.5, -0.08, words, paper, ha="center", va="bottom")
    for row, image in enumerate(study.images):
        top = 1.16 * row
        words = f"{image.role}\n{_shortened(image.name)}"
        _say(axes, -0.06, top + 0.5, words, paper, ha="right", va="center")
        for column, file in enumerate(_files(image, variants)):
            drawn = tile(study, file, is_mask=column > 0, side_px=_TILE_PX)
            _show(axes, drawn, float(column), top, paper)
        for column, variant in enumerate(variants, start=2):
            metric = f"mean IoU {metric_text(metric_of(image, variant))}"
            _say(axes, column + 0.5, top + 1.01, metric, paper, ha="center", va="top")
    axes.set_xlim(0, columns)
    axes.set_ylim(1.16 * rows, 0)
    _name_classes(figure, study, paper)
    return figure


def metric_of(image: ShownImage, variant: str) -> float:
    """That image's mean IoU for one variant; NaN where it is not known."""
    metric = image.mean_iou.get(variant)
    return float("nan") if metric is None else metric


def _files(image: ShownImage, variants: tuple[str, ...]) -> tuple[str | None, ...]:
    """File names of image, truth and each variant's mask; None where there is no mask."""
    return (image.image, image.truth, *(image.predictions.get(v) for v in variants))


def tile(
    study: StudyFolder, file: str | None, *, is_mask: bool, side_px: int
) -> Image.Image | None:
    """One image of the sample grid in colours, at most so large; None if the file is not there."""
    path = study.path / "images" / file if file else None
    if path is None or not path.is_file():
        return None
    with Image.open(path) as opened:
        if not is_mask:
            shown = opened.convert("RGB")
            shown.thumbnail((side_px, side_px))
            return shown
        mask = opened.convert("L")
    mask.thumbnail((side_px, side_px), Image.Resampling.NEAREST)
    return painted(np.asarray(mask), study.record.class_names)


def painted(mask: UInt8[np.ndarray, "height width"], class_names: tuple[str, ...]) -> Image.Image:
    """A mask of class ids as a palette image; ids that are no class are grey."""
    image = Image.fromarray(mask)
    image.putpalette(palette(class_names).tobytes())
    return image


def _show(axes: Axes, image: Image.Image | None, left: float, top: float, paper: Paper) -> None:
    if image is None:
        _say(axes, left + 0.5, top + 0.5, "no image", paper, ha="center", va="center")
        return
    extent = (left + 0.02, left + 0.98, top + 0.98, top + 0.02)
    axes.imshow(np.asarray(image.convert("RGB")), extent=extent, interpolation="nearest")


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


def _name_classes(figure: Figure, study: StudyFolder, paper: Paper) -> None:
    classes = class_legend(study.record.class_names)
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
