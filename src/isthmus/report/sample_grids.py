"""Sample grids: images decoded by a VAE, with the labels that they were conditioned on.

``KINDS`` lists the kinds of sample grids. Each kind shows some arrays of ``sample_grids.npz``, with
words; without these arrays, it has no drawing. The null label is called "no label"; a negative label is
unknown and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8

from isthmus.report.axes import MINUS
from isthmus.report.image_grid import ImageGrid, drawn_grid
from isthmus.report.svg import Drawing

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]

NO_LABEL = "no label"
"""Name of the null label in a sample grid."""

_UNCONDITIONED = "This decoder is not conditioned on the label"
_SAME = f"{_UNCONDITIONED}: all columns show the same image."
_STYLE_ROWS = 10


@dataclass(frozen=True)
class Samples:
    """The arrays of one run or of the user's own images, and words for them."""

    arrays: Arrays
    class_names: Sequence[str]

    def count(self, key: str) -> int:
        """The number of entries of an array; 0 if there is no such array."""
        return len(self.arrays[key]) if key in self.arrays else 0

    def names(self, key: str) -> list[str]:
        """The names of an array's labels."""
        return label_names(self.class_names, self.arrays[key])

    def pairs(self, before: str, after: str) -> list[tuple[str, str]]:
        """The names of the labels of two arrays."""
        return list(zip(self.names(before), self.names(after), strict=True))

    @property
    def source_word(self) -> str:
        """The noun for a source image."""
        return str(self.arrays.get("source_word", "test image"))

    @property
    def a_source(self) -> str:
        """``source_word`` with its indefinite article."""
        return f"{'an' if self.source_word[0] in 'aeiou' else 'a'} {self.source_word}"

    @property
    def pair_words(self) -> str:
        """Explanation of the two images of a place."""
        return f"Left: {self.a_source}; right: the output of the network. Below: "

    @property
    def decoder_is_conditioned(self) -> bool:
        """Whether the decoder's output can depend on the label."""
        return bool(self.arrays.get("decoder_is_conditioned", True))

    @property
    def prior_is_conditioned(self) -> bool:
        """Whether each label has a prior of its own."""
        return bool(self.arrays.get("prior_is_conditioned", False))

    @property
    def draws_are_conditioned(self) -> bool:
        """Whether images generated from the prior can depend on the label."""
        return self.decoder_is_conditioned or self.prior_is_conditioned

    @property
    def unheard(self) -> str:
        """A sentence if the decoder is not conditioned, else an empty string."""
        return "" if self.decoder_is_conditioned else f" {_UNCONDITIONED}."

    def draw_names(self, count: int) -> list[str]:
        """Row heads of ``count`` samples of z or of noise."""
        word = "noise" if self.prior_is_conditioned else "z"
        return [f"{word} {row + 1}" for row in range(count)]


Words = Callable[[Samples], str]
Lines = Callable[[Samples], Sequence[str]]


def _nothing(_: Samples) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Kind:
    """One kind of sample grid: which arrays it shows, and the words around them."""

    title: Words
    output: str
    note: Words
    needs: tuple[str, ...] = ()
    """Arrays that this kind needs in addition to ``output`` and ``source``."""
    source: str = ""
    """Array of source images, shown to the left of ``output``. If empty, no source images are shown."""
    rows: Callable[[Samples], int] = lambda _: 0
    """Number of rows. If 0, five places per row."""
    captions: Lines = _nothing
    heads: Lines = _nothing
    sides: Lines = _nothing


def _swap(output: str, title: Words) -> Kind:
    return Kind(
        title=title,
        output=output,
        needs=("swap_source", "swap_true", "swap_given"),
        source="swap_source",
        note=lambda of: f"{of.pair_words}true label → given label.{of.unheard}",
        captions=lambda of: [f"{a} → {b}" for a, b in of.pairs("swap_true", "swap_given")],
    )


def _known(of: Samples) -> str:
    return ", where it is known" if (of.arrays["swap_true"] < 0).any() else ""


