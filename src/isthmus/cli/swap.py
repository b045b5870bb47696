"""isthmus swap RUN IMAGES...: one's own images under other labels, as one sample grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags, unread_flag
from isthmus.errors import UserError
from isthmus.recipe.rules import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SwapOptions:
    """Draw your own images again and write them as one sample grid.

    They are resized, and turned grey if the model is: crop them square, and prepare them like the
    training images. A model of MNIST expects white ink on black, centred, with a margin.
    """

    run: tyro.conf.Positional[Path | None] = None
    """Folder of a trained VAE: studies/NAME/runs/VARIANT/seed-0."""
    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Image files."""
    grid: Literal[
        "labels", "swap", "swap_wrong", "reconstruction", "interpolation", "traversal"
    ] = "labels"
    """labels: each image under every label; swap: each under one wrong label; swap_wrong: the same, with
    that label given to the encoder too; reconstruction: each under its own; interpolation: from each to
    the next one; traversal: the first, with one unit of z moved."""
    labels: tuple[str, ...] = ()
    """Names of labels for the grid of labels, "none" for no label (unless a class has that name); left
    out: every label."""
    true: tuple[str, ...] = ()
    """What the images show: one label for all, or one for each; left out: the name of an image's folder,
    where the model has a label of that name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the wrong labels, and the binarisation where the model has one."""
    out: Path = Path("swapped.png")
    """Where the sample grid goes."""

    def __post_init__(self) -> None:
        """Reject a flag that this grid does not read."""
        if self.labels and self.grid != "labels":
            raise ValueError(unread_flag("labels", self.grid, "labels"))


def swap(words: Sequence[str]) -> int:
    """Draw the sample grid that the words describe."""
    (options,) = parse_flags((SwapOptions(),), words, "isthmus swap")
    if options.run is None or not options.images:
        raise UserError("swap takes a model and images: isthmus swap RUN IMAGE.png ...")

    from isthmus.data.store import as_bytes
    from isthmus.report.page import write_figure
    from isthmus.report.sample_grids import label_columns, sample_grid_figure
    from isthmus.tasks.generate.draw import read_images, redrawn_sample_grid, swapped_images
    from isthmus.tasks.generate.sample_grids import conditioned_sides
    from isthmus.tasks.generate.trained_vae import load_vae

    model = load_vae(options.run)
    names = options.labels or model.class_names
    labels = model.labels_named(names)
    images = read_images(model, options.images, options.true)
    if options.grid == "labels":
        rows = as_bytes(swapped_images(model, images, labels, options.seed))
        sources, sides = as_bytes(images.images), conditioned_sides(model.recipe.model)
        figure = label_columns(
            rows, names, sources, images.row_names(model), conditioned_sides=sides
        )
    else:
        arrays = redrawn_sample_grid(model, options.grid, images, options.seed)
        figure = sample_grid_figure(options.grid, arrays, model.class_names)
    print(write_figure(figure, options.out))
    return 0
