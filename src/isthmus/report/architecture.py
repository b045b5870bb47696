"""Diagram of a label-conditioned VAE, drawn from its recipe, which shows where the label enters.

Solid lines: computed from an image. Dashed lines: used only by the objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from isthmus.report.svg import FONT_PX, Drawing, Point, Px, points, text_width

Settings = Mapping[str, Any]

LABEL_CONSISTENCY = "objective.label_consistency_weight"
READ = (
    *(f"model.{key}" for key in ("body", "width", "latent", "conditioning", "condition_on")),
    *("model.prior", "model.label_dropout"),
    *(f"objective.{key}" for key in ("likelihood", "beta", "invariance")),
)
"""The settings that the diagram shows, besides ``LABEL_CONSISTENCY`` if it is set."""

_CONDITIONINGS = {"add": "add, MLP", "concat": "concat", "film": "FiLM"}
_SIGNS = {"add": "+", "concat": "∥"}
"""Signs of the conditionings that change a vector between two modules; FiLM changes feature maps instead."""
_NAMES = {
    "bernoulli-dynamic": "Bernoulli",
    "bernoulli-threshold": "Bernoulli",
    "continuous-bernoulli": "continuous Bernoulli",
    "gaussian": "Gaussian",
    "discretised-logistic": "discretised logistic",
    "hsic": "HSIC",
    "mmd": "MMD",
}
_SIZE, _SMALL, _GAP = 16, 14, 28
_ABOVE, _ROW, _PRIOR, _READER, _LABEL = 38, 150, 236, 276, 322
"""y coordinates: of the boxes above the row of modules, of that row, and of three rows below it."""


@dataclass(frozen=True)
class _Box:
    """A box with lines of text around its centre; ``heights`` are those of its left and right end."""

    x: Px
    y: Px
    lines: tuple[str, ...]
    width: Px
    heights: tuple[Px, Px] = (34, 34)
    ink: str = "ink"
    dashes: str | None = None

    @property
    def height(self) -> float:
        return sum(self.heights) / 2


def architecture_drawing(settings: Settings) -> Drawing:
    """The diagram of the VAE with these settings (dotted keys) of a generate recipe.

    Source: similar to the figure of the reference study, which shows one of these VAEs.
    """
    boxes = _row(settings)
    row = list(boxes.values())
    boxes |= _around(settings, boxes)
    has_above = any(box.y == _ABOVE for box in boxes.values())
    width = row[-1].x + row[-1].width / 2 + 10
    drawing = Drawing(width, _LABEL + 26, _in_words(settings))
    for before, after in pairwise(row):
        ends = before.x + before.width / 2, after.x - after.width / 2
        _arrow(drawing, (ends[0], _ROW), (ends[1], _ROW), "ink")
    for box in boxes.values():
        _draw(drawing, box)
    for start, end, ink, words in _links(settings, boxes):
        _link(drawing, start, end, ink, words)
    _write_densities(drawing, settings, boxes)
    top = 0 if has_above else 70
    cropped = Drawing(width, drawing.height - top, drawing.label)
    cropped.place(drawing, (0, -top))
    return cropped


def _entered(settings: Settings) -> tuple[str, ...]:
    """The modules that are conditioned on the given label.

    >>> [_entered({"model.condition_on": value}) for value in ("both", "classifier", "none")]
    [('encoder', 'decoder'), ('decoder',), ()]
    """
    where = settings["model.condition_on"]
    modules = {"both": ("encoder", "decoder"), "classifier": ("decoder",), "none": ()}
    return modules.get(where, (where,))


def _reads(settings: Settings) -> bool:
    """Whether the encoder is conditioned on the label that an auxiliary classifier predicts."""
    return bool(settings["model.condition_on"] == "classifier")


def _row(settings: Settings) -> dict[str, _Box]:
    """The boxes from the image to its reconstruction, with a sign where the label changes a vector."""
    kind = (str(settings["model.body"]), f"width {settings['model.width']}")
    body = 30 + _width((*kind, "Encoder"))
    parts: dict[str, tuple[tuple[str, ...], float, tuple[Px, Px], str]] = {
        "x": (("x",), 46, (50, 50), "ink"),
        "encoder": (("Encoder", *kind), body, (130, 76), "training"),
        "encoder sign": ((), 30, (30, 30), "validation"),
        "posterior": (("μ, σ",), 54, (50, 50), "ink"),  # noqa: RUF001
        "z": (("z", str(settings["model.latent"])), 54, (50, 50), "ink"),
        "decoder sign": ((), 30, (30, 30), "validation"),
        "decoder": (("Decoder", *kind), body, (76, 130), "training"),
        "output": (("x̂",), 46, (50, 50), "ink"),
    }
    sign = _SIGNS.get(settings["model.conditioning"])
    boxes, left = {}, 10.0
    for key, (lines, width, heights, ink) in parts.items():
        side = key.removesuffix(" sign")
        if side != key:
            is_read = _reads(settings) and side == "encoder"
            if sign is None or not (side in _entered(settings) or is_read):
                continue
            lines, ink = (sign,), "ink" if is_read else ink
        boxes[key] = _Box(left + width / 2, _ROW, lines, width, heights, ink)
        left += width + _GAP
    return boxes


def _around(settings: Settings, row: Mapping[str, _Box]) -> dict[str, _Box]:
    """The boxes of label and prior and, if used, auxiliary classifier, penalty and label consistency."""
    has_prior = settings["model.prior"] != "standard"
    is_used = bool(_entered(settings)) or has_prior
    code = "one-hot or unconditional" if settings["model.label_dropout"] > 0 else "one-hot"
    words = (f"label y: {code}" if is_used else "label y: not used",)
    right = row["output"].x + row["output"].width / 2
    left = row["z"].x - 40 if _reads(settings) else row["encoder"].x - 30
    width = max(_width(words) + 20, row["decoder"].x + 50 - left)
    left = min(left, right - width)
    ink, dashes = ("validation", None) if is_used else ("quiet", "6 4")
    boxes = {"label": _Box(left + width / 2, _LABEL, words, width, ink=ink, dashes=dashes)}

    def dashed(key: str, x: Px, y: Px, *lines: str) -> None:
        size = 16 + 18 * len(lines)
        boxes[key] = _Box(x, y, lines, _width(lines) + 24, (size, size), "quiet", "6 4")

    dashed("prior", row["z"].x, _PRIOR, "p(z | y)" if has_prior else "N(0, 1)")
    penalty = str(settings["objective.invariance"])
    if penalty != "none":
        dashed("penalty", row["z"].x - 60, _ABOVE, _NAMES.get(penalty, penalty), "keeps y out of z")
    if settings.get(LABEL_CONSISTENCY) is not None:
        lines = ("auxiliary classifier", "checks y′ in x̂(z, y′)")  # noqa: RUF001
        dashed("consistency", right - _width(lines) / 2 - 12, _ABOVE, *lines)
    if _reads(settings):
        words = ("auxiliary classifier: ŷ(x)",)
        width = _width(words) + 20
        boxes["reader"] = _Box(row["x"].x + 36 + width / 2, _READER, words, width)
    return boxes


def _links(settings: Settings, boxes: Mapping[str, _Box]) -> Iterator[tuple[_Box, _Box, str, str]]:
    """The connections between boxes: start, end, ink and words."""
    conditioning = str(settings["model.conditioning"])
    words = _CONDITIONINGS.get(conditioning, conditioning)
    for side in _entered(settings):
        yield boxes["label"], boxes.get(f"{side} sign", boxes[side]), "validation", words
    if "reader" in boxes:
        yield boxes["x"], boxes["reader"], "ink", ""
        yield boxes["reader"], boxes.get("encoder sign", boxes["encoder"]), "ink", words
    if settings["model.prior"] != "standard":
        yield boxes["label"], boxes["prior"], "validation", ""
    beta = settings["objective.beta"]
    yield boxes["prior"], boxes["z"], "quiet", f"{'' if beta == 1 else f'{beta:g} × '}KL"  # noqa: RUF001
    for key, part in (("penalty", "z"), ("consistency", "decoder")):
        if key in boxes:
            yield boxes[key], boxes[part], "quiet", ""


def _link(drawing: Drawing, start: _Box, end: _Box, ink: str, words: str) -> None:
    """Draw a vertical connection at the narrower box; from the image, the connection turns to the right.

    Connections of the objective are dashed lines, all others are arrows.
    """
    if end.y == _READER:
        drawing.line((start.x, _ROW + 52), (start.x, end.y), ink, stroke_width=1.8)
        return _arrow(drawing, (start.x, end.y), (end.x - end.width / 2, end.y), ink)
    x = end.x if start.width > end.width else start.x
    sign = 1 if end.y > start.y else -1
    ends = (x, start.y + sign * start.height / 2), (x, end.y - sign * (end.height / 2 + 1))
    if ink == "quiet":
        drawing.line(*ends, ink, stroke_width=1.8, stroke_dasharray="6 4")
    else:
        _arrow(drawing, *ends, ink)
    if not words:
        return None
    is_left = ink == "quiet" or end.x < drawing.width / 2
    at = (x + (-7 if is_left else 7), ends[0][1] - 12)
    drawing.text(at, words, _SMALL, fill=ink, text_anchor="end" if is_left else "start")
    return None


def _arrow(drawing: Drawing, start: Point, end: Point, ink: str) -> None:
    """A straight arrow along one axis."""
    drawing.line(start, end, ink, stroke_width=1.8)
    x, y = end
    dx, dy = (8 * ((b > a) - (b < a)) for a, b in zip(start, end, strict=True))
    head = [(x, y), (x - dx - dy / 2, y - dy - dx / 2), (x - dx + dy / 2, y - dy + dx / 2)]
    drawing.add("polygon", points=points(head), fill=ink, class_="head")


def _draw(drawing: Drawing, box: _Box) -> None:
    left, right, (first, last) = box.x - box.width / 2, box.x + box.width / 2, box.heights
    corners = [
        *((left, box.y - first / 2), (right, box.y - last / 2)),
        *((right, box.y + last / 2), (left, box.y + first / 2)),
    ]
    look: dict[str, Any] = {"stroke_width": 1.8, "stroke_linejoin": "round", "fill_opacity": 0.08}
    look |= {"fill": box.ink, "stroke": box.ink, "stroke_dasharray": box.dashes}
    drawing.add("polygon", points=points(corners), **look)
    top = box.y + 5 - 9 * (len(box.lines) - 1)
    for k, words in enumerate(box.lines):
        weight = "bold" if len(box.lines) > 1 and k == 0 else None
        at, size = (box.x, top + 18 * k), _SMALL if k else _SIZE
        drawing.text(at, words, size, text_anchor="middle", font_weight=weight)


def _write_densities(drawing: Drawing, settings: Settings, boxes: Mapping[str, _Box]) -> None:
    """Write the arguments of the posterior and the likelihood."""
    of_q = "x, y" if "encoder" in _entered(settings) else "x"
    of_p = "z, y" if "decoder" in _entered(settings) else "z"
    likelihood = str(settings["objective.likelihood"])
    last = (f"p(x | {of_p})", *_NAMES.get(likelihood, likelihood).split())
    right = drawing.width - 10
    for x, y, words, anchor in (
        (boxes["posterior"].x, _ROW - 34, f"q(z | {of_q})", "middle"),
        (10, _ROW + 44, "image", "start"),
        *((right, _ROW + 84 + 19 * k, words, "end") for k, words in enumerate(last)),
    ):
        drawing.text((x, y), words, _SMALL, text_anchor=anchor)


def _in_words(settings: Settings) -> str:
    """The diagram's text alternative."""
    where, weight = settings["model.condition_on"], settings.get(LABEL_CONSISTENCY)
    target = {
        "both": "the encoder and the decoder",
        "classifier": "the decoder, and the encoder through an auxiliary classifier",
        "none": "neither encoder nor decoder",
    }.get(where, f"the {where}")
    how = f" ({settings['model.conditioning']})" if where != "none" else ""
    words = f"the label conditions {target}{how}; prior {settings['model.prior']}"
    words += f"; invariance {settings['objective.invariance']}"
    return words + ("" if weight is None else f"; label consistency weight {weight}")


def _width(lines: tuple[str, ...]) -> float:
    return max(map(text_width, lines)) * _SIZE / FONT_PX
