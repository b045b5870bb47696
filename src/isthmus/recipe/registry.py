"""The parts that a recipe can name: isthmus's own, those of installed packages, and trusted ones.

A registry holds import strings, as entry points do. A part is imported when a run uses it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import (
    Distribution,
    EntryPoint,
    distribution,
    entry_points,
    packages_distributions,
)
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from isthmus.errors import UserError, nearest_name
from isthmus.trust import trusted, why_untrusted

_installed = functools.cache(entry_points)


@dataclass(frozen=True)
class Origin:
    """Where a part comes from that is not isthmus's own."""

    name: str
    """In the recipe."""
    distribution: str
    """The installed package; empty if the part is in no installed package."""
    version: str
    """Of the installed package."""
    source: str
    """Hash of the file that defines the part, twelve hex digits; empty if there is no such file."""


class Registry:
    """The parts of one kind, by their names in recipes.

    A name that is isthmus's own cannot be given another meaning.

    Args:
        group: Name of the entry points of packages that add parts of this kind.
        kind: What a part is, for messages.
        built_in: Name -> import string of isthmus's own parts.
    """

    def __init__(self, group: str, kind: str, built_in: Mapping[str, str]) -> None:
        self.group = group
        self.kind = kind
        self._built_in = {name: EntryPoint(name, of, group) for name, of in built_in.items()}

    @functools.cached_property
    def _outside(self) -> tuple[EntryPoint, ...]:
        installed = _installed().select(group=self.group)
        named = (EntryPoint(name, name, self.group) for name in trusted())
        return tuple(part for part in (*installed, *named) if part.name not in self._built_in)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All names: isthmus's own, then others."""
        return tuple(dict.fromkeys([*self._built_in, *(part.name for part in self._outside)]))

    def choices(self, *more: str) -> Any:
        """The type of a recipe field that holds one of the names, or of some more values."""
        return Annotated[Literal[(*self.names, *more)], self]

    def is_outside(self, name: str) -> bool:
        """Whether a part is not isthmus's own."""
        return self._named(name).name not in self._built_in

    def load(self, name: str) -> Any:
        """The part with this name, imported now if it was not before.

        Raises:
            UserError: If there is no such part, or the package that it comes from is broken.
        """
        part = self._named(name)
        if not self.is_outside(name):
            return part.load()
        try:
            return part.load()
        except Exception as error:  # code of others may raise anything
            owner = _owner(part)
            remedy = (
                f"update or reinstall {owner.name}"
                if owner
                else "correct it, or add its folder to PYTHONPATH"
            )
            raise UserError(
                f"{self.kind} {name}: {part.value}{f' of {owner.name} {owner.version}' if owner else ''} "
                f"cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}): a part runs "
                f"only if Python can import it; {remedy}"
            ) from error

    def origin(self, name: str) -> Origin | None:
        """Where a part comes from; None if it is isthmus's own.

        Raises:
            UserError: As for ``load``.
        """
        if not self.is_outside(name):
            return None
        part, loaded = self._named(name), self.load(name)
        owner = _owner(part)
        # An object that is neither a function nor a class has the module of its class.
        module = loaded.__module__ if hasattr(loaded, "__qualname__") else part.module
        file = getattr(sys.modules[module], "__file__", None)
        return Origin(
            name=name,
            distribution=owner.name if owner else "",
            version=owner.version if owner else "",
            source=hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else "",
        )

    def _named(self, name: str) -> EntryPoint:
        if name in self._built_in:
            return self._built_in[name]
        found = [part for part in self._outside if part.name == name]
        if not found:
            raise UserError(
                why_untrusted(name)
                or f"{name!r}: unknown {self.kind}; {nearest_name(name, self.names)}"
            )
        if len(found) > 1:
            packages = " and ".join(part.dist.name for part in found if part.dist)
            raise UserError(
                f"{self.kind} {name} is in {packages}: a name must have one meaning; uninstall one of the "
                "packages"
            )
        return found[0]


