"""A score as tables name and explain it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One number of a run, its direction and its meaning."""

    name: str
    higher_is_better: bool
    definition: str
    words: str = ""
    """What heads its column; empty: its name says it."""
