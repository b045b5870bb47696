"""The one exception for requests that cannot be met: bad recipes, bad files, bad flags."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A request that is wrong. Its text is one sentence: what is wrong, the rule, the remedy.

    The command line prints the sentence and exits with status 2. Work that was
    right but failed raises something else and exits with status 1.
    """


def nearest_name(word: str, names: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest one, or all of them.

    >>> nearest_name("widht", ["width", "depth"])
    'did you mean width?'
    >>> nearest_name("zebra", ["width", "depth"])
    'known: depth, width'
    """
    known = sorted(names)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
