"""The exception for requests that cannot be met: wrong recipes, files, flags."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A wrong request. Its message is one sentence: what is wrong, the rule, the remedy.

    The command line prints the message and exits with status 2. Other exceptions are failures of a
    correct request and exit with status 1.
    """


def nearest_name(word: str, names: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest known name, or all of them.

    >>> nearest_name("widht", ["width", "depth"])
    'did you mean width?'
    >>> nearest_name("zebra", ["width", "depth"])
    'known: depth, width'
    """
    known = sorted(names)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
