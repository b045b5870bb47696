"""Style of images: how the label is shown, not which. Whether an output keeps it; class medoids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer, UInt8

from isthmus.errors import UserError
from isthmus.metrics.generation import check_shapes

GREY_DESCRIPTORS = ("ink", "slant", "aspect", "thickness")
COLOUR_DESCRIPTORS = ("mean red", "mean green", "mean blue", "contrast")
"""Columns of ``style_descriptors`` for images of 1 and of 3 channels."""
_VALUES = 2**20
"""Values of images that ``class_medoids`` converts to floats at a time."""


def style_descriptors(
    images: Float[np.ndarray, "n channel height width"],
) -> Float64[np.ndarray, "n descriptor"]:
    """Simple descriptors of style, from images with values in [0, 1].

    Grey, with bright ink on a dark background: the sum of values; the slant, horizontal over
    vertical extent along the strokes, positive to the right; width over height after removing the
    slant; the thickness, twice the ink over the total variation, which for a long stroke is its
    width in px. Colour: the mean of each channel and the standard deviation of brightness over pixels.

    Limits: they describe little of the style of a digit and almost nothing of a photograph's; ink
    and thickness also change with blur. A blank image has aspect 1 and 0 otherwise.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"images have {images.shape[1]} channels: style descriptors need 1 (grey) or 3 (colour); "
            "convert them"
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
    """Correlation of the style descriptors of outputs with those of their source images."""

    metric: float
    """Mean over descriptors: 1 is kept, 0 is lost, below 0 is reversed."""
    control: float
    """The metric when sources and outputs are paired at random."""
    per_descriptor: Float64[np.ndarray, " descriptor"]
    n: int
    """Images that share their true and given label with another image."""


def style_kept(
    source_features: Float[np.ndarray, "n descriptor"],
    output_features: Float[np.ndarray, "n descriptor"],
    true: Integer[np.ndarray, " n"],
    given: Integer[np.ndarray, " n"],
    rng: np.random.Generator,
) -> StyleKept:
    """Pearson correlation of source and output within pairs of labels, mean over descriptors.

    The mean over images with the same true and given label is subtracted, so labels alone neither
    raise nor lower the metric: it is 1 for a decoder that ignores the label, and 0 for one that
    returns class means. A constant descriptor counts as 0. If no two images share both labels,
    everything is NaN. ``control`` pairs the residuals of outputs and sources at random, by ``rng``.

    Limits: only the descriptors count, and a linear change of one (all strokes twice as thick)
    costs nothing.
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


def class_medoids(
    images_u8: UInt8[np.ndarray, "n height width channel"],
    labels: Integer[np.ndarray, " n"],
    num_labels: int,
) -> Int64[np.ndarray, " label"]:
    """Row of each class's image nearest to the class mean (squared distance); -1 without images.

    Of several nearest images the first. Reads the images twice in small batches, so they may be a
    memory map larger than memory.

    Args:
        images_u8: The images.
        labels: 0 .. num_labels-1; negative: the image is ignored.
        num_labels: Number of classes.

    >>> class_medoids(np.array([0, 9, 4], np.uint8)[:, None, None, None], np.array([0, 0, 0]), 2)
    array([ 2, -1])
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_labels)
    means = np.zeros((num_labels, images_u8[0].size))
    for _, batch, of_batch in _batches(images_u8, labels):
        for label in np.unique(of_batch):
            means[label] += batch[of_batch == label].sum(axis=0)
    means /= np.maximum(counts, 1)[:, None]
    rows, nearest = np.full(num_labels, -1), np.full(num_labels, np.inf)
    for found, batch, of_batch in _batches(images_u8, labels):
        distances = ((batch - means[of_batch]) ** 2).sum(axis=1)
        for row, label, distance in zip(found, of_batch, distances, strict=True):
            if distance < nearest[label]:
                rows[label], nearest[label] = row, distance
    return rows


def _total_variation(grey: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, " n"]:
    """Sum of gradient magnitudes: for sharp shapes about the length of the outline in px."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)))
    here = padded[:, :-1, :-1]
    down, right = padded[:, 1:, :-1] - here, padded[:, :-1, 1:] - here
    return np.asarray(np.hypot(down, right).sum(axis=(1, 2)))


def _slant_and_aspect(
    grey: Float64[np.ndarray, "n h w"], ink: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Slant and aspect from second moments in px; 1/12 is the variance within a pixel."""
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
    """Features minus the mean of their cell; exactly 0 where only rounding error is left."""
    sums = np.zeros((cells.max() + 1, features.shape[1]))
    np.add.at(sums, cells, features)
    centred = features - (sums / np.bincount(cells)[:, None])[cells]
    return np.where(np.abs(centred) > 1e-9 * np.abs(features).max(axis=0), centred, 0.0)


def _correlation(
    a: Float64[np.ndarray, "n descriptor"], b: Float64[np.ndarray, "n descriptor"]
) -> Float64[np.ndarray, " descriptor"]:
    """Correlation of centred columns; 0 where one is constant."""
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, 1))


def _batches(
    images_u8: UInt8[np.ndarray, "n height width channel"], labels: Integer[np.ndarray, " n"]
) -> Iterator[
    tuple[Int64[np.ndarray, " b"], Float64[np.ndarray, "b value"], Integer[np.ndarray, " b"]]
]:
    """Rows, flattened images and labels, where the label is not negative."""
    size = images_u8[0].size
    step = max(1, _VALUES // size)
    for start in range(0, len(labels), step):
        rows = start + np.flatnonzero(labels[start : start + step] >= 0)
        yield rows, images_u8[rows].reshape(len(rows), size).astype(np.float64), labels[rows]
