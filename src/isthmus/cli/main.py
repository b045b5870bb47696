"""Run the commands, print the help, return exit statuses. A command imports heavy packages only if run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from isthmus.errors import UserError, nearest_name
from isthmus.trust import trust

COMMANDS = {
    "demo": "Train six small U-Nets and three small VAEs offline, and write two reports.",
    "study": "Run a study, or continue it: isthmus study RECIPE.toml.",
    "train": "Train one variant with one seed: isthmus train RECIPE.toml.",
    "report": "Write the report of a study again: isthmus report STUDY.",
    "compare": "Compare two runs or two studies: isthmus compare A B.",
    "generate": "Generate images by label: isthmus generate RUN --labels 3 7.",
    "swap": "Decode your images with other labels: isthmus swap RUN IMAGES... --labels 3 7.",
}
"""Command -> line of the help. The module and the function of a command have the name of the command."""

EXTRAS = ("train", "demo", "track", "cluster")
"""Extras of this package that may not be installed, the smallest first."""

DISTRIBUTIONS = {"skimage": "scikit-image"}
"""Module -> name of the distribution to install, where the two differ."""

HELP_START = """isthmus trains encoder-decoder image models and compares them honestly.

usage: isthmus COMMAND ...
"""
HELP_END = """
isthmus COMMAND --help lists the flags; every recipe field is a flag (--model.width 8),
and isthmus study RECIPE --help lists the flags for that recipe.
In any place, --debug prints the traceback of an error, and --trust package.module:name allows a recipe
to name code of yours. isthmus --version prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 success, 1 failure, 2 invalid request."""
    given = sys.argv[1:] if argv is None else argv
    words = [word for word in given if word != "--debug"]
    try:
        words = _without_trust(words)
        if not words or words[0] in ("-h", "--help"):
            print(_help())
            return 0 if words else 2
        if words[0] == "--version":
            from importlib.metadata import version

            print(f"isthmus {version('isthmus')}")
            return 0
        return _run(words[0], words[1:])
    except UserError as error:
        status, sentence = 2, str(error)
    except KeyboardInterrupt:
        status, sentence = 1, "interrupted; the same command continues from here"
    except BrokenPipeError:  # the process that reads this output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        extra = _extra_with(error.name or "")
        if extra is None or "--debug" in given:
            raise
        status = 2
        sentence = f"{words[0]} needs {error.name}: install it with pip install 'isthmus[{extra}]'"
    except Exception as error:
        if "--debug" in given:
            raise
        status, sentence = 1, f"{words[0]} failed: {error} (--debug prints the traceback)"
    print(f"isthmus: {sentence}", file=sys.stderr)
    return status


def _without_trust(words: Sequence[str]) -> list[str]:
    """The words without each ``--trust NAME``, whose name is trusted from now on."""
    kept, rest = [], iter(words)
    for word in rest:
        flag, _, name = word.partition("=")
        if flag != "--trust":
            kept.append(word)
            continue
        name = name or next(rest, "")
        if not name:
            raise UserError("--trust: this flag needs a value; see isthmus --help")
        trust(name)
    return kept


def _run(command: str, words: Sequence[str]) -> int:
    if command not in COMMANDS:
        raise UserError(f"{command}: unknown command; {nearest_name(command, COMMANDS)}")
    status: int = getattr(importlib.import_module(f"isthmus.cli.{command}"), command)(words)
    return status


def _extra_with(module: str) -> str | None:
    """The smallest extra of this package that installs a module; None if no extra does."""
    import re
    from importlib.metadata import requires

    top = module.partition(".")[0]
    wanted = DISTRIBUTIONS.get(top, top)
    bringing = [of for of in requires("isthmus") or () if re.split(r"[^\w.-]", of)[0] == wanted]
    return next((extra for extra in EXTRAS if any(f"'{extra}'" in of for of in bringing)), None)


def _help() -> str:
    lines = [f"  {name:<8} {line}" for name, line in COMMANDS.items()]
    return "\n".join([HELP_START, *lines, HELP_END])


if __name__ == "__main__":
    sys.exit(main())
