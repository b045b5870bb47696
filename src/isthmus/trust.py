"""Code that a recipe may name by its import string: what the user trusts, by --trust or ISTHMUS_TRUST.

The names stand in the environment, so that processes started by this one trust them too. They have to stand
there before a recipe class is imported, because the types of its fields list them.
"""

from __future__ import annotations

import os
import re

from isthmus.errors import UserError

VARIABLE = "ISTHMUS_TRUST"
"""Environment variable with the trusted import strings, separated by spaces."""

_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def trust(name: str) -> None:
    """Let recipes name this import string.

    Raises:
        UserError: If it is not an import string.
    """
    if not _IMPORT_STRING.fullmatch(name):
        raise UserError(
            f"--trust {name}: must be the import string of code that the recipe names; write it as "
            "--trust package.module:name"
        )
    os.environ[VARIABLE] = " ".join(dict.fromkeys([*trusted(), name]))


def trusted() -> tuple[str, ...]:
    """All trusted import strings."""
    return tuple(filter(_IMPORT_STRING.fullmatch, os.environ.get(VARIABLE, "").split()))


def why_untrusted(value: str) -> str | None:
    """What is wrong with a value that names code that is not trusted; None if it does not.

    >>> why_untrusted("my_parts:wavelet+dice")
    'my_parts:wavelet is not trusted: code that a recipe names runs only if you allow it; add --trust \
my_parts:wavelet'
    """
    names = [term for term in value.split("+") if ":" in term and term not in trusted()]
    if not names:
        return None
    return (
        f"{names[0]} is not trusted: code that a recipe names runs only if you allow it; add "
        f"--trust {names[0]}"
    )
