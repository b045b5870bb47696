"""Sample grids of what one VAE makes: every image with the label that went in, in words.

``SAMPLE_GRIDS`` draws the arrays that a run leaves in ``sample_grids.npz``, and those of one's own images,
whose ``source_word`` says that they are no test images. An array that is not there means that its
sample grid is not there either: None. The unconditional label is called "no label"; a label below 0 was said by
nobody and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Integer, Shaped, UInt8
from matplotlib.figure import Figure

from isthmus.report.formatting import LIGHT, Paper
from isthmus.report.image_grid import ImageGrid, drawn_grid

SampleGrids = Mapping[str, Shaped[np.ndarray, "..."]]
Labels = Integer[np.ndarray, " n"]
Draw = Callable[[SampleGrids, Sequence[str], Paper], Figure | None]

NO_LABEL = "no label"
"""What stands where a label was not told."""

TITLES = {
    "swap": "Encoded with the true label, decoded with a wrong one",
    "swap_wrong": "Encoded and decoded with a wrong label",
    "random": "Drawn from the prior, each with a label",
    "unconditional": "Drawn from the prior without a label",
    "style": "One style a row, one label a column",
    "reconstruction": "Reconstructed with the true label",
    "interpolation": "From one image to another",
    "traversal": "One unit of z moved, the others kept",
}
"""What each sample grid shows, as its title says it; see ``title_of``."""

_UNTOLD = "This decoder is not told the label"
_SAME = f"{_UNTOLD}: it draws the same in every column."
_COLUMNS = 5


def title_of(kind: str, sample_grids: SampleGrids) -> str:
    """What a sample grid shows; it speaks of encoding with a label only where the encoder is told one."""
    if kind == "swap" and not sample_grids.get("encoder_is_conditioned", True):
        return "Decoded with a wrong label"
    return TITLES[kind]


def swap_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Images beside what they become under a wrong label; caption: true → given."""
    return _swap_sample_grid("swap", sample_grids, class_names, paper)


def swap_wrong_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """The same with the encoder told the wrong label too; there only where an encoder is told."""
    return _swap_sample_grid("swap_wrong", sample_grids, class_names, paper)


def _swap_sample_grid(
    kind: str, sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper
) -> Figure | None:
    keys = ("swap_source", f"{kind}_output", "swap_true", "swap_given")
    if not _holds(sample_grids, *keys):
        return None
    source, output, true, given = (sample_grids[key] for key in keys)
    words = zip(_names(class_names, true), _names(class_names, given), strict=True)
    unheard = "" if _decoder_hears(sample_grids) else f" {_UNTOLD}."
    grid = ImageGrid(
        _pairs(source, output),
        min(_COLUMNS, len(output)),
        title_of(kind, sample_grids),
        note=f"{_pair_words(sample_grids)}true label → label given.{unheard}",
        captions=[f"{before} → {after}" for before, after in words],
    )
    return drawn_grid(grid, paper)


def random_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Draws from the prior with random labels; caption: the label given."""
    if not _holds(sample_grids, "random_output", "random_given"):
        return None
    is_heard = _draws_hear(sample_grids)
    grid = ImageGrid(
        sample_grids["random_output"][:, None],
        _COLUMNS,
        TITLES["random"],
        note="Below: the label given, drawn at random."
        if is_heard
        else f"{_UNTOLD}, so none is named.",
        captions=_names(class_names, sample_grids["random_given"]) if is_heard else (),
    )
    return drawn_grid(grid, paper)


def unconditional_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Draws from the prior for which no label was told."""
    if not _holds(sample_grids, "unconditional_output"):
        return None
    output = sample_grids["unconditional_output"]
    same = "network and noise" if "unconditional_noise_is_random" in sample_grids else "network"
    grid = ImageGrid(
        output[:, None],
        _COLUMNS,
        TITLES["unconditional"],
        note=f"The same {same}, told the unconditional label."
        if _draws_hear(sample_grids)
        else f"{_UNTOLD}.",
        captions=[NO_LABEL] * len(output),
    )
    return drawn_grid(grid, paper)


