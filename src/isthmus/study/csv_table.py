"""One CSV file of a study folder as a table; a file that is absent or empty has no rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from isthmus.errors import UserError


def csv_table(
    path: Path, required: Sequence[str], is_word: Callable[[str], bool] = lambda _: False
) -> pd.DataFrame:
    """The table in a file; columns of words stay text, for a level may be called "none" or "nan".

    Args:
        path: The file.
        required: Columns without which nothing can be said of a row.
        is_word: Whether a column holds words; in the others, nothing stands for "no value".

    Raises:
        UserError: If the file is no CSV or lacks a required column.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(required))
    try:
        header = pd.read_csv(path, nrows=0).columns
        words = [key for key in header if is_word(key)]
        blank = {key: ["", "nan"] for key in header if key not in words}
        table = pd.read_csv(
            path, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=blank
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=list(required))
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    if absent := [key for key in required if key not in table]:
        raise unreadable(path, KeyError(f"no column {absent[0]}"))
    return table


def unreadable(path: Path, error: Exception) -> UserError:
    """What to say of a file that is there and broken."""
    lines = str(error).strip().splitlines()
    reason = ", ".join(line.strip() for line in lines[:3])
    return UserError(
        f"{path}: cannot be read ({reason}); "
        "take the file away to render without it, or run the study again"
    )
