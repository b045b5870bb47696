"""Style of images, that is, appearance other than the label, such as the slant of a digit.

Also whether decoded images keep the style of their source images, and class medoids.
"""

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
"""Number of image dimensions that ``class_medoids`` converts to floats at a time."""


def style_descriptors(
    images: Float[np.ndarray, "n channel height width"],
) -> Float64[np.ndarray, "n descriptor"]:
    """Simple descriptors of style, from images with values in [0, 1].

    Grey images (bright ink on a dark background): ink, the sum of values; slant, the horizontal over
    the vertical extent along the strokes, positive to the right; aspect, width over height after
    removing the slant; thickness, twice the ink over the total variation, which for a long stroke is
    its width in px. Colour images: the mean of each channel, and contrast, the standard deviation of
    brightness over pixels.

    Limits: the descriptors capture little of the style of a digit and almost nothing of the style of
    a photograph; ink and thickness also change with blur. For a blank image, aspect is 1 and the
    other descriptors are 0.
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
    """Mean over descriptors: 1 if style is kept, 0 if it is lost, negative if it is reversed."""
    control: float
    """The metric if sources and outputs are paired at random."""
    per_descriptor: Float64[np.ndarray, " descriptor"]
    n: int
    """Number of images for which another image has the same true and given label."""


def style_kept(
    source_features: Float[np.ndarray, "n descriptor"],
    output_features: Float[np.ndarray, "n descriptor"],
    true: Integer[np.ndarray, " n"],
    given: Integer[np.ndarray, " n"],
    rng: np.random.Generator,
) -> StyleKept:
    """Pearson correlation between sources and outputs with the same labels, mean over descriptors.

    From each descriptor, the mean over images with the same true and given label is subtracted, so
    that the labels alone neither raise nor lower the metric: it is 1 for a decoder that returns the
    source image whatever the label, and 0 for a decoder that returns class means. The correlation of
    a constant descriptor counts as 0. If no two images have the same pair of labels, all results are
    NaN. For ``control``, the residuals of outputs and sources are paired at random with ``rng``.

    Limits: the metric sees only the descriptors, and a linear change of a descriptor (all strokes
    twice as thick) does not reduce it.
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
    """For each class, the row of the image nearest to the class mean in squared distance.

    -1 for a class without images; of equally near images, the first. Reads the images twice in small
    batches, so ``images_u8`` may be a memory map larger than memory.

    Args:
        images_u8: The images.
        labels: 0 .. num_labels-1; an image with a negative label is ignored.
        num_labels: Number of classes.

    >>> class_medoids(np.array([0, 9, 4], np.uint8)[:, None, None, None], np.array([0, 0, 0]), 2)
    array([ 2, -1])
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_labels)
    means = np.zeros((num_labels, images_u8[0].size))
    for _, batch, batch_labels in _batches(images_u8, labels):
        for label in np.unique(batch_labels):
            means[label] += batch[batch_labels == label].sum(axis=0)
    means /= np.maximum(counts, 1)[:, None]
    rows, nearest = np.full(num_labels, -1), np.full(num_labels, np.inf)
    for batch_rows, batch, batch_labels in _batches(images_u8, labels):
        distances = ((batch - means[batch_labels]) ** 2).sum(axis=1)
        for row, label, distance in zip(batch_rows, batch_labels, distances, strict=True):
            if distance < nearest[label]:
                rows[label], nearest[label] = row, distance
    return rows


def _total_variation(grey: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, " n"]:
    """Sum of gradient magnitudes; for sharp shapes, about the length of the outline in px."""
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
    """Features minus the mean of their cell; exactly 0 if only rounding error is left."""
    sums = np.zeros((cells.max() + 1, features.shape[1]))
    np.add.at(sums, cells, features)
    centred = features - (sums / np.bincount(cells)[:, None])[cells]
    return np.where(np.abs(centred) > 1e-9 * np.abs(features).max(axis=0), centred, 0.0)


def _correlation(
    a: Float64[np.ndarray, "n descriptor"], b: Float64[np.ndarray, "n descriptor"]
) -> Float64[np.ndarray, " descriptor"]:
    """Correlation of centred columns; 0 if a column is constant."""
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, 1))


def _batches(
    images_u8: UInt8[np.ndarray, "n height width channel"], labels: Integer[np.ndarray, " n"]
) -> Iterator[
    tuple[Int64[np.ndarray, " b"], Float64[np.ndarray, "b value"], Integer[np.ndarray, " b"]]
]:
    """Batches of rows, flattened images and labels, without images that have a negative label."""
    size = images_u8[0].size
    step = max(1, _VALUES // size)
    for start in range(0, len(labels), step):
        rows = start + np.flatnonzero(labels[start : start + step] >= 0)
        yield rows, images_u8[rows].reshape(len(rows), size).astype(np.float64), labels[rows]
