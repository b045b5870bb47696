"""Test images of a segmentation study, with the true mask and the predicted mask of every variant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from isthmus.metrics.wording import metric_text
from isthmus.report.formatting import class_legend, palette
from isthmus.report.svg import Drawing, encoded, fitted, wrapped
from isthmus.study.records import ShownImage
from isthmus.study.study_folder import StudyFolder

_ROLES = {
    "differing": "Where two variants differ most",
    "typical": "Typical: spread evenly over the test set, whatever their metrics",
    "hardest": "Hardest: the lowest mean IoU over all variants",
    "easiest": "Easiest: the highest mean IoU over all variants",
}
_ALL_TILES_PX = 6_000_000
"""Largest total number of pixels of all tiles; keeps the report below 5 MB."""
_TILE, _ACROSS, _DOWN, _LEFT, _TOP = 96, 106, 122, 110, 70


@dataclass(frozen=True)
class Tile:
    """One image with a caption; ``source`` is empty if the file does not exist."""

    label: str
    alt: str
    source: str
    is_mask: bool = True
    metric: str = ""


@dataclass(frozen=True)
class ImageRow:
    """One test image: the tiles that are shown, and the tiles that are folded away."""

    image: str
    role: str
    note: str
    shown: tuple[Tile, ...]
    folded: tuple[Tile, ...]


def image_rows(study: StudyFolder) -> tuple[ImageRow, ...]:
    """All test images with their tiles; if an image compares two variants, other variants are folded away."""
    return tuple(_row(study, image) for image in study.images)


def by_role(rows: tuple[ImageRow, ...]) -> dict[str, list[ImageRow]]:
    """Heading -> images, for each role that has images, the most informative role first."""
    roles = dict.fromkeys((*_ROLES, *(row.role for row in rows)))
    chosen = {_ROLES.get(role, role): [row for row in rows if row.role == role] for role in roles}
    return {heading: rows for heading, rows in chosen.items() if rows}


def mask_grid(study: StudyFolder, rows: tuple[ImageRow, ...]) -> Drawing | None:
    """All tiles as one drawing, one row per image; None without images."""
    if not rows:
        return None
    columns = ("image", "truth", *study.record.variants)
    width = _LEFT + _ACROSS * len(columns)
    drawing = Drawing(width, _TOP + _DOWN * len(rows), "Test images and predicted masks")
    x = 10
    for name, colour in class_legend(study.record.class_names):
        drawing.add("rect", x=x, y=8, width=12, height=12, fill=colour)
        drawing.text((x + 18, 18), fitted(name, 110))
        x += 140
    for column, name in enumerate(columns):
        lines = wrapped(name.replace("_", "_ "), _TILE)[-3:]
        for k, words in enumerate(reversed(lines)):
            drawing.text(
                (_LEFT + column * _ACROSS, _TOP - 6 - 14 * k),
                fitted(words.replace("_ ", "_"), _TILE),
            )
    for k, row in enumerate(rows):
        _draw_row(
            drawing, row, {name: column for column, name in enumerate(columns)}, _TOP + k * _DOWN
        )
    return drawing


def tile(
    study: StudyFolder, file: str | None, *, is_mask: bool, side_px: int
) -> Image.Image | None:
    """An image, or a mask in colours, with sides of at most ``side_px``; None if there is no such file."""
    path = study.images_folder / file if file else None
    if path is None or not path.is_file():
        return None
    return _painted(path, study.record.class_names, side_px) if is_mask else _photo(path, side_px)


def painted(mask: UInt8[np.ndarray, "height width"], class_names: tuple[str, ...]) -> Image.Image:
    """A mask of class ids as a palette image; values that are not class ids are grey."""
    image = Image.fromarray(mask)
    image.putpalette(palette(class_names).tobytes())
    return image


def _painted(path: Path, class_names: tuple[str, ...], side_px: int) -> Image.Image:
    with Image.open(path) as opened:
        mask = opened.convert("L")
    mask.thumbnail((side_px, side_px), Image.Resampling.NEAREST)
    return painted(np.asarray(mask), class_names)


def _photo(path: Path, side_px: int) -> Image.Image:
    with Image.open(path) as opened:
        shown = opened.convert("RGB")
    shown.thumbnail((side_px, side_px))
    return shown


def _row(study: StudyFolder, image: ShownImage) -> ImageRow:
    both = tuple(name for name in (image.a, image.b) if name in study.record.variants)
    others = tuple(name for name in study.record.variants if name not in both)
    shown, folded = (both, others) if both else (others, ())
    name = image.name
    given = (
        Tile(
            "image", f"Test image {name}", _source(study, image.image, is_mask=False), is_mask=False
        ),
        Tile("truth", f"True mask of {name}", _source(study, image.truth, is_mask=True)),
    )
    tiles = (*given, *_predicted(study, image, shown))
    return ImageRow(
        name, image.role, " against ".join(both), tiles, tuple(_predicted(study, image, folded))
    )


def _predicted(study: StudyFolder, image: ShownImage, variants: tuple[str, ...]) -> Iterator[Tile]:
    for variant in variants:
        metric = image.mean_iou.get(variant)
        yield Tile(
            label=variant,
            alt=f"Mask of {image.name} predicted by {variant}",
            source=_source(study, image.predictions.get(variant), is_mask=True),
            metric=metric_text(np.nan if metric is None else metric),
        )


def _source(study: StudyFolder, file: str | None, *, is_mask: bool) -> str:
    count = len(study.images) * (2 + len(study.record.variants))
    side_px = min(256, int((_ALL_TILES_PX / count) ** 0.5))
    image = tile(study, file, is_mask=is_mask, side_px=side_px)
    if image is None:
        return ""
    return encoded(image, "png") if is_mask else encoded(image, "jpeg", quality=88)


def _draw_row(drawing: Drawing, row: ImageRow, columns: dict[str, int], top: int) -> None:
    drawing.text((10, top + 44), row.role, fill="quiet")
    drawing.text((10, top + 60), fitted(row.image, _LEFT - 16))
    for shown in (*row.shown, *row.folded):
        left = _LEFT + _ACROSS * columns[shown.label]
        if not shown.source:
            drawing.text(
                (left + _TILE / 2, top + _TILE / 2), "no image", text_anchor="middle", fill="quiet"
            )
            continue
        drawing.image((left, top), (_TILE, _TILE), shown.source)
        if shown.metric:
            drawing.text((left, top + _TILE + 14), f"mIoU {shown.metric}", fill="quiet")
