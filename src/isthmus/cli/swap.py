"""isthmus swap RUN IMAGES...: decode your own images with other labels, as one sample grid."""

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
    """Encode your own images, decode them with other labels, and write the result as one sample grid.

    The images are resized, and converted to grey if the model was trained on grey images: crop them to
    squares, and prepare them like the training images. A model trained on MNIST expects white digits on
    black, centred, with a margin.
    """

    run: tyro.conf.Positional[Path | None] = None
    """Folder of a trained VAE: studies/NAME/runs/VARIANT/seed-0."""
    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Image files."""
    grid: Literal[
        "labels", "swap", "swap_wrong", "reconstruction", "interpolation", "traversal"
    ] = "labels"
    """labels: each image decoded with every label; swap: each image decoded with one wrong label;
    swap_wrong: as swap, and the encoder is also given the wrong label; reconstruction: each image decoded
    with its true label; interpolation: from each image to the next image; traversal: the first image,
    with one dimension of z changed at a time."""
    labels: tuple[str, ...] = ()
    """Names of labels for --grid labels, or "none" for no label (unless a class has that name); if
    omitted, every label."""
    true: tuple[str, ...] = ()
    """True labels of the images: one label for all images, or one label per image; if omitted, the name
    of the folder of each image, if the model has a label of that name."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the wrong labels and, if the model binarises its inputs, of the binarisation."""
    out: Path = Path("swapped.png")
    """File to which the sample grid is written."""

    def __post_init__(self) -> None:
        """Reject a flag that has no effect with this grid."""
        if self.labels and self.grid != "labels":
            raise ValueError(unread_flag("labels", self.grid, "labels"))


def swap(words: Sequence[str]) -> int:
    """Write the sample grid that the command line describes."""
    (options,) = parse_flags((SwapOptions(),), words, "isthmus swap")
    if options.run is None or not options.images:
        raise UserError(
            "swap needs the folder of a trained VAE and images: isthmus swap RUN IMAGE.png ..."
        )

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
