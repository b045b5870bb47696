"""The drawn design of a label-conditioned VAE, made from its recipe: where does the label enter?

Lengths are inches: the figure is ``_WIDTH`` wide, so that its words can be read on a phone.
What flows is drawn through, what only the objective asks is dashed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from isthmus.report.formatting import LIGHT, Paper, mixed

Settings = Mapping[str, Any]

LABEL_CONSISTENCY = "objective.label_consistency_weight"
READ = (
    *(
        f"model.{key}"
        for key in ("body", "width", "latent", "conditioning", "condition_on", "prior")
    ),
    *("model.label_dropout", "objective.likelihood", "objective.beta", "objective.invariance"),
)
"""The settings that the drawing shows, with ``LABEL_CONSISTENCY`` where it is set."""

_WIDTH, _UP, _DOWN = 7.8, 1.05, 2.5
_ENCODER, _DECODER = (1.02, 2.47), (5.18, 6.63)
_ENTERS = {"encoder": 2.66, "decoder": 4.82}
_POSTERIOR, _Z, _BAR_TOP, _PENALTY = 3.27, 4.1, -1.85, 1.38
_READER_Y = -1.45
_TALL, _NARROW, _RADIUS, _NODE = 0.85, 0.52, 0.36, 0.15
_LARGE, _SMALL = 15.0, 13.0
_CONDITIONINGS = {"add": "add, MLP", "concat": "concat", "film": "FiLM"}
_SIGNS = {"add": "+", "concat": "∥"}
"""Fusions that change a vector on its way; FiLM reaches into the blocks instead."""
_LIKELIHOODS = {
    "bernoulli-dynamic": "Bernoulli",
    "bernoulli-threshold": "Bernoulli",
    "continuous-bernoulli": "continuous\nBernoulli",
    "gaussian": "Gaussian",
    "discretised-logistic": "discretised\nlogistic",
}
_PENALTIES = {"adversary": "adversary", "hsic": "HSIC", "mmd": "MMD"}


def architecture_figure(settings: Settings, paper: Paper = LIGHT) -> Figure:
    """The design that a generate recipe's settings (dotted keys) describe.

    Source: the figure of the reference study, which shows one design of these.
    """
    has_penalty = settings["objective.invariance"] != "none"
    is_read_again = settings.get(LABEL_CONSISTENCY) is not None
    up = _PENALTY + 0.48 if has_penalty or is_read_again else _UP
    figure = Figure((_WIDTH, up + _DOWN), facecolor=paper.ground)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(-_DOWN, up), aspect="equal")
    axes.axis("off")
    pen = _Pen(axes, paper)
    condition = _condition(settings["model.condition_on"])
    _draw_ends(pen, settings, condition)
    _draw_bodies(pen, settings)
    _draw_z(pen, settings, condition)
    if has_penalty:
        _draw_penalty(pen, settings)
    if is_read_again:
        _draw_second_reading(pen)
    _draw_label(pen, settings, condition)
    return figure


def _condition(where: str) -> tuple[str, ...]:
    """The sides that the label enters.

    >>> _told("both"), _told("classifier"), _told("none")
    (('encoder', 'decoder'), ('decoder',), ())
    """
    return (
        ("decoder",) if where == "classifier" else tuple(s for s in _ENTERS if where in (s, "both"))
    )


@dataclass(frozen=True)
class _Pen:
    """Draws on axes with the inks of a paper."""

    axes: Axes
    paper: Paper

    def say(self, x: float, y: float, words: str, size: float = _LARGE, **more: Any) -> None:
        ink: dict[str, Any] = {
            "color": self.paper.ink,
            "ha": "center",
            "va": "center",
            "linespacing": 1.2,
        }
        self.axes.text(x, y, words, fontsize=size, **ink | more)

    def look(self, ink: str, *, is_dashed: bool = False) -> dict[str, Any]:
        """A shape's edge in this ink, and its tinted inside."""
        inside = mixed(self.paper.ground, ink, 0.1)
        dashes = (0, (4, 2.5)) if is_dashed else "-"
        return {"edgecolor": ink, "facecolor": inside, "linewidth": 1.8, "linestyle": dashes}

    def box(self, x: float, y: float, width: float, height: float, **look: Any) -> None:
        """A rounded box around its centre."""
        corner = (x - width / 2 + 0.08, y - height / 2 + 0.08)
        size = (width - 0.16, height - 0.16)
        style = "round,pad=0.08,rounding_size=0.1"
        self.axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, **look))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], ink: str) -> None:
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=16,
                color=ink,
                linewidth=1.8,
                shrinkA=0,
                shrinkB=0,
            )
        )

    def dashes(self, x: float, low: float, high: float, ink: str) -> None:
        self.axes.plot([x, x], [low, high], color=ink, linewidth=1.8, linestyle=(0, (4, 2.5)))


