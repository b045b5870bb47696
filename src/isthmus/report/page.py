"""The report: one self-contained HTML file that can be read offline."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from isthmus.recipe import IGNORE_INDEX
from isthmus.report import tables, verdict_tables
from isthmus.report.charts import cost_chart, size_charts, sizes_chart
from isthmus.report.curves import curve_charts, learning_curves
from isthmus.report.effects import NARROW, effect_notes, effects_chart
from isthmus.report.figures import designs, variant_sample_grids, write_figures, write_file
from isthmus.report.formatting import DARK, LIGHT, class_legend
from isthmus.report.image_grid import as_png
from isthmus.report.mask_grid import by_role, image_rows, mask_grid
from isthmus.report.svg import Drawing
from isthmus.study.recommendation import interacting
from isthmus.study.study_folder import StudyFolder, read_study

_SECTIONS = {
    "metrics": "Metrics",
    "verdicts": "Verdicts",
    "label_use": "Does it listen?",
    "tuning": "Tuning",
    "classes": "Classes",
    "designs": "Where the label enters",
    "curves": "Learning curves",
    "sample_grids": "Sample grids",
    "images": "Test images",
    "cost": "Cost",
    "made": "How this was made",
}
"""Id of each section -> its name in the navigation, in the order of the report."""

_TASK_SECTIONS = ("label_use", "designs", "sample_grids", "classes", "images")
"""Sections that a report has only if the task of the study lists them in ``sections``."""


def write_report(study: Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a study folder; return the path of the report.

    The report depends only on the content of the folder, and it loads no other files. If something is
    missing in the folder, the report says so in place of it.

    Raises:
        UserError: If the folder holds no ``study.toml``, or a file in it cannot be read.
    """
    folder = read_study(study)
    write_file(folder.report_file, _html(folder).encode())
    return folder.report_file


def write_figure(figure: Drawing, path: Path) -> Path:
    """Write a sample grid as SVG if the suffix of ``path`` is .svg, else as PNG; return ``path``."""
    write_file(path, figure.file() if path.suffix == ".svg" else as_png(figure))
    return path


def _html(study: StudyFolder) -> str:
    environment = Environment(
        loader=PackageLoader("isthmus", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    sections = {key: words for key, words in _SECTIONS.items() if _has(study, key)}
    effects, curves, cost, rows = (
        effects_chart(study),
        curve_charts(study),
        cost_chart(study),
        image_rows(study),
    )
    figures = {"effects": effects, "learning_curves": learning_curves(curves), "cost": cost}
    figures |= {"sizes": sizes_chart(study), "sample_grid": mask_grid(study, rows)}
    write_figures(study, figures)
    return environment.get_template("page.html.jinja").render(
        study=study,
        record=study.record,
        sections=sections,
        effects=(effects, effects_chart(study, NARROW), effect_notes(study)) if effects else (),
        interacting=interacting(study),
        tables=tables,
        verdict_tables=verdict_tables,
        cost=cost,
        sizes=size_charts(study),
        designs=designs(study) if "designs" in sections else [],
        curves=curves,
        sample_grids=variant_sample_grids(study) if "sample_grids" in sections else {},
        groups=by_role(rows),
        class_legend=class_legend(study.record.class_names),
        ignore_index=IGNORE_INDEX,
        light=LIGHT,
        dark=DARK,
    )


def _has(study: StudyFolder, section: str) -> bool:
    """Whether the report of this study has a section, even if the section only says what is missing."""
    if section == "tuning":
        return not study.tuning.empty
    if section == "verdicts":
        return len(study.record.variants) > 1
    return section not in _TASK_SECTIONS or section in study.record.sections


def _breakable(name: str) -> Markup:
    """The name with possible line breaks between an underscore, plus or dot and a letter (not a digit).

    >>> _breakable("max-pool_bce<, +.03")
    Markup('max-pool_<wbr>bce&lt;, +.03')
    """
    parts = (escape(part) for part in re.split(r"(?<=[_+.])(?=[^\W\d_])", name))
    return Markup("<wbr>").join(parts)
