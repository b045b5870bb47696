"""The page: one self-contained HTML file that a reader can decide from, offline."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from isthmus.report import figures, tables
from isthmus.report.embedded import Drawing, data_uri, write_file
from isthmus.report.look import DARK, LIGHT, Paper, class_legend, score_text
from isthmus.report.notices import OBEYED, headline, notices, obeying, yardsticks
from isthmus.report.read import Picture, Study, read_study
from isthmus.report.sheet import score_of, sheet, tile
from isthmus.report.vae_figures import designs, variant_sheets

_SECTIONS = {
    "listening": "Does it listen?",
    "scores": "Scores",
    "designs": "Where the label enters",
    "classes": "Classes",
    "curves": "Learning curves",
    "sheets": "What it draws",
    "pictures": "Pictures",
    "cost": "Cost",
    "made": "How this was made",
}
"""Every section's id and its words in the navigation, in the order of the page."""

_ONLY = {
    "listening": "generate",
    "designs": "generate",
    "sheets": "generate",
    "classes": "segment",
    "pictures": "segment",
}
"""Sections that one task only has."""

_ROLES = {
    "typical": "Typical: spread evenly over the test set, whatever came out",
    "hardest": "Hardest: the lowest mean IoU over all variants",
    "easiest": "Easiest: the highest mean IoU over all variants",
}
Draw = Callable[[Study, Paper], Figure | None]

_FIGURES: dict[str, Draw] = {
    "learning_curves": figures.learning_curves,
    "cost": figures.cost_figure,
    "sheet": sheet,
}
_IN_PAGE = ("learning_curves", "cost")
"""Figures the page shows as they are; the sheet it lays out itself, so that it reflows."""

_ALL_TILES_PX = 6_000_000
"""Pixels of all tiles together: keeps the page below 5 MB however many variants there are."""


@dataclass(frozen=True)
class Tile:
    """One captioned picture of the sheet; without a ``source`` it is a hole."""

    label: str
    alt: str
    source: str
    score: str = ""


def write_report(study: Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a study folder; return the page's path.

    The page is a function of the folder and loads nothing from outside itself. What the
    folder lacks is named in its place.

    Raises:
        Refusal: If the folder holds no ``plan.toml``, or a file in it cannot be read.
    """
    content = read_study(study)
    light = {name: _drawn(draw, content, LIGHT) for name, draw in _FIGURES.items()}
    dark = {name: _drawn(_FIGURES[name], content, DARK) for name in _IN_PAGE}
    for name, png in light.items():
        write_file(study / "figures" / f"{name}.png", png)
    drawings = {
        name: Drawing(data_uri(light[name], "png"), data_uri(dark[name], "png"))
        for name in _IN_PAGE
    }
    page = study / "report.html"
    write_file(page, _html(content, drawings).encode())
    return page


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; return where it lies."""
    write_file(path, figures.as_png(figure))
    return path


def _drawn(draw: Draw, study: Study, paper: Paper) -> bytes:
    """The figure as PNG; empty where there is nothing to draw."""
    figure = draw(study, paper)
    return figures.as_png(figure) if figure else b""


def _html(study: Study, drawings: dict[str, Drawing]) -> str:
    environment = Environment(
        loader=PackageLoader("isthmus", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    sections = {
        key: words
        for key, words in _SECTIONS.items()
        if _ONLY.get(key, study.about.task) == study.about.task
    }
    return environment.get_template("page.html.jinja").render(
        study=study,
        about=study.about,
        sections=sections,
        headline=headline(study),
        notices=notices(study),
        obeyed=OBEYED,
        obeying=obeying(study),
        yardsticks=yardsticks(study),
        tables=tables,
        drawings=drawings,
        designs=designs(study) if "designs" in sections else [],
        sheets=variant_sheets(study) if "sheets" in sections else {},
        groups=list(_groups(study)),
        legend=class_legend(study.about.class_names),
        light=LIGHT,
        dark=DARK,
    )


def _groups(study: Study) -> Iterator[tuple[str, list[tuple[str, list[Tile]]]]]:
    """Heading, then pictures with their tiles, for each role that has a picture."""
    roles = dict.fromkeys((*_ROLES, *(picture.role for picture in study.pictures)))
    for role in roles:
        chosen = [picture for picture in study.pictures if picture.role == role]
        if chosen:
            rows = [(picture.picture, list(_tiles(study, picture))) for picture in chosen]
            yield _ROLES.get(role, role), rows


def _tiles(study: Study, picture: Picture) -> Iterator[Tile]:
    name = picture.picture
    yield Tile("picture", f"Test picture {name}", _source(study, picture.image, is_mask=False))
    yield Tile("truth", f"True mask of {name}", _source(study, picture.truth, is_mask=True))
    for variant in study.about.variants:
        yield Tile(
            label=variant,
            alt=f"Mask of {name} predicted by {variant}",
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


def _breakable(name: str) -> Markup:
    """A name that may break after each underscore, plus or dot.

    >>> _breakable("max-pool_bce<")
    Markup('max-pool_<wbr>bce&lt;')
    """
    parts = (escape(part) for part in re.split(r"(?<=[_+.])", name))
    return Markup("<wbr>").join(parts)
