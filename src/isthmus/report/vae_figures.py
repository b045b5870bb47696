"""The figures of a study of VAEs: every variant's sample grids and design, written and embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from isthmus.report.architecture import LABEL_CONSISTENCY, READ, architecture_figure
from isthmus.report.class_sample_grids import SAMPLE_GRIDS, title_of
from isthmus.report.embedded import Drawing, as_webp, data_uri, write_file
from isthmus.report.figures import as_png
from isthmus.report.formatting import DARK, DPI, LIGHT
from isthmus.study.folder import StudyFolder

MOST_DESIGNS = 6
"""As many designs stand on the page; all are written as files."""

_SAMPLE_GRIDS_BYTES = 2_800_000
"""Of all sample grids in the page: keeps it below 5 MB however many variants there are."""
_DESIGN_BYTES = 60_000
_FUSION = "model.conditioning"


@dataclass(frozen=True)
class Shown:
    """A figure in the page, and the variants it stands for."""

    names: tuple[str, ...]
    drawing: Drawing
    alt: str
    width_px: int


def variant_sample_grids(study: StudyFolder) -> dict[str, list[Shown]]:
    """Write every variant's sample grids; embed kind after kind while all variants' sample grids fit.

    So every variant shows the same kinds, the swap sample grid first, and a study with many
    variants shows fewer.
    """
    variants, names = study.record.variants, study.record.class_names
    arrays = {variant: study.sample_grids_of(variant) for variant in variants}
    shown: dict[str, list[Shown]] = {variant: [] for variant in variants}
    left, most = _SAMPLE_GRIDS_BYTES, _SAMPLE_GRIDS_BYTES // (3 * max(1, len(variants)))
    for kind, draw in SAMPLE_GRIDS.items():
        figures = {variant: draw(arrays[variant], names, LIGHT) for variant in variants}
        light = _written(study, {f"{variant}_{kind}": figures[variant] for variant in variants})
        if left <= 0:
            continue
        embedded = [data_uri(as_webp(png, most), "webp") for png in light]
        left -= 2 * sum(map(len, embedded))  # the dark ones are as large
        for variant, uri in zip(variants, embedded, strict=True):
            figure = figures[variant]
            if left > 0 and figure:
                dark = as_png(draw(arrays[variant], names, DARK) or figure)
                drawing = Drawing(uri, data_uri(as_webp(dark, most), "webp"))
                title, width_px = title_of(kind, arrays[variant]), figure.get_figwidth() * DPI
                shown[variant].append(
                    Shown(
                        (variant,), drawing, f"{title}: sample grid of {variant}", round(width_px)
                    )
                )
    return shown


def designs(study: StudyFolder) -> list[Shown]:
    """Write every variant's design; embed each design that looks different, with its variants."""
    recipes = {variant: study.recipe_of(variant) for variant in study.record.variants}
    known = {v: recipe for v, recipe in recipes.items() if all(key in recipe for key in READ)}
    drawn = {v: architecture_figure(known[v]) if v in known else None for v in recipes}
    written = _written(study, {f"architecture_{v}": figure for v, figure in drawn.items()})
    light = dict(zip(recipes, written, strict=True))
    sharing: dict[tuple[str, ...], list[str]] = {}
    for variant, recipe in known.items():
        sharing.setdefault(_look(recipe), []).append(variant)
    return [
        _design(tuple(variants), known[variants[0]], light[variants[0]])
        for variants in list(sharing.values())[:MOST_DESIGNS]
    ]


def _look(recipe: dict[str, Any]) -> tuple[str, ...]:
    """What tells its drawing from others."""
    return (
        _conditioning(recipe),
        *(str(recipe.get(k)) for k in (*READ, LABEL_CONSISTENCY) if k != _FUSION),
    )


def _conditioning(recipe: dict[str, Any]) -> str:
    """As it is drawn: where no side is told, not at all."""
    return "" if recipe["model.condition_on"] == "none" else str(recipe[_FUSION])


def _design(variants: tuple[str, ...], recipe: dict[str, Any], light: bytes) -> Shown:
    figure = architecture_figure(recipe, DARK)
    uris = [data_uri(as_webp(png, _DESIGN_BYTES), "webp") for png in (light, as_png(figure))]
    conditioning, label_use = _conditioning(recipe), recipe.get(LABEL_CONSISTENCY)
    enters = (
        f"enters {recipe['model.condition_on']} by {conditioning}"
        if conditioning
        else "is told to no side"
    )
    words = f"the label {enters}; prior {recipe['model.prior']}"
    words += f"; invariance {recipe['objective.invariance']}"
    words += (
        f"; the auxiliary classifier's loss weighs {label_use}" if label_use is not None else ""
    )
    alt = f"Design of {', '.join(variants)}: {words}"
    return Shown(variants, Drawing(*uris), alt, round(figure.get_figwidth() * DPI))


def _written(study: StudyFolder, figures: dict[str, Figure | None]) -> list[bytes]:
    """Each figure as PNG, written under its name; empty, and no file, where there is none."""
    drawn = {name: as_png(figure) if figure else b"" for name, figure in figures.items()}
    for name, png in drawn.items():
        write_file(study.path / "figures" / f"{name}.png", png)
    return list(drawn.values())
