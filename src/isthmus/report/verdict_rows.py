"""How verdicts are shown: their marks and kinds."""

from __future__ import annotations

MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "interacts": "×", "cannot tell": "?"}  # noqa: RUF001
"""Every verdict and the mark that stands for it, from the plainest to none."""

KINDS = ("factor", "interaction", "pair")
"""What is compared: levels of a factor, differences of differences, or two variants."""
