"""Whether an image that is drawn again keeps its style: how, not what, it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from isthmus.errors import UserError
from isthmus.metrics.generation import check_shapes

GREY_DESCRIPTORS = ("ink", "slant", "aspect", "thickness")
COLOUR_DESCRIPTORS = ("mean red", "mean green", "mean blue", "contrast")
"""What the columns of ``style_descriptors`` are, for images of 1 and of 3 channels."""


def style_descriptors(
    images: Float[np.ndarray, "n channel height width"],
) -> Float64[np.ndarray, "n descriptor"]:
    """Simple measures of how, not what, an image shows, from values in [0, 1].

    Grey, with bright ink on dark paper: the sum of values; the slant, horizontal over vertical
    way along the strokes, positive to the right; width over height once the slant is undone; the
    thickness, twice the ink over the total variation, which for a long stroke is its width in
    px. Colour: the mean of each channel and the standard deviation of brightness over pixels.

    Limits: they see little of the style of a digit and next to nothing of a photograph's; ink
    and thickness also change with blur. A blank image has aspect 1 and all else 0.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"images have {images.shape[1]} channels: style is described of 1 (grey) or 3 "
            "(colour); convert them"
        )
    if images.shape[1] == 3:
        contrast = images.mean(axis=1, dtype=np.float64).std(axis=(1, 2))
        return np.column_stack([images.mean(axis=(2, 3), dtype=np.float64), contrast])
    grey = images[:, 0].astype(np.float64)
    ink = grey.sum(axis=(1, 2))
    thickness = 2 * ink / np.maximum(_total_variation(grey), np.finfo(np.float64).tiny)
    return np.column_stack([ink, *_slant_and_aspect(grey, ink), thickness])


@dataclass(frozen=True)
class StyleKept:
    """How closely style descriptors of outputs follow those of their sources."""

    metric: float
    """Mean over descriptors: 1 is kept exactly, 0 is lost, below 0 is reversed."""
    control: float
    """The metric where each source is paired with the output of another one at random."""
    per_descriptor: Float64[np.ndarray, " descriptor"]
    n: int
    """Images that share their true and given label with another one."""


def style_kept(
    source_features: Float[np.ndarray, "n descriptor"],
    output_features: Float[np.ndarray, "n descriptor"],
    true: Integer[np.ndarray, " n"],
    given: Integer[np.ndarray, " n"],
    rng: np.random.Generator,
) -> StyleKept:
    """Pearson correlation of source and output within pairs of labels, mean over descriptors.

    What images of one true and one given label have in common is subtracted, so labels alone
    neither raise nor lower the metric: a decoder that ignores the label metrics 1 (it also
    stays), one that paints class means 0. A descriptor that does not vary metrics 0. Where no
    two images share both labels, everything is NaN.
    ``control`` pairs what is left of outputs and sources at random, by ``rng``.

    Limits: only what the descriptors see counts, and a linear change of one (all strokes twice
    as thick) costs nothing.
    """
    check_shapes(true, given, source_features, output_features)
    pairs = true.astype(np.int64) * (int(given.max(initial=0)) + 1) + given
    cells, sizes = np.unique(pairs, return_inverse=True, return_counts=True)[1:]
    if sizes.max(initial=0) < 2:
        return StyleKept(np.nan, np.nan, np.full(source_features.shape[1], np.nan), n=0)
    source, output = _within(source_features, cells), _within(output_features, cells)
    kept = _correlation(source, output)
    return StyleKept(
        metric=float(kept.mean()),
        control=float(_correlation(source, rng.permutation(output)).mean()),
        per_descriptor=kept,
        n=int(sizes[sizes > 1].sum()),
    )


def _total_variation(grey: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, " n"]:
    """Sum of gradient lengths: of sharp shapes, about the length of their outline in px."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)))
    here = padded[:, :-1, :-1]
    down, right = padded[:, 1:, :-1] - here, padded[:, :-1, 1:] - here
    return np.asarray(np.hypot(down, right).sum(axis=(1, 2)))


def _slant_and_aspect(
    grey: Float64[np.ndarray, "n h w"], ink: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """From second moments in px; 1/12 is the variance within a pixel."""
    weights = grey / np.maximum(ink, np.finfo(np.float64).tiny)[:, None, None]
    up, right = -np.arange(grey.shape[1])[:, None], np.arange(grey.shape[2])
    up_off = up - (weights * up).sum(axis=(1, 2))[:, None, None]
    right_off = right - (weights * right).sum(axis=(1, 2))[:, None, None]
    height = (weights * up_off**2).sum(axis=(1, 2)) + 1 / 12
    width = (weights * right_off**2).sum(axis=(1, 2)) + 1 / 12
    slant = (weights * up_off * right_off).sum(axis=(1, 2)) / height
    return slant, np.sqrt((width - slant**2 * height) / height)


def _within(
    features: Float[np.ndarray, "n descriptor"], cells: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n descriptor"]:
    """Features less the mean of their cell; exactly 0 where only rounding is left."""
    sums = np.zeros((cells.max() + 1, features.shape[1]))
    np.add.at(sums, cells, features)
    centred = features - (sums / np.bincount(cells)[:, None])[cells]
    return np.where(np.abs(centred) > 1e-9 * np.abs(features).max(axis=0), centred, 0.0)


def _correlation(
    a: Float64[np.ndarray, "n descriptor"], b: Float64[np.ndarray, "n descriptor"]
) -> Float64[np.ndarray, " descriptor"]:
    """Of centred columns; 0 where one does not vary."""
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, 1))
