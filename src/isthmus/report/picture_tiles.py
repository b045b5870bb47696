"""The test pictures as the page lays them out: picture, truth and every variant's mask."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from isthmus.report.embedded import data_uri
from isthmus.report.look import score_text
from isthmus.report.read import Picture, Study
from isthmus.report.sheet import score_of, tile

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
    """One captioned picture of the sheet; without a ``source`` it is a hole."""

    label: str
    alt: str
    source: str
    is_mask: bool = True
    score: str = ""


@dataclass(frozen=True)
class Tiles:
    """One test picture: the tiles in view, and those that fold away."""

    picture: str
    note: str
    shown: tuple[Tile, ...]
    folded: tuple[Tile, ...]


def picture_groups(study: Study) -> tuple[tuple[str, tuple[Tiles, ...]], ...]:
    """Heading, then pictures with their tiles, for each role that has a picture."""
    roles = dict.fromkeys((*_ROLES, *(picture.role for picture in study.pictures)))
    return tuple(
        (_ROLES.get(role, role), chosen)
        for role in roles
        if (chosen := tuple(_tiles(study, p) for p in study.pictures if p.role == role))
    )


def _tiles(study: Study, picture: Picture) -> Tiles:
    """All tiles; where two variants are compared, the masks of the others fold away."""
    both = tuple(name for name in (picture.a, picture.b) if name in study.about.variants)
    others = tuple(name for name in study.about.variants if name not in both)
    shown, folded = (both, others) if both else (others, ())
    return Tiles(
        picture.picture,
        " against ".join(both),
        (*_given(study, picture), *_predicted(study, picture, shown)),
        tuple(_predicted(study, picture, folded)),
    )


def _given(study: Study, picture: Picture) -> Iterator[Tile]:
    name = picture.picture
    source = _source(study, picture.image, is_mask=False)
    yield Tile("picture", f"Test picture {name}", source, is_mask=False)
    yield Tile("truth", f"True mask of {name}", _source(study, picture.truth, is_mask=True))


def _predicted(study: Study, picture: Picture, variants: tuple[str, ...]) -> Iterator[Tile]:
    for variant in variants:
        yield Tile(
            label=variant,
            alt=f"Mask of {picture.picture} predicted by {variant}",
            source=_source(study, picture.predictions.get(variant), is_mask=True),
            score=score_text(score_of(picture, variant)),
        )


def _source(study: Study, file: str | None, *, is_mask: bool) -> str:
    count = len(study.pictures) * (2 + len(study.about.variants))
    side_px = min(256, int((_ALL_TILES_PX / count) ** 0.5))
    picture = tile(study, file, is_mask=is_mask, side_px=side_px)
    return _encoded(picture, "png" if is_mask else "jpeg") if picture else ""


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), optimize=True, quality=88)
    return data_uri(buffer.getvalue(), kind)
