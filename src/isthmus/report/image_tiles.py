"""The test images as the page lays them out: image, truth and every variant's mask."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from isthmus.metrics.wording import metric_text
from isthmus.report.embedded import data_uri
from isthmus.report.sample_grid import metric_of, tile
from isthmus.study.folder import StudyFolder
from isthmus.study.records import ShownImage

_ROLES = {
    "differing": "Where two variants differ most",
    "typical": "Typical: spread evenly over the test set, whatever came out",
    "hardest": "Hardest: the lowest mean IoU over all variants",
    "easiest": "Easiest: the highest mean IoU over all variants",
}

_ALL_TILES_PX = 6_000_000
"""Pixels of all tiles together: keeps the page below 5 MB however many variants there are."""


@dataclass(frozen=True)
class Tile:
    """One captioned image of the sample grid; without a ``source`` it is a hole."""

    label: str
    alt: str
    source: str
    is_mask: bool = True
    metric: str = ""


@dataclass(frozen=True)
class Tiles:
    """One test image: the tiles in view, and those that fold away."""

    image: str
    note: str
    shown: tuple[Tile, ...]
    folded: tuple[Tile, ...]


def image_groups(study: StudyFolder) -> tuple[tuple[str, tuple[Tiles, ...]], ...]:
    """Heading, then images with their tiles, for each role that has an image."""
    roles = dict.fromkeys((*_ROLES, *(image.role for image in study.images)))
    return tuple(
        (_ROLES.get(role, role), chosen)
        for role in roles
        if (chosen := tuple(_tiles(study, p) for p in study.images if p.role == role))
    )


def _tiles(study: StudyFolder, image: ShownImage) -> Tiles:
    """All tiles; where two variants are compared, the masks of the others fold away."""
    both = tuple(name for name in (image.a, image.b) if name in study.record.variants)
    others = tuple(name for name in study.record.variants if name not in both)
    shown, folded = (both, others) if both else (others, ())
    return Tiles(
        image.name,
        " against ".join(both),
        (*_given(study, image), *_predicted(study, image, shown)),
        tuple(_predicted(study, image, folded)),
    )


def _given(study: StudyFolder, image: ShownImage) -> Iterator[Tile]:
    name = image.name
    source = _source(study, image.image, is_mask=False)
    yield Tile("image", f"Test image {name}", source, is_mask=False)
    yield Tile("truth", f"True mask of {name}", _source(study, image.truth, is_mask=True))


def _predicted(study: StudyFolder, image: ShownImage, variants: tuple[str, ...]) -> Iterator[Tile]:
    for variant in variants:
        yield Tile(
            label=variant,
            alt=f"Mask of {image.name} predicted by {variant}",
            source=_source(study, image.predictions.get(variant), is_mask=True),
            metric=metric_text(metric_of(image, variant)),
        )


def _source(study: StudyFolder, file: str | None, *, is_mask: bool) -> str:
    count = len(study.images) * (2 + len(study.record.variants))
    side_px = min(256, int((_ALL_TILES_PX / count) ** 0.5))
    image = tile(study, file, is_mask=is_mask, side_px=side_px)
    return _encoded(image, "png" if is_mask else "jpeg") if image else ""


def _encoded(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), optimize=True, quality=88)
    return data_uri(buffer.getvalue(), kind)
