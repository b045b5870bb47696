"""Train one run of a study, whatever happens to it: the study goes on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from isthmus.engine.run_folder import Busy, RunFolder, write_text
from isthmus.engine.run_result import RunResult, TuningResult
from isthmus.errors import UserError

Result = TypeVar("Result", RunResult, TuningResult)


def attempt(
    train: Callable[[], Result], folder: RunFolder, name: str, console: Console
) -> Result | None:
    """What training returned; None where it broke off, or another command trains or has trained it.

    Raises:
        UserError: If what was asked for is wrong, for that is wrong for every run.
    """
    try:
        with folder.held():
            return None if folder.is_finished else train()
    except Busy:
        console.print(f"{name}: another command trains it", markup=False)
    except UserError:
        raise
    except Exception as error:  # one broken run must not take the study with it
        write_text(folder.error, traceback.format_exc())
        console.print(f"{name}: broke off: {error}", style="red", markup=False)
    return None
