"""Which variants of a study may be compared with which, so that one thing differs at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["factor", "interaction", "pair"]
Settings = Mapping[str, Any]
"""Factor -> level, of one variant."""
Cell = tuple[str, ...]
"""A level of each free factor."""
_ABSENT = "none"


@dataclass(frozen=True)
class Comparison:
    """What is subtracted from what, in every seed.

    Within a group nothing differs but what is compared; the groups of a comparison have
    different settings of everything else, and their mean is what a seed contributes.
    """

    kind: Kind
    factor: str
    """The field; two fields for an interaction; nothing for a pair."""
    a: str
    b: str
    groups: tuple[tuple[str, ...], ...]
    """Variants in the order of the weights."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Of a less b; for an interaction, what a does at the one level of b less at the other."""
        return (1.0, -1.0, -1.0, 1.0) if self.kind == "interaction" else (1.0, -1.0)


def comparisons_of(variants: Mapping[str, Settings]) -> tuple[Comparison, ...]:
    """Every comparison that the variants allow: factors, two-way interactions, pairs.

    A factor's levels are compared where two variants differ in it and in nothing else, the later
    mentioned less the earlier one. A field that another one determines (a weight that goes with
    a penalty) has no comparison of its own; it is named beside the other.

    >>> both = {"a": {"down": "pool"}, "b": {"down": "strided"}}
    >>> [(c.kind, c.factor, c.a, c.b) for c in comparisons_of(both)]
    [('factor', 'down', 'strided', 'pool'), ('pair', '', 'a', 'b')]
    """
    words, cell_of = free_factors(variants)
    cells: dict[Cell, str] = {}
    for variant, cell in cell_of.items():
        cells.setdefault(cell, variant)
    levels = {place: _levels(cell[place] for cell in cells) for place in range(len(words))}
    factors = [
        Comparison("factor", words[place], a, b, groups)
        for place in levels
        for b, a in itertools.combinations(levels[place], 2)
        if (groups := tuple(_matched(cells, {place: (a, b)})))
    ]
    interactions = [
        Comparison(
            "interaction",
            f"{words[one]} x {words[other]}",
            f"{a} - {b}",
            f"{c} - {d}",
            groups,
        )
        for one, other in itertools.combinations(levels, 2)
        for b, a in itertools.combinations(levels[one], 2)
        for d, c in itertools.combinations(levels[other], 2)
        if (groups := tuple(_matched(cells, {one: (a, b), other: (c, d)})))
    ]
    pairs = [
        Comparison("pair", "", a, b, ((a, b),)) for a, b in itertools.combinations(variants, 2)
    ]
    return (*factors, *interactions, *pairs)


def count_families(compared: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> int:
    """How many kinds set different variants against each other; one factor and its pairs are one.

    >>> count_families([("factor", [("a", "b")]), ("pair", [("b", "a")])])
    1
    """
    by_kind: dict[str, set[frozenset[frozenset[str]]]] = {}
    for kind, groups in compared:
        by_kind.setdefault(kind, set()).add(frozenset(map(frozenset, groups)))
    return len({frozenset(of_kind) for of_kind in by_kind.values()})


def free_factors(variants: Mapping[str, Settings]) -> tuple[list[str], dict[str, Cell]]:
    """The factors that no other one determines, and each variant's level of these as text."""
    names = _names_of_free_factors(variants)
    cells = {
        variant: tuple(level_text(of[key]) for key in names) for variant, of in variants.items()
    }
    return list(names.values()), cells


def _matched(
    cells: Mapping[Cell, str], changed: Mapping[int, tuple[str, str]]
) -> Iterator[tuple[str, ...]]:
    """Variants at every combination of the changed levels, for each setting of all else.

    The combinations come with the last place changing fastest: aa', ab', ba', bb'.
    """
    first = {place: levels[0] for place, levels in changed.items()}
    for cell in cells:
        if all(cell[place] == level for place, level in first.items()):
            combinations = itertools.product(*changed.values())
            group = [
                cells.get(_replaced(cell, dict(zip(changed, levels, strict=True))))
                for levels in combinations
            ]
            if None not in group:
                yield tuple(variant for variant in group if variant is not None)


def _levels(mentioned: Iterable[str]) -> list[str]:
    """In the order of first mention, but what is absent comes first, to be subtracted."""
    return sorted(dict.fromkeys(mentioned), key=lambda level: level != _ABSENT)


def _replaced(cell: Cell, levels: Mapping[int, str]) -> Cell:
    return tuple(levels.get(place, value) for place, value in enumerate(cell))


def _names_of_free_factors(variants: Mapping[str, Settings]) -> dict[str, str]:
    """Each factor that no other determines, and its name with those that it determines."""
    settings = list(variants.values())
    keys = [key for key in settings[0] if len({level_text(of[key]) for of in settings}) > 1]
    owner: dict[str, str] = {}
    for place, key in enumerate(keys):
        for other_place, other in enumerate(keys):
            is_twin = other_place > place and _determines(settings, key, other)
            if other == key or other in owner or is_twin:  # of twins the first stays
                continue
            if _determines(settings, other, key):
                owner[key] = other
                break
    free = [key for key in keys if key not in owner]
    root = {key: _root(key, owner) for key in keys}
    return {
        key: _with(key, [other for other in keys if root[other] == key != other]) for key in free
    }


def _root(key: str, owner: Mapping[str, str]) -> str:
    """The field that determines the one that determines this one, and so on."""
    while key in owner:
        key = owner[key]
    return key


def _determines(settings: Sequence[Settings], one: str, other: str) -> bool:
    """Whether a variant's level of the one tells its level of the other."""
    seen: dict[str, str] = {}
    return all(
        seen.setdefault(level_text(of[one]), level_text(of[other])) == level_text(of[other])
        for of in settings
    )


def _with(key: str, others: Sequence[str]) -> str:
    return f"{key} (with {', '.join(others)})" if others else key


def level_text(level: Any) -> str:
    """A factor's level as it stands in names of groups; None is the level of variants that lack it."""
    return _ABSENT if level is None else str(level)
