"""The figures of a study: embedded in the report, and written as files into ``figures/``."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from isthmus.engine.run_folder import write_atomically
from isthmus.report.architecture import READ, architecture_drawing
from isthmus.report.sample_grids import KINDS, sample_grid
from isthmus.report.svg import Drawing, encoded
from isthmus.study.study_folder import StudyFolder

MOST_DESIGNS = 6
"""Largest number of diagrams in the report; all diagrams are written as files."""

_SAMPLE_GRIDS_BYTES = 2_800_000
"""Largest total size of the sample grids in the report; keeps the report below 5 MB."""
_WEBP_QUALITY = 75
"""WebP quality of images that are too large with lossless compression."""


@dataclass(frozen=True)
class Design:
    """A diagram of a VAE, and the variants with this diagram."""

    names: tuple[str, ...]
    drawing: Drawing


def write_figures(study: StudyFolder, drawings: dict[str, Drawing | None]) -> None:
    """Write each drawing as ``figures/NAME.svg``; delete that file if the drawing is None."""
    for name, drawing in drawings.items():
        path = study.path / "figures" / f"{name}.svg"
        if drawing:
            write_file(path, drawing.file())
        else:
            path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    write_atomically(path, lambda file: file.write_bytes(content))


def variant_sample_grids(study: StudyFolder) -> dict[str, list[Markup]]:
    """Write the sample grids of every variant, and return the sample grids to embed in the report.

    Kinds are embedded one after another, the most informative kind first, as long as the sample grids
    of all variants fit into the report. So the report shows the same kinds for every variant, and
    fewer kinds if there are many variants.
    """
    variants, names = study.record.variants, study.record.class_names
    arrays = {variant: study.sample_grids_of(variant) for variant in variants}
    shown: dict[str, list[Markup]] = {variant: [] for variant in variants}
    left, most = _SAMPLE_GRIDS_BYTES, _SAMPLE_GRIDS_BYTES // (2 * max(1, len(variants)))
    for kind in KINDS:
        drawings = {variant: sample_grid(kind, arrays[variant], names) for variant in variants}
        write_figures(study, {f"{variant}_{kind}": of for variant, of in drawings.items()})
        embedded = {v: _embedded(of, v, most) for v, of in drawings.items() if of and left > 0}
        left -= sum(map(len, embedded.values()))
        for variant, drawing in embedded.items():
            if left > 0:
                shown[variant].append(drawing)
    return shown


def designs(study: StudyFolder) -> list[Design]:
    """Write the diagram of every variant; return the different diagrams, each with its variants."""
    recipes = {variant: study.recipe_of(variant) for variant in study.record.variants}
    drawings = {
        variant: architecture_drawing(recipe) if all(key in recipe for key in READ) else None
        for variant, recipe in recipes.items()
    }
    write_figures(study, {f"architecture_{variant}": of for variant, of in drawings.items()})
    alike: dict[tuple[str, ...], Design] = {}
    for variant, drawing in drawings.items():
        if drawing:
            key = (drawing.label, *drawing.parts)
            names = (*alike[key].names, variant) if key in alike else (variant,)
            alike[key] = Design(names, drawing)
    shown = list(alike.values())[:MOST_DESIGNS]
    for design in shown:
        design.drawing.label = f"Design of {', '.join(design.names)}: {design.drawing.label}"
    return shown


def _embedded(drawing: Drawing, variant: str, most: int) -> Markup:
    """A sample grid for the report; its images are lossless if it then has at most ``most`` bytes."""
    drawing.label = f"{drawing.label}: sample grid of {variant}"
    inline = drawing.inline()
    return (
        inline
        if len(inline) <= most
        else Markup(re.sub(r"data:image/png;base64,([\w+/=]+)", _as_webp, inline))
    )


def _as_webp(png: re.Match[str]) -> str:
    with Image.open(io.BytesIO(base64.b64decode(png[1]))) as opened:
        return min(png[0], encoded(opened.convert("RGBA"), "webp", quality=_WEBP_QUALITY), key=len)
