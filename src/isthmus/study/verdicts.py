"""What may be said of every comparison of a study: better, worse, equivalent, or cannot tell."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.stats.corrections import Looks, holm, planned_looks
from isthmus.stats.paired import (
    PairedDifference,
    needed_seeds,
    needed_seeds_for_equivalence,
)
from isthmus.study.comparisons import count_families
from isthmus.study.differences import Found, scatters
from isthmus.study.records import Verdict
from isthmus.study.sentences import CANNOT_TELL, sentence_of

ALPHA = 0.05
"""Chance of any false "better", "worse" or "interacts" in a family; the same for "equivalent"."""


def verdicts_on(
    found: Sequence[Found],
    margins: Mapping[str, float],
    looks: Looks,
    *,
    is_complete: bool,
) -> tuple[Verdict, ...]:
    """For each comparison its difference, intervals, p-values, verdict, seeds that it would take.

    Two-sided paired t tests over seeds. Holm's correction holds the chance of any false claim
    in a family at ``ALPHA``; a family is all comparisons of one kind, by all metrics. Looks at
    the study before its end are corrected for first. Equivalence within a margin is shown by
    two one-sided tests (Schuirmann 1987), corrected likewise, and goes before better and worse.

    A study has several families, each with its own chance of a false claim. So nothing is claimed
    better, worse or interacting where no p-value of any family stands Bonferroni's correction over
    families too: with no effect anywhere, the chance of any such claim is ``ALPHA`` at most. Claims of
    equivalence are wrong in other studies than those, and have ``ALPHA`` in each family.

    Assumes that differences of a seed are drawn from one normal distribution, each seed by itself.

    Args:
        found: The comparisons.
        margins: Metric -> the largest difference that makes none.
        looks: After how many seeds verdicts are drawn.
        is_complete: Whether every planned run is done; until then nothing is claimed.
    """
    kinds = dict.fromkeys(of.comparison.kind for of in found)
    families = [[of for of in found if of.comparison.kind == kind] for kind in kinds]
    p_families = [_family_wise([_p_value(of) for of in family], looks) for family in families]
    different = count_families((of.comparison.kind, of.groups) for of in found)
    least = min((p for p_values in p_families for p in p_values if p <= 1), default=1.0)
    p_least = min(1.0, different * least)
    verdicts: list[Verdict] = []
    for family, p_values in zip(families, p_families, strict=True):
        equivalences = _family_wise([_p_equivalent(of, margins) for of in family], looks)
        to_tell = len(family) * (1 if p_least < ALPHA else different)
        for of, p, equivalent in zip(family, p_values, equivalences, strict=True):
            ps = {"p_family": p, "p_study": np.maximum(p, p_least)}
            margin = margins.get(of.metric.name)
            sizes = (len(family), to_tell)
            verdicts.append(
                _row(
                    of,
                    ps | {"p_equivalent": equivalent},
                    margin,
                    looks,
                    sizes,
                    is_complete=is_complete,
                )
            )
    return tuple(verdicts)


def _p_value(found: Found) -> float:
    return found.difference.p_value if scatters(found.difference) else math.nan


def _p_equivalent(found: Found, margins: Mapping[str, float]) -> float:
    margin = margins.get(found.metric.name)
    if margin is None or not scatters(found.difference):
        return math.nan
    return found.difference.p_equivalent(margin)


def _family_wise(p_values: Sequence[float], looks: Looks) -> Float[np.ndarray, " comparison"]:
    return holm(looks.corrected(np.array(p_values)))


def _row(
    found: Found,
    p_values: Mapping[str, float],
    margin: float | None,
    looks: Looks,
    sizes: tuple[int, int],
    *,
    is_complete: bool,
) -> Verdict:
    """One comparison; ``sizes``: of its family, and over how many tests Bonferroni's correction claims."""
    comparison, difference = found.comparison, found.difference
    row: dict[str, Any] = {
        "kind": comparison.kind,
        "metric": found.metric.name,
        "factor": comparison.factor,
        "a": comparison.a,
        "b": comparison.b,
        "matched": len(found.groups),
        "n": difference.n if difference else 0,
        "mean_a": found.means[0],
        "mean_b": found.means[1],
    }
    verdict, needs = CANNOT_TELL, None
    if difference:
        row |= {"difference": difference.mean, "sd": difference.sd}
        for prefix, count in (("", 1), ("family_", sizes[0])):
            alpha = looks.nominal_alpha(ALPHA / count)
            ends = difference.interval(1 - alpha) if scatters(difference) else (math.nan, math.nan)
            row |= {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}
        if is_complete:
            row |= {"p": _p_value(found), **p_values}
            verdict = _verdict(found, p_values["p_study"], p_values["p_equivalent"])
        if is_complete and verdict == CANNOT_TELL and scatters(difference):
            needs = _needs(difference, margin, ALPHA / sizes[1], looks)
    row |= {"margin": margin, "verdict": verdict, "needs_seeds": needs}
    ends = (row.get("low", math.nan), row.get("high", math.nan))
    sentence = sentence_of(found, ends, verdict, margin, needs, is_complete=is_complete)
    groups = "; ".join(map(" ".join, found.groups))
    return Verdict(**row, sentence=sentence, groups=groups)


def _verdict(found: Found, p_study: float, p_equivalent: float) -> str:
    assert found.difference is not None
    if p_equivalent < ALPHA:
        return "equivalent"
    if not p_study < ALPHA:
        return CANNOT_TELL
    if found.comparison.kind == "interaction":
        return "interacts"
    return "better" if (found.difference.mean > 0) == found.metric.higher_is_better else "worse"


def _needs(
    difference: PairedDifference, margin: float | None, alpha: float, looks: Looks
) -> int | None:
    """Seeds that would tell if the truth were what was seen, the sooner of either way.

    To add them is to look again: at the level that the last of all looks would then have, which
    falls with their number. So the count rises until it suffices at its own level.
    """
    count: int | None = difference.n + 1
    while count is not None:
        enough = _enough(difference, margin, _level(looks, count, alpha))
        if enough is not None and enough <= count:
            break
        count = enough
    return count


def _enough(difference: PairedDifference, margin: float | None, level: float) -> int | None:
    """Seeds that would tell at this level of one test."""
    ways = [needed_seeds(difference.mean, difference.sd, level)]
    if margin is not None:
        ways.append(needed_seeds_for_equivalence(difference.mean, difference.sd, margin, level))
    return min((count for count in ways if count is not None), default=None)


def _level(looks: Looks, count: int, alpha: float) -> float:
    """Of one test in a study that looks at so many seeds too, beside the looks it has."""
    seeds = tuple(sorted({*looks.seeds, count}))
    return (looks if seeds == looks.seeds else _more_looks(seeds)).nominal_alpha(alpha)


@functools.cache
def _more_looks(seeds: tuple[int, ...]) -> Looks:
    """Of a study that is not run yet: fewer draws do for a count that is a guess anyway."""
    return planned_looks(seeds, np.random.default_rng(0), draws=20_000)
