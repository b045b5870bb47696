"""The exception for invalid requests: invalid recipes, files or flags."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """An invalid request. The message is one sentence: what is wrong, the rule, the remedy.

    The command line prints the message and exits with status 2. Any other exception is the failure of a
    valid request, and the command line exits with status 1.
    """


def nearest_name(word: str, names: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest known name or, if none is near, all known names.

    >>> nearest_name("widht", ["width", "depth"])
    'did you mean width?'
    >>> nearest_name("zebra", ["width", "depth"])
    'known: depth, width'
    """
    known = sorted(names)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
