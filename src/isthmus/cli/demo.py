"""isthmus demo: run one small study per task, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags
from isthmus.cli.study import study
from isthmus.recipe.rules import STRICT, Positive

RECIPES = ("recipes/demo.toml", "recipes/demo_digits.toml")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DemoOptions:
    """Run the studies of the demo, or continue them."""

    out: Path = Path("studies")
    """Folder in which the study folders are created."""
    jobs: Positive | None = None
    """Number of runs trained at a time; if omitted, a short measurement decides."""


def demo(words: Sequence[str]) -> int:
    """Run the studies of the demo; return the higher of their exit statuses."""
    (options,) = parse_flags((DemoOptions(),), words, "isthmus demo")
    jobs = ["--jobs", str(options.jobs)] if options.jobs else []
    return max(
        study([name, "--out", str(options.out / Path(name).stem), *jobs]) for name in RECIPES
    )
