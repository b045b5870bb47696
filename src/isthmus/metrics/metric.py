"""A metric and how tables show it: name, direction, definition, title, number of decimals."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """The name, the direction and the definition of a number that is measured for each run."""

    name: str
    higher_is_better: bool = True
    definition: str = ""
    words: str = ""
    """Title of the metric. If empty, the title is made from the name."""

    @property
    def title(self) -> str:
        """The metric in words, for use within a sentence."""
        return self.words or in_words(self.name)

    @property
    def heading(self) -> str:
        """The title with an upper-case first letter, for a column head or the start of a sentence."""
        return self.title[:1].upper() + self.title[1:]

    def rank_key(self, value: float) -> tuple[bool, float]:
        """Sort key of a value of this metric: best values first, values that are not finite last.

        >>> sorted([math.nan, 0.5, 0.75], key=Metric("mean_iou").rank_key)
        [0.75, 0.5, nan]
        """
        if not math.isfinite(value):
            return True, 0.0
        return False, -value if self.higher_is_better else value


_WORDS = {
    "dice": "Dice",
    "elbo": "ELBO",
    "f": "F",
    "gflop": "GFLOP",
    "iou": "IoU",
    "lr": "learning rate",
    "nll": "NLL",
}


def in_words(name: str) -> str:
    """The name of a column in words.

    >>> in_words("mean_iou"), in_words("elbo_nats")
    ('mean IoU', 'ELBO nats')
    """
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def decimals_for(width: float) -> int:
    """Number of decimals that resolves a fifth of an interval's width; 3 if that is unknown or 0.

    >>> [decimals_for(width) for width in (0.012, 0.008, 0.3, 40.0, float("nan"))]
    [3, 3, 2, 0, 3]
    """
    if not math.isfinite(width) or width <= 0:
        return 3
    return min(max(-math.floor(math.log10(width / 5) + 1e-9), 0), 6)