def parts_from_outside(table: Any, prefix: str = "") -> dict[str, Origin]:
    """The parts of a recipe that are not isthmus's own: dotted key -> origin."""
    found: dict[str, Origin] = {}
    for key, hint in get_type_hints(type(table), include_extras=True).items():
        value, registry = getattr(table, key), registry_of(hint)
        if dataclasses.is_dataclass(value):
            found |= parts_from_outside(value, f"{prefix}{key}.")
        elif registry is not None:
            terms = [value] if value in registry.names else value.split("+")
            if origin := next(filter(None, map(registry.origin, terms)), None):
                found[prefix + key] = origin
    return found


def registry_of(hint: Any) -> Registry | None:
    """The registry whose names a recipe field with this type holds; None if there is none."""
    marks = getattr(hint, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Registry)), None)


def _owner(part: EntryPoint) -> Distribution | None:
    """The installed package of a part."""
    if part.dist:
        return part.dist
    names = packages_distributions().get(part.module.partition(".")[0])
    return distribution(names[0]) if names else None


DOWN = Registry(
    "isthmus.down",
    "down-sampler",
    {
        "max-pool": "isthmus.nn.blocks:max_pool",
        "strided": "isthmus.nn.blocks:strided_conv",
        "average-pool": "isthmus.nn.blocks:average_pool",
        "blur-pool": "isthmus.nn.blocks:blur_pool",
    },
)
"""``isthmus.nn.blocks.DownSampler``."""
UP = Registry(
    "isthmus.up",
    "up-sampler",
    {
        "transposed": "isthmus.nn.blocks:transposed_conv",
        "bilinear": "isthmus.nn.blocks:bilinear_upsample",
        "nearest": "isthmus.nn.blocks:nearest_upsample",
        "pixel-shuffle": "isthmus.nn.blocks:pixel_shuffle",
    },
)
"""``isthmus.nn.blocks.UpSampler``."""
LOSS = Registry(
    "isthmus.loss",
    "loss",
    {
        "bce": "isthmus.losses:bce_loss",
        "ce": "isthmus.losses:ce_loss",
        "dice": "isthmus.losses:dice_loss",
        "focal": "isthmus.losses:focal_loss",
        "tversky": "isthmus.losses:tversky_loss",
    },
)
"""``isthmus.losses.LossFunction``, with options as keywords."""
LIKELIHOOD = Registry(
    "isthmus.likelihood",
    "likelihood",
    {
        "bernoulli-dynamic": "isthmus.nn.likelihoods:bernoulli_dynamic",
        "bernoulli-threshold": "isthmus.nn.likelihoods:bernoulli_threshold",
        "continuous-bernoulli": "isthmus.nn.likelihoods:ContinuousBernoulli",
        "gaussian": "isthmus.nn.likelihoods:Gaussian",
        "discretised-logistic": "isthmus.nn.likelihoods:DiscretisedLogistic",
    },
)
"""() -> ``isthmus.nn.likelihoods.Likelihood``."""
MASKED_DATASET = Registry(
    "isthmus.dataset",
    "dataset",
    {
        "demo-scenes": "isthmus.data.datasets:demo_scenes",
        "folder": "isthmus.data.datasets:folder",
        "oxford-pets": "isthmus.data.datasets:oxford_pets",
    },
)
"""(data table, ``--data-root``) -> ``isthmus.data.store.MaskedSource``."""
LABELLED_DATASET = Registry(
    "isthmus.dataset",
    "dataset",
    {
        "mnist": "isthmus.data.datasets:labelled_set_of",
        "fashion-mnist": "isthmus.data.datasets:labelled_set_of",
        "kmnist": "isthmus.data.datasets:labelled_set_of",
        "cifar10": "isthmus.data.datasets:labelled_set_of",
        "classes": "isthmus.data.datasets:classes",
        "demo-digits": "isthmus.data.datasets:demo_digits",
    },
)
"""(data table, ``--data-root``) -> ``isthmus.data.store.Source``, whose groups are class names."""