def _swap_title(of: Samples) -> str:
    if not of.arrays.get("encoder_is_conditioned", True):
        return "Decoded with a wrong label"
    return "Encoded with the true label, decoded with a wrong one"


def _style_note(of: Samples) -> str:
    if not of.draws_are_conditioned:
        return _SAME
    columns, count = of.count("style_output") // _STYLE_ROWS, len(of.class_names)
    labels = "every label" if columns == count else f"the first {columns} of {count} labels"
    if of.prior_is_conditioned:
        return f"Each row has one sample of noise, turned into z by the prior of {labels}."
    return f"Each row decodes one sample of z with {labels}."


def _style_heads(of: Samples) -> Sequence[str]:
    columns = np.arange(of.count("style_output") // _STYLE_ROWS)
    return label_names(of.class_names, columns) if of.draws_are_conditioned else ()


def _unconditional_note(of: Samples) -> str:
    if not of.draws_are_conditioned:
        return f"{_UNCONDITIONED}."
    same = "network and noise" if "unconditional_noise_is_random" in of.arrays else "network"
    return f"The same {same}, but with the null label (no label)."


def _interpolation_note(of: Samples) -> str:
    changes = (of.arrays["interpolation_label"] != of.arrays["interpolation_to"]).any()
    change = "; the label changes half-way" if changes and of.decoder_is_conditioned else ""
    ends = f"0 % and 100 % are the reconstructions of two {of.source_word}s"
    return f"z moves in a straight line; {ends}{change}."


def _interpolation_sides(of: Samples) -> list[str]:
    """The labels of both ends, once if they are equal; an empty string if one label is not known."""
    pairs = of.pairs("interpolation_label", "interpolation_to")
    return [a if a == b else f"{a} → {b}" if a and b else "" for a, b in pairs]


def _traversal_note(of: Samples) -> str:
    label = of.names("swap_true")[0]
    of_label = f" of label {label}" if label else ""
    return (
        f"{of.a_source.capitalize()}{of_label}; the units of z with the highest KL, varied in standard "
        "deviations of the prior."
    )


def _interpolation_heads(of: Samples) -> list[str]:
    columns = of.count("interpolation_output") // of.count("interpolation_label")
    return [f"{100 * share:.0f} %" for share in np.linspace(0, 1, columns)]


def _traversal_heads(of: Samples) -> list[str]:
    columns = of.count("traversal_output") // of.count("traversal_unit")
    return [f"{sigmas:+.1f}".replace("-", MINUS) for sigmas in np.linspace(-3, 3, columns)]


KINDS: dict[str, Kind] = {
    "swap_wrong": _swap("swap_wrong_output", lambda _: "Encoded and decoded with a wrong label"),
    "swap": _swap("swap_output", _swap_title),
    "random": Kind(
        title=lambda _: "Generated from the prior, each with a label",
        output="random_output",
        needs=("random_given",),
        note=lambda of: (
            "Below: the given label, chosen at random."
            if of.draws_are_conditioned
            else f"{_UNCONDITIONED}, so no labels are shown."
        ),
        captions=lambda of: of.names("random_given") if of.draws_are_conditioned else (),
    ),
    "unconditional": Kind(
        title=lambda _: "Generated from the prior without a label",
        output="unconditional_output",
        note=_unconditional_note,
        captions=lambda of: [NO_LABEL] * of.count("unconditional_output"),
    ),
    "style": Kind(
        title=lambda _: "One style per row, one label per column",
        output="style_output",
        note=_style_note,
        rows=lambda _: _STYLE_ROWS,
        heads=_style_heads,
        sides=lambda of: of.draw_names(_STYLE_ROWS),
    ),
    "reconstruction": Kind(
        title=lambda of: f"Reconstructed with the true label{_known(of)}",
        output="reconstruction_output",
        needs=("swap_source", "swap_true"),
        source="swap_source",
        note=lambda of: f"{of.pair_words}its label{_known(of)}.{of.unheard}",
        captions=lambda of: of.names("swap_true"),
    ),
    "interpolation": Kind(
        title=lambda _: "From one image to another",
        output="interpolation_output",
        needs=("interpolation_label", "interpolation_to"),
        note=_interpolation_note,
        rows=lambda of: of.count("interpolation_label"),
        heads=_interpolation_heads,
        sides=_interpolation_sides,
    ),
    "traversal": Kind(
        title=lambda _: "One unit of z varied, the others fixed",
        output="traversal_output",
        needs=("traversal_unit", "swap_true"),
        note=_traversal_note,
        rows=lambda of: of.count("traversal_unit"),
        heads=_traversal_heads,
        sides=lambda of: [f"unit {unit}" for unit in of.arrays["traversal_unit"]],
    ),
}
"""Name -> kind, the most informative kind first; swap_wrong exists only if the encoder is conditioned."""


def sample_grid(kind: str, arrays: Arrays, class_names: Sequence[str]) -> Drawing | None:
    """The sample grid of this kind; None if one of its arrays is missing or empty."""
    chosen, shown = KINDS[kind], Samples(arrays, class_names)
    if not all(shown.count(key) for key in (chosen.output, *chosen.needs)):
        return None
    output = arrays[chosen.output]
    images = [arrays[chosen.source], output] if chosen.source else [output]
    rows = chosen.rows(shown)
    grid = ImageGrid(
        np.stack(images, axis=1),
        len(output) // rows if rows else min(5, len(output)),
        chosen.title(shown),
        note=chosen.note(shown),
        captions=chosen.captions(shown),
        heads=chosen.heads(shown),
        sides=chosen.sides(shown),
    )
    return drawn_grid(grid)


def sample_grid_figure(kind: str, arrays: Arrays, class_names: Sequence[str]) -> Drawing:
    """The sample grid of this kind; all of its arrays must exist."""
    drawing = sample_grid(kind, arrays, class_names)
    assert drawing is not None
    return drawing


def label_columns(
    rows: UInt8[np.ndarray, "row label channel height width"],
    names: Sequence[str],
    sources: UInt8[np.ndarray, "row channel height width"] | None = None,
    row_names: Sequence[str] = (),
    conditioned_sides: Arrays | None = None,
) -> Drawing:
    """A grid with one column per label and one z per row.

    If the output of the network does not depend on the label, the columns have no heads.

    Args:
        rows: Decoded images; the images of a row have the same z, or the same noise, which the prior of
            each label turns into z.
        names: Names of the labels.
        sources: The source image of each row, shown in the first column.
        row_names: Row heads. If empty: z 1, z 2, ..., or noise 1, noise 2, ...
        conditioned_sides: ``encoder_is_conditioned`` and so on, as in ``sample_grids.npz``. If None,
            only the decoder is conditioned.
    """
    shown = Samples(conditioned_sides or {}, names)
    is_heard = shown.draws_are_conditioned if sources is None else shown.decoder_is_conditioned
    before = [] if sources is None else [sources[:, None]]
    images = np.concatenate([*before, rows], axis=1)
    grid = ImageGrid(
        images.reshape(-1, 1, *images.shape[2:]),
        images.shape[1],
        "One style per row, one label per column"
        if sources is None
        else "The same image decoded with other labels",
        note="" if is_heard else _SAME,
        heads=[*["image"] * len(before), *(names if is_heard else ())],
        sides=list(row_names) or shown.draw_names(len(rows)),
    )
    return drawn_grid(grid)


def label_names(class_names: Sequence[str], labels: Shaped[np.ndarray, " n"]) -> list[str]:
    """The names of labels, or their numbers without ``class_names``; the null label follows the last.

    >>> label_names(("cat", "dog"), np.array([1, 2, -1]))
    ['dog', 'no label', '']
    """
    known = dict(enumerate([*class_names, NO_LABEL] if class_names else ()))
    return [known.get(int(label), str(label)) if label >= 0 else "" for label in labels]