def style_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """The same draw under every label, a row a draw; ten rows."""
    if not _holds(sample_grids, "style_output"):
        return None
    output, rows = sample_grids["style_output"], 10
    columns = len(output) // rows
    is_heard, count = _draws_hear(sample_grids), len(class_names)
    labels = "every label" if columns == count else f"the first {columns} of {count} labels"
    one_prior = f"Each row decodes one draw of z under {labels}."
    own_priors = f"Each row takes one draw of noise through the prior of {labels}."
    note = own_priors if _prior_hears(sample_grids) else one_prior
    grid = ImageGrid(
        output[:, None],
        columns,
        TITLES["style"],
        note=note if is_heard else _SAME,
        heads=_names(class_names, np.arange(columns)) if is_heard else (),
        sides=_draws(rows, sample_grids),
    )
    return drawn_grid(grid, paper)


def reconstruction_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Images beside their reconstructions; caption: their label."""
    keys = ("swap_source", "reconstruction_output", "swap_true")
    if not _holds(sample_grids, *keys):
        return None
    source, output, true = (sample_grids[key] for key in keys)
    unheard = "" if _decoder_hears(sample_grids) else f" {_UNTOLD}."
    where_said = ", where it was said" if (true < 0).any() else ""
    grid = ImageGrid(
        _pairs(source, output),
        min(_COLUMNS, len(output)),
        f"{TITLES['reconstruction']}{where_said}",
        note=f"{_pair_words(sample_grids)}its label{where_said}.{unheard}",
        captions=_names(class_names, true),
    )
    return drawn_grid(grid, paper)


def interpolation_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """Rows of ten steps between two images, whose labels head the row."""
    keys = ("interpolation_output", "interpolation_label", "interpolation_to")
    if not _holds(sample_grids, *keys):
        return None
    output, first, second = (sample_grids[key] for key in keys)
    columns = len(output) // len(first)
    changes = "; the label told changes half-way" if (first != second).any() else ""
    grid = ImageGrid(
        output[:, None],
        columns,
        TITLES["interpolation"],
        note="z moves in a straight line; 0 % and 100 % are the reconstructions of two "
        f"{_source_word(sample_grids)}s{changes if _decoder_hears(sample_grids) else ''}.",
        heads=[f"{share:.0%}".replace("%", " %") for share in np.linspace(0, 1, columns)],
        sides=_leads(_names(class_names, first), _names(class_names, second)),
    )
    return drawn_grid(grid, paper)


def traversal_sample_grid(
    sample_grids: SampleGrids, class_names: Sequence[str], paper: Paper = LIGHT
) -> Figure | None:
    """The first image of the swap sample grid with one unit of z moved from -3 to 3, a row a unit."""
    if not _holds(sample_grids, "traversal_output", "traversal_unit", "swap_true"):
        return None
    units = sample_grids["traversal_unit"]
    columns = len(sample_grids["traversal_output"]) // len(units)
    (label,) = _names(class_names, sample_grids["swap_true"][:1])
    of_label = f" of label {label}" if label else ""
    grid = ImageGrid(
        sample_grids["traversal_output"][:, None],
        columns,
        TITLES["traversal"],
        note=f"{_one_source(sample_grids).capitalize()}{of_label}; the units that say most, in sigmas of the prior.",
        heads=[f"{value:+.1f}".replace("-", "−") for value in np.linspace(-3, 3, columns)],  # noqa: RUF001
        sides=[f"unit {unit}" for unit in units],
    )
    return drawn_grid(grid, paper)


SAMPLE_GRIDS: dict[str, Draw] = {
    "swap_wrong": swap_wrong_sample_grid,
    "swap": swap_sample_grid,
    "random": random_sample_grid,
    "unconditional": unconditional_sample_grid,
    "style": style_sample_grid,
    "reconstruction": reconstruction_sample_grid,
    "interpolation": interpolation_sample_grid,
    "traversal": traversal_sample_grid,
}
"""(arrays of sample_grids.npz, class names, paper) -> the sample grid, by name, the most telling first: where the
encoder is told the label, the protocol that tells it a wrong one."""


def sample_grid_figure(kind: str, sample_grids: SampleGrids, class_names: Sequence[str]) -> Figure:
    """The sample grid of this kind, of arrays that are all there."""
    figure = SAMPLE_GRIDS[kind](sample_grids, class_names, LIGHT)
    assert figure is not None
    return figure


def label_columns(
    rows: UInt8[np.ndarray, "row label channel height width"],
    names: Sequence[str],
    sources: UInt8[np.ndarray, "row channel height width"] | None = None,
    row_names: Sequence[str] = (),
    paper: Paper = LIGHT,
    conditioned_sides: SampleGrids | None = None,
) -> Figure:
    """Images of bytes, a column a label; with sources, these come first.

    Where the label is not heard, no column is headed by one.

    Args:
        rows: Images; each row shares its z, or the noise that priors of the labels make it of.
        names: Names of the labels.
        sources: The image that each row comes from.
        row_names: What heads each row; without any, the rows are z 1, z 2, ..., or noise 1, ...
        paper: Ground and inks.
        conditioned_sides: As in ``sample_grids.npz``; None: the decoder is told, and no prior.
    """
    hears = _draws_hear if sources is None else _decoder_hears
    is_heard = hears(conditioned_sides or {})
    before = [] if sources is None else [sources[:, None]]
    images = np.concatenate([*before, rows], axis=1)
    grid = ImageGrid(
        images.reshape(-1, 1, *images.shape[2:]),
        images.shape[1],
        TITLES["style"] if sources is None else "The same image under other labels",
        note="" if is_heard else _SAME,
        heads=[*["image"] * len(before), *(names if is_heard else ())],
        sides=list(row_names) or _draws(len(rows), conditioned_sides or {}),
    )
    return drawn_grid(grid, paper)


def _holds(sample_grids: SampleGrids, *keys: str) -> bool:
    return all(key in sample_grids and len(sample_grids[key]) for key in keys)


def _decoder_hears(sample_grids: SampleGrids) -> bool:
    """Whether the label can change what z is decoded to."""
    return bool(sample_grids.get("decoder_is_conditioned", True))


def _draws_hear(sample_grids: SampleGrids) -> bool:
    """Whether the label can change what is drawn from the prior."""
    return _decoder_hears(sample_grids) or _prior_hears(sample_grids)


def _prior_hears(sample_grids: SampleGrids) -> bool:
    """Whether each label has a prior of its own, which makes its z of the noise."""
    return bool(sample_grids.get("prior_is_conditioned", False))


def _draws(count: int, sample_grids: SampleGrids) -> list[str]:
    """What heads the rows of so many draws."""
    return [f"{'noise' if _prior_hears(sample_grids) else 'z'} {row + 1}" for row in range(count)]


def _source_word(sample_grids: SampleGrids) -> str:
    return str(sample_grids.get("source_word", "test image"))


def _one_source(sample_grids: SampleGrids) -> str:
    word = _source_word(sample_grids)
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _pair_words(sample_grids: SampleGrids) -> str:
    return f"Left: {_one_source(sample_grids)}; right: what the network makes of it. Below: "


def _leads(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """What heads the row from an image of one label to one of another.

    >>> _leads(["cat", "cat", ""], ["cat", "dog", "dog"])
    ['cat', 'cat → dog', '']
    """
    pairs = zip(first, second, strict=True)
    return [a if a == b else f"{a} → {b}" if a and b else "" for a, b in pairs]


def _pairs(
    source: UInt8[np.ndarray, "n channel height width"],
    output: UInt8[np.ndarray, "n channel height width"],
) -> UInt8[np.ndarray, "n 2 channel height width"]:
    return np.stack([source, output], axis=1)


def _names(class_names: Sequence[str], labels: Labels) -> list[str]:
    """The names of labels; one that has none says its number, and after the last comes "no label".

    >>> _names(("cat", "dog"), np.array([1, 2, -1]))
    ['dog', 'no label', '']
    """
    known = dict(enumerate([*class_names, NO_LABEL] if class_names else ()))
    return [known.get(int(label), str(label)) if label >= 0 else "" for label in labels]
