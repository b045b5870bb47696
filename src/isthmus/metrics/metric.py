"""A metric as tables name and explain it, and the words that a column's name stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number of a run, its direction and its meaning."""

    name: str
    higher_is_better: bool = True
    definition: str = ""
    words: str = ""
    """What heads its column; empty: its name says it."""

    @property
    def title(self) -> str:
        """The metric as it stands in a sentence."""
        return self.words or in_words(self.name)


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
    """A column's name as it stands in a sentence.

    >>> in_words("mean_iou"), in_words("elbo_nats")
    ('mean IoU', 'ELBO nats')
    """
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))
