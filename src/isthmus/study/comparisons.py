"""Choose the comparisons of a study: between variants that differ only in what is compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["factor", "interaction", "pair"]
Levels = Mapping[str, Any]
"""Factor -> level, of one variant."""
Cell = tuple[str, ...]
"""A level of each free factor, as text."""
_ABSENT = "none"


@dataclass(frozen=True)
class Comparison:
    """A contrast between variants, which is computed for every seed.

    The variants of a group differ only in the factors that are compared; groups differ from each other
    in the remaining factors. The difference of a seed is the mean of the contrast over groups.
    """

    kind: Kind
    factor: str
    """The recipe field; "FIELD x FIELD" for an interaction; empty for a pair."""
    a: str
    b: str
    groups: tuple[tuple[str, ...], ...]
    """Variants in the order of the weights."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Contrast weights within a group: a - b; for an interaction, the difference of two differences."""
        return (1.0, -1.0, -1.0, 1.0) if self.kind == "interaction" else (1.0, -1.0)


def comparisons_of(variants: Mapping[str, Levels]) -> tuple[Comparison, ...]:
    """Every comparison that the variants allow: factors, two-way interactions, pairs.

    Two levels of a factor are compared in all pairs of variants that differ in this factor only; the
    level mentioned first is subtracted. A field whose level is determined by another field (the weight
    of a penalty by the penalty) has no comparison of its own; the name of the other field mentions it.

    >>> both = {"a": {"down": "pool"}, "b": {"down": "strided"}}
    >>> [(c.kind, c.factor, c.a, c.b) for c in comparisons_of(both)]
    [('factor', 'down', 'strided', 'pool'), ('pair', '', 'a', 'b')]
    """
    names, cell_of = free_factors(variants)
    cells: dict[Cell, str] = {}
    for variant, cell in cell_of.items():
        cells.setdefault(cell, variant)
    levels = {place: _ordered(cell[place] for cell in cells) for place in range(len(names))}
    factors = [
        Comparison("factor", names[place], a, b, groups)
        for place in levels
        for b, a in itertools.combinations(levels[place], 2)
        if (groups := tuple(_groups(cells, {place: (a, b)})))
    ]
    interactions = [
        Comparison(
            "interaction", f"{names[one]} x {names[other]}", f"{a} - {b}", f"{c} - {d}", groups
        )
        for one, other in itertools.combinations(levels, 2)
        for b, a in itertools.combinations(levels[one], 2)
        for d, c in itertools.combinations(levels[other], 2)
        if (groups := tuple(_groups(cells, {one: (a, b), other: (c, d)})))
    ]
    pairs = [
        Comparison("pair", "", a, b, ((a, b),)) for a, b in itertools.combinations(variants, 2)
    ]
    return (*factors, *interactions, *pairs)


def count_families(compared: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> int:
    """Number of different families of comparisons.

    A family is all comparisons of one kind on all metrics. Families that compare the same groups of
    variants count once.

    Args:
        compared: Kind and groups of each comparison.

    >>> count_families([("factor", [("a", "b")]), ("pair", [("b", "a")])])
    1
    """
    by_kind: dict[str, set[frozenset[frozenset[str]]]] = {}
    for kind, groups in compared:
        by_kind.setdefault(kind, set()).add(frozenset(map(frozenset, groups)))
    return len({frozenset(of_kind) for of_kind in by_kind.values()})


def free_factors(variants: Mapping[str, Levels]) -> tuple[list[str], dict[str, Cell]]:
    """Names of the free factors, and the levels of these factors in each variant.

    A factor is not free if another factor determines its level; of two factors that determine each
    other, the first is free. The name of a free factor mentions the factors that it determines.
    """
    settings = list(variants.values())
    keys = [key for key in settings[0] if len({level_text(of[key]) for of in settings}) > 1]
    owner = _owners(settings, keys)
    root = {key: _root(key, owner) for key in keys}
    free = [key for key in keys if key not in owner]
    names = [_name(key, [of for of in keys if root[of] == key != of]) for key in free]
    cells = {name: tuple(level_text(of[key]) for key in free) for name, of in variants.items()}
    return names, cells


def level_text(level: Any) -> str:
    """A level as text; None, the level of a variant that lacks the field, becomes "none"."""
    return _ABSENT if level is None else str(level)


def _groups(
    cells: Mapping[Cell, str], changed: Mapping[int, tuple[str, str]]
) -> Iterator[tuple[str, ...]]:
    """For each setting of the other factors, the variants at all combinations of the changed levels.

    The last changed factor varies fastest: (a, c), (a, d), (b, c), (b, d). Settings that lack a
    combination are skipped.
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


def _ordered(mentioned: Iterable[str]) -> list[str]:
    """Levels in the order of first mention, except that "none" comes first, so that it is subtracted."""
    return sorted(dict.fromkeys(mentioned), key=lambda level: level != _ABSENT)


def _replaced(cell: Cell, levels: Mapping[int, str]) -> Cell:
    return tuple(levels.get(place, value) for place, value in enumerate(cell))


def _owners(settings: Sequence[Levels], keys: Sequence[str]) -> dict[str, str]:
    """Each field that is not free -> a field that determines it."""
    owner: dict[str, str] = {}
    for place, key in enumerate(keys):
        for other_place, other in enumerate(keys):
            is_twin = other_place > place and _determines(settings, key, other)
            if (
                other == key or other in owner or is_twin
            ):  # two determine each other: the first is free
                continue
            if _determines(settings, other, key):
                owner[key] = other
                break
    return owner


def _root(key: str, owner: Mapping[str, str]) -> str:
    """The free field that determines this field, directly or through other fields."""
    while key in owner:
        key = owner[key]
    return key


def _determines(settings: Sequence[Levels], one: str, other: str) -> bool:
    """Whether variants with equal levels of ``one`` always have equal levels of ``other``."""
    seen: dict[str, str] = {}
    return all(
        seen.setdefault(level_text(of[one]), level_text(of[other])) == level_text(of[other])
        for of in settings
    )


def _name(key: str, others: Sequence[str]) -> str:
    return f"{key} (with {', '.join(others)})" if others else key
