"""isthmus generate RUN: generate images by label, as one sample grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags, unread_flag
from isthmus.errors import UserError
from isthmus.recipe.rules import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerateOptions:
    """Generate images by label and write them as one sample grid."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder of a trained VAE: studies/NAME/runs/VARIANT/seed-0."""
    grid: Literal["labels", "random", "unconditional"] = "labels"
    """labels: one column per label and one row per latent style; random: 25 images, each with one of the
    labels drawn at random; unconditional: 25 images without a label."""
    labels: tuple[str, ...] = ()
    """Names of labels, or "none" for no label (unless a class has that name); if omitted, every label."""
    count: Positive = 5
    """Rows of the sample grid of labels."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the latent styles and, with --grid random, of the labels."""
    out: Path = Path("generated.png")
    """File to which the sample grid is written."""

    def __post_init__(self) -> None:
        """Reject flags that have no effect with this grid."""
        if self.labels and self.grid == "unconditional":
            raise ValueError(unread_flag("labels", self.grid, "labels or random"))
        if self.count != GenerateOptions.count and self.grid != "labels":
            raise ValueError(unread_flag("count", self.grid, "labels"))


def generate(words: Sequence[str]) -> int:
    """Generate the sample grid that the command line describes."""
    (options,) = parse_flags((GenerateOptions(),), words, "isthmus generate")
    if options.run is None:
        raise UserError(
            "generate needs the folder of a trained VAE: "
            "isthmus generate studies/NAME/runs/VARIANT/seed-0"
        )
    import numpy as np

    from isthmus.data.store import as_bytes
    from isthmus.report.page import write_figure
    from isthmus.report.sample_grids import label_columns, sample_grid_figure
    from isthmus.tasks.generate.draw import drawn_sample_grid, generated
    from isthmus.tasks.generate.sample_grids import conditioned_sides
    from isthmus.tasks.generate.trained_vae import load_vae

    model = load_vae(options.run)
    names = options.labels or model.class_names
    labels = model.labels_named(names)
    if options.grid == "labels":
        columns = [generated(model, np.full(options.count, of), options.seed) for of in labels]
        sides = conditioned_sides(model.recipe.model)
        figure = label_columns(as_bytes(np.stack(columns, axis=1)), names, conditioned_sides=sides)
    else:
        arrays = drawn_sample_grid(model, options.grid, np.array(labels), options.seed)
        figure = sample_grid_figure(options.grid, arrays, model.class_names)
    print(write_figure(figure, options.out))
    return 0