def _draw_ends(pen: _Pen, settings: Settings, condition: tuple[str, ...]) -> None:
    """The image on the left, what the decoder says of it on the right."""
    for x, words in ((0.45, "$x$"), (_WIDTH - 0.45, r"$\hat{x}$")):
        pen.box(x, 0.0, 0.66, 0.66, **pen.look(pen.paper.ink))
        pen.say(x, 0.0, words, size=19.0)
    pen.say(0.1, -0.58, "image", _SMALL, ha="left")
    given = "z, y" if "decoder" in condition else "z"
    pen.say(_WIDTH - 0.1, 0.64, f"$p(x\\,|\\,{given})$", _LARGE, ha="right")
    likelihood = str(settings["objective.likelihood"])
    says = _LIKELIHOODS.get(likelihood, likelihood)
    pen.say(_WIDTH - 0.1, -1.0, says, _SMALL, ha="right", va="top")
    pen.arrow((0.78, 0.0), (_ENCODER[0], 0.0), pen.paper.ink)
    pen.arrow((_DECODER[1], 0.0), (_WIDTH - 0.78, 0.0), pen.paper.ink)


def _draw_bodies(pen: _Pen, settings: Settings) -> None:
    """The encoder narrows, the decoder widens."""
    kind = f"{settings['model.body']}\nwidth {settings['model.width']}"
    for name, (left, right), heights in (
        ("Encoder", _ENCODER, (_TALL, _NARROW)),
        ("Decoder", _DECODER, (_NARROW, _TALL)),
    ):
        first, last = heights
        corners = [(left, -first), (left, first), (right, last), (right, -last)]
        pen.axes.add_patch(Polygon(corners, joinstyle="round", **pen.look(pen.paper.training)))
        middle = (left + right) / 2
        pen.say(middle, 0.27, name, _LARGE, weight="bold")
        pen.say(middle, -0.2, kind, _SMALL)


def _draw_z(pen: _Pen, settings: Settings, condition: tuple[str, ...]) -> None:
    """q, z and the prior that the KL ties it to."""
    ink, quiet = pen.paper.ink, pen.paper.quiet
    read = "x, y" if "encoder" in condition else "x"
    pen.box(_POSTERIOR, 0.0, 0.56, 0.84, **pen.look(ink))
    pen.say(_POSTERIOR, 0.0, "$\\mu$\n$\\sigma$", 17.0)
    pen.say(_POSTERIOR, 0.66, f"$q(z\\,|\\,{read})$")
    pen.arrow((_ENCODER[1], 0.0), (_POSTERIOR - 0.28, 0.0), ink)
    pen.arrow((_POSTERIOR + 0.28, 0.0), (_Z - _RADIUS, 0.0), ink)
    pen.arrow((_Z + _RADIUS, 0.0), (_DECODER[0], 0.0), ink)
    pen.axes.add_patch(Circle((_Z, 0), _RADIUS, **pen.look(ink)))
    pen.say(_Z, 0.12, "$z$", 19.0)
    pen.say(_Z, -0.16, f"{settings['model.latent']}", _SMALL)
    is_standard = settings["model.prior"] == "standard"
    weight = "" if settings["objective.beta"] == 1 else f"{settings['objective.beta']:g} × "  # noqa: RUF001
    pen.dashes(_Z, -0.92, -_RADIUS, quiet)
    pen.say(_Z - 0.08, -0.64, f"{weight}KL", _SMALL, ha="right", color=quiet)
    pen.box(_Z, -1.14, 1.04, 0.44, **pen.look(quiet, is_dashed=True))
    pen.say(_Z, -1.15, "$N(0, 1)$" if is_standard else "$p(z\\,|\\,y)$")


