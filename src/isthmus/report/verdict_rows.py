"""Verdicts as ``verdicts.csv`` says them: which of two is better, by how much, how surely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from isthmus.engine.run_result import Record
from isthmus.report.csv_table import csv_table, unreadable

MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "interacts": "×", "cannot tell": "?"}  # noqa: RUF001
"""Every verdict and the mark that stands for it, from the plainest to none."""

KINDS = ("factor", "interaction", "pair")
"""What is compared: levels of a factor, differences of differences, or two variants."""

_OPPOSITE = {"better": "worse", "worse": "better"}
_WORDS = ("kind", "metric", "factor", "a", "b", "verdict", "sentence", "groups")
_REQUIRED = ("kind", "metric", "a", "b", "difference", "verdict")
_NAN = float("nan")


class Verdict(Record):
    """What may be said of ``a`` against ``b``; NaN where a number is not known.

    ``difference`` is a - b in the metric's unit, whatever its direction; ``verdict`` has
    the direction in it. ``low`` to ``high`` is the t interval over ``n`` paired seeds, and
    ``family_low`` to ``family_high`` the one that holds for all comparisons of its kind at once.
    """

    kind: str
    metric: str
    factor: str = ""
    a: str
    b: str
    matched: float = _NAN
    n: float = _NAN
    mean_a: float = _NAN
    mean_b: float = _NAN
    difference: float = _NAN
    sd: float = _NAN
    low: float = _NAN
    high: float = _NAN
    family_low: float = _NAN
    family_high: float = _NAN
    p: float = _NAN
    p_family: float = _NAN
    p_study: float = _NAN
    p_equivalent: float = _NAN
    margin: float = _NAN
    verdict: str
    needs_seeds: float = _NAN
    sentence: str = ""
    groups: str = ""

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """Variants that were subtracted, a's first; of an interaction four each."""
        return tuple(tuple(group.split()) for group in self.groups.split(";") if group.strip())

    @property
    def has_interval(self) -> bool:
        """Whether more than one seed stands behind it."""
        return bool(np.isfinite(self.low + self.high))

    @property
    def field(self) -> str:
        """The factor without those that go with it: "loss.name (with loss.weight)" is loss.name."""
        return self.factor.split(" (")[0]

    def seen_from(self, name: str) -> Verdict:
        """The same verdict with ``name`` as ``a``."""
        if self.a == name:
            return self
        return self.model_copy(
            update={
                **{"a": self.b, "b": self.a, "mean_a": self.mean_b, "mean_b": self.mean_a},
                **{"difference": -self.difference, "low": -self.high, "high": -self.low},
                **{"family_low": -self.family_high, "family_high": -self.family_low},
                "groups": "; ".join(" ".join(reversed(pair)) for pair in self.pairs),
                "verdict": _OPPOSITE.get(self.verdict, self.verdict),
            }
        )


def read_verdicts(path: Path) -> tuple[Verdict, ...]:
    """Every verdict of a file, in its order; none if it is not there.

    Raises:
        UserError: If the file cannot be read.
    """
    rows = csv_table(path, _REQUIRED, _WORDS.__contains__).to_dict("records")
    try:
        return TypeAdapter(tuple[Verdict, ...]).validate_python(rows)
    except ValidationError as error:
        raise unreadable(path, error) from None
