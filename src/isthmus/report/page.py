"""The page: one self-contained HTML file that an auxiliary classifier can decide from, offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from isthmus.report import figures, tables, verdict_tables
from isthmus.report.curves_svg import charts
from isthmus.report.effects_figure import effects_figure
from isthmus.report.effects_svg import effects
from isthmus.report.embedded import Drawing, data_uri, write_file
from isthmus.report.formatting import DARK, LIGHT, Paper, class_legend
from isthmus.report.image_tiles import image_groups
from isthmus.report.sample_grid import sample_grid
from isthmus.report.sizes_figure import sizes_figure
from isthmus.report.tuning_table import tuning_table
from isthmus.report.vae_figures import designs, variant_sample_grids
from isthmus.study.folder import StudyFolder, read_study
from isthmus.study.recommendation import interacting, shown_effects

_SECTIONS = {
    "metrics": "Metrics",
    "verdicts": "Verdicts",
    "label_use": "Does it listen?",
    "tuning": "Tuning",
    "classes": "Classes",
    "designs": "Where the label enters",
    "curves": "Learning curves",
    "sample_grids": "What it draws",
    "images": "MaskedImages",
    "cost": "Cost",
    "made": "How this was made",
}
"""Every section's id and its words in the navigation, in the order of the page."""

_TASK_SECTIONS = ("label_use", "designs", "sample_grids", "classes", "images")
"""Sections that only the tasks which name them have."""

Draw = Callable[[StudyFolder, Paper], Figure | None]

_FIGURES: dict[str, Draw] = {
    "effects": effects_figure,
    "learning_curves": figures.learning_curves,
    "sizes": sizes_figure,
    "cost": figures.cost_figure,
    "sample_grid": sample_grid,
}
_IN_PAGE = ("sizes", "cost")
"""Figures the page shows as they are; the others it lays out itself, so that they reflow."""


def write_report(study: Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a study folder; return the page's path.

    The page is a function of the folder and loads nothing from outside itself. What the
    folder lacks is named in its place.

    Raises:
        UserError: If the folder holds no ``study.toml``, or a file in it cannot be read.
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


def _drawn(draw: Draw, study: StudyFolder, paper: Paper) -> bytes:
    """The figure as PNG; empty where there is nothing to draw."""
    figure = draw(study, paper)
    return figures.as_png(figure) if figure else b""


def _html(study: StudyFolder, drawings: dict[str, Drawing]) -> str:
    environment = Environment(
        loader=PackageLoader("isthmus", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    sections = {key: words for key, words in _SECTIONS.items() if _has(study, key)}
    return environment.get_template("page.html.jinja").render(
        study=study,
        record=study.record,
        sections=sections,
        effects=effects(shown_effects(study), study.record),
        interacting=interacting(study),
        tables=tables,
        verdict_tables=verdict_tables,
        tuning_table=tuning_table(study),
        drawings=drawings,
        designs=designs(study) if "designs" in sections else [],
        charts=charts(study),
        sample_grids=variant_sample_grids(study) if "sample_grids" in sections else {},
        groups=image_groups(study),
        legend=class_legend(study.record.class_names),
        light=LIGHT,
        dark=DARK,
    )


def _has(study: StudyFolder, section: str) -> bool:
    """Whether a section belongs to this study, if only to say what is absent."""
    if section == "tuning":
        return not study.tuning.empty
    if section == "verdicts":
        return len(study.record.variants) > 1
    return section not in _TASK_SECTIONS or section in study.record.sections


def _breakable(name: str) -> Markup:
    """A name that may break between an underscore, plus or dot and a letter; no number may.

    >>> _breakable("max-pool_bce<, +.03")
    Markup('max-pool_<wbr>bce&lt;, +.03')
    """
    parts = (escape(part) for part in re.split(r"(?<=[_+.])(?=[^\W\d_])", name))
    return Markup("<wbr>").join(parts)
