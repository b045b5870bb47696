"""Dispatch to the commands, help, exit statuses. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from isthmus.errors import UserError, nearest_name

COMMANDS = {
    "demo": "Train six U-Nets and three VAEs, small and offline; ends with two reports.",
    "study": "Run a study, or go on with it: isthmus study RECIPE.toml.",
    "train": "Train one variant with one seed: isthmus train RECIPE.toml.",
    "report": "Write the report of a study again: isthmus report STUDY.",
    "compare": "Set two runs or two studies against each other: isthmus compare A B.",
    "generate": "Draw images by label: isthmus generate RUN --labels 3 7.",
    "swap": "Draw images again under other labels: isthmus swap RUN IMAGES... --labels 3 7.",
}
"""Each command, which is also its file and its function, and its line in the help."""

EXTRAS = ("train", "demo", "track", "cluster")
"""What may be missing, the smallest first."""

DISTRIBUTIONS = {"skimage": "scikit-image"}
"""What a module is called where one installs it, if that is another name."""

HELP_START = """isthmus trains encoder-decoder image models and compares them honestly.

usage: isthmus COMMAND ...
"""
HELP_END = """
isthmus COMMAND --help lists the flags; every recipe field is one (--model.width 8),
and isthmus study RECIPE --help lists those of that recipe.
--debug anywhere shows where a command failed; isthmus --version prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 the work failed, 2 the request was wrong."""
    given = sys.argv[1:] if argv is None else argv
    words = [word for word in given if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"isthmus {version('isthmus')}")
        return 0
    try:
        return _run(words[0], words[1:])
    except UserError as error:
        status, sentence = 2, str(error)
    except KeyboardInterrupt:
        status, sentence = 1, "stopped; the same command goes on where it stopped"
    except BrokenPipeError:  # the reader of our output has closed it
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
        status, sentence = 1, f"{words[0]} failed: {error} (--debug shows where)"
    print(f"isthmus: {sentence}", file=sys.stderr)
    return status


def _run(command: str, words: Sequence[str]) -> int:
    if command not in COMMANDS:
        raise UserError(f"{command}: unknown command; {nearest_name(command, COMMANDS)}")
    status: int = getattr(importlib.import_module(f"isthmus.cli.{command}"), command)(words)
    return status


def _extra_with(module: str) -> str | None:
    """The smallest extra of this package that brings a module; None if none does."""
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