def _draw_penalty(pen: _Pen, settings: Settings) -> None:
    """What keeps the label out of z."""
    quiet = pen.paper.quiet
    name = str(settings["objective.invariance"])
    pen.dashes(_Z, _RADIUS, _PENALTY - 0.34, quiet)
    pen.box(_Z, _PENALTY, 2.1, 0.68, **pen.look(quiet, is_dashed=True))
    pen.say(_Z, _PENALTY + 0.15, _PENALTIES.get(name, name), weight="bold")
    pen.say(_Z, _PENALTY - 0.16, "keeps $y$ out of $z$", _SMALL)


def _draw_second_reading(pen: _Pen) -> None:
    """The auxiliary classifier's word on what is decoded under a wrong label."""
    quiet, x = pen.paper.quiet, _WIDTH - 1.25
    pen.dashes((_DECODER[0] + _DECODER[1]) / 2, _TALL - 0.16, _PENALTY - 0.34, quiet)
    pen.box(x, _PENALTY, 2.34, 0.68, **pen.look(quiet, is_dashed=True))
    pen.say(x, _PENALTY + 0.15, "auxiliary classifier again", weight="bold")
    pen.say(x, _PENALTY - 0.16, "reads $y'$ in $\\hat{x}(z, y')$", _SMALL)


def _draw_label(pen: _Pen, settings: Settings, condition: tuple[str, ...]) -> None:
    """The label as the ground that all stands on, and an arrow to each place it enters."""
    is_read = bool(condition) or settings["model.prior"] != "standard"
    ink = pen.paper.validation if is_read else pen.paper.quiet
    left, right = sum(_ENCODER) / 2 - 0.45, sum(_DECODER) / 2 + 0.45
    middle, height = (left + right) / 2, 0.5
    look = pen.look(ink, is_dashed=not is_read)
    pen.box(middle, _BAR_TOP - height / 2, right - left, height, **look)
    code = (
        "one-hot, or the unconditional label" if settings["model.label_dropout"] > 0 else "one-hot"
    )
    words = f"label $y$:  {code}" if is_read else "label $y$:  enters nowhere"
    pen.say(middle, _BAR_TOP - height / 2 - 0.01, words)
    for side in condition:
        _draw_entrance(pen, side, settings["model.conditioning"], ink, _BAR_TOP)
    if settings["model.condition_on"] == "classifier":
        _draw_auxiliary_classifier(pen, settings["model.conditioning"])
    if settings["model.prior"] != "standard":
        pen.arrow((_Z, _BAR_TOP), (_Z, -1.36), ink)


def _draw_auxiliary_classifier(pen: _Pen, conditioning: str) -> None:
    """What the encoder is told in place of the label: what an auxiliary classifier sees in the image."""
    ink = pen.paper.ink
    left, right = 1.0, _ENTERS["encoder"] + 0.3
    pen.box((left + right) / 2, _READER_Y, right - left, 0.44, **pen.look(ink))
    pen.say((left + right) / 2, _READER_Y - 0.01, r"auxiliary classifier: $\hat{y}(x)$")
    pen.axes.plot([0.45, 0.45], [-0.78, _READER_Y], color=ink, linewidth=1.8)
    pen.arrow((0.44, _READER_Y), (left, _READER_Y), ink)
    _draw_entrance(pen, "encoder", conditioning, ink, _READER_Y + 0.22)


def _draw_entrance(pen: _Pen, side: str, conditioning: str, ink: str, start_y: float) -> None:
    """The label's arrow to a sign on the vector's way, or into the blocks of the body."""
    name = _CONDITIONINGS.get(conditioning, conditioning)
    if conditioning in _SIGNS:
        x, top = _ENTERS[side], -_NODE
        pen.axes.add_patch(Circle((x, 0), _NODE, zorder=3, **pen.look(ink)))
        pen.say(x, -0.005, _SIGNS[conditioning], _LARGE, weight="bold", color=ink, zorder=4)
    else:
        x = sum(_ENCODER if side == "encoder" else _DECODER) / 2
        top = -(_TALL + _NARROW) / 2
    pen.arrow((x, start_y), (x, top), ink)
    on_left = side == "encoder"
    pen.say(
        x + (-0.1 if on_left else 0.1),
        min(start_y + 0.35, top - 0.35),
        name,
        _SMALL,
        ha="right" if on_left else "left",
        color=ink,
    )
