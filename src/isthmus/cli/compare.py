"""isthmus compare A B: compare two runs by image, or two studies by seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro
from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags
from isthmus.errors import UserError
from isthmus.recipe.rules import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompareOptions:
    """Compare two runs (paired by image) or two studies (paired by seed)."""

    a: tyro.conf.Positional[Path | None] = None
    """Folder of a run or a study."""
    b: tyro.conf.Positional[Path | None] = None
    """Folder of the other run or study."""


def compare(words: Sequence[str]) -> int:
    """Print the comparison of the two runs or studies that the command line names."""
    (options,) = parse_flags((CompareOptions(),), words, "isthmus compare")
    a, b = options.a, options.b
    if a is None or b is None:
        raise UserError("compare takes two runs or two studies: isthmus compare A B")
    from isthmus.engine.run_folder import RunFolder
    from isthmus.study.comparing import compare_runs, compare_studies

    are_runs = [RunFolder(path).is_claimed for path in (a, b)]
    if are_runs[0] != are_runs[1]:
        raise UserError(
            f"{a} and {b}: one is a run and the other is not; name two runs or two studies"
        )
    found = compare_runs(a, b) if all(are_runs) else compare_studies(a, b)
    print(f"A: {a}\nB: {b}\nscored on: {found.evaluated_on}")
    print(f"differ in: {', '.join(found.differing) or 'nothing'}")
    print("\n".join(found.sentences))
    return 0
