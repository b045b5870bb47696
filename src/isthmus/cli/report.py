"""isthmus report STUDY: write the report of a study again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro
from pydantic.dataclasses import dataclass

from isthmus.cli.flags import parse_flags
from isthmus.cli.plans import print_study
from isthmus.errors import UserError
from isthmus.recipe.rules import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReportOptions:
    """Write the report of a study again."""

    study: tyro.conf.Positional[Path | None] = None
    """Folder of the study."""
    json: bool = False
    """Print the study's record, verdicts and runs as JSON instead of a summary."""


def report(words: Sequence[str]) -> int:
    """Write the report of the study that the command line names."""
    (options,) = parse_flags((ReportOptions(),), words, "isthmus report")
    if options.study is None:
        raise UserError("report needs the folder of a study: isthmus report studies/NAME")
    from isthmus.report.page import write_report

    print_study(options.study, write_report(options.study), as_json=options.json)
    return 0
