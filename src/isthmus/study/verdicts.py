"""What may be said of every comparison of a study: better, worse, equivalent, or cannot tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.scoring.definitions import Score
from isthmus.statistics.families import holm
from isthmus.statistics.looks import Looks
from isthmus.statistics.paired import (
    PairedDifference,
    needed_seeds,
    needed_seeds_for_equivalence,
    paired_difference,
)
from isthmus.study.comparisons import Comparison

ALPHA = 0.05
"""Chance of any false "better", "worse" or "interacts" in a family; the same for "equivalent"."""
CANNOT_TELL = "cannot tell"

COLUMNS = (
    *("kind", "score", "factor", "a", "b", "matched", "n", "mean_a", "mean_b", "difference", "sd"),
    *("low", "high", "family_low", "family_high", "p", "p_family", "p_equivalent", "margin"),
    *("verdict", "needs_seeds", "sentence"),
)
"""Of verdicts.csv, all of them whatever could be computed."""


@dataclass(frozen=True)
class Found:
    """One comparison by one score, over the seeds whose runs have all finished."""

    comparison: Comparison
    score: Score
    matched: int
    """Groups of variants that a seed's difference is the mean of."""
    means: tuple[float, float]
    """Of a and of b."""
    difference: PairedDifference | None
    """None where no seed has all the runs."""


def found_in(
    results: pd.DataFrame, comparisons: Sequence[Comparison], scores: Sequence[Score]
) -> tuple[Found, ...]:
    """Every comparison by every score.

    A group with a failed run is left out, of every seed, while another group is left: so no
    seed compares other variants than the next. A seed that lacks a run is left out.

    Args:
        results: A row a run, as results.csv has them.
        comparisons: What is compared.
        scores: By what.
    """
    failed = frozenset(results.loc[results["status"] == "failed", "variant"])
    finished = results[results["status"] == "finished"]
    found = []
    for score in scores:
        if score.name not in finished:
            continue
        table = finished.pivot_table(index="seed", columns="variant", values=score.name)
        found += [_found(comparison, score, table, failed) for comparison in comparisons]
    return tuple(found)


def verdicts_on(
    found: Sequence[Found],
    margins: Mapping[str, float],
    looks: Looks,
    *,
    is_whole: bool,
) -> pd.DataFrame:
    """A row a comparison: difference, intervals, p-values, verdict, seeds that it would take.

    Two-sided paired t tests over seeds. Holm's correction holds the chance of any false claim
    in a family at ``ALPHA``; a family is all comparisons of one kind, by all scores. Looks at
    the study before its end are corrected for first. Equivalence within a margin is shown by
    two one-sided tests (Schuirmann 1987), corrected likewise, and goes before better and worse.

    Assumes that differences of a seed are drawn from one normal distribution, each seed by itself.

    Args:
        found: The comparisons.
        margins: Score -> the largest difference that makes none.
        looks: After how many seeds verdicts are drawn.
        is_whole: Whether every planned run is done; until then nothing is claimed.
    """
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(of.comparison.kind for of in found):
        family = [of for of in found if of.comparison.kind == kind]
        p_values = _family_wise([_p_value(of) for of in family], looks)
        equivalences = _family_wise([_p_equivalent(of, margins) for of in family], looks)
        alphas = [looks.nominal_alpha(ALPHA / count) for count in (1, len(family))]
        rows += [
            _row(of, p, equivalent, margins.get(of.score.name), alphas, is_whole=is_whole)
            for of, p, equivalent in zip(family, p_values, equivalences, strict=True)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _found(
    comparison: Comparison, score: Score, table: pd.DataFrame, failed: frozenset[str]
) -> Found:
    whole = tuple(group for group in comparison.groups if not failed.intersection(group))
    groups = whole or comparison.groups
    wanted = list(dict.fromkeys(variant for group in groups for variant in group))
    if not set(wanted) <= set(table.columns) or (block := table[wanted].dropna()).empty:
        return Found(comparison, score, len(groups), (math.nan, math.nan), None)
    values = np.stack([block[list(group)].to_numpy() for group in groups], axis=1)
    signs = np.array(comparison.weights)
    of_a, of_b = ((values @ np.maximum(side, 0)).mean(axis=1) for side in (signs, -signs))
    means = (math.nan, math.nan)
    if comparison.kind != "interaction":
        means = (float(of_a.mean()), float(of_b.mean()))
    return Found(comparison, score, len(groups), means, paired_difference(of_a, of_b))


def _p_value(found: Found) -> float:
    return found.difference.p_value if _scatters(found.difference) else math.nan


def _scatters(difference: PairedDifference | None) -> TypeGuard[PairedDifference]:
    """Whether seeds differ, so that a test can speak.

    Shares of few pictures are coarse: two seeds with one and the same difference are no proof.
    """
    return difference is not None and difference.sd > 0


def _p_equivalent(found: Found, margins: Mapping[str, float]) -> float:
    margin = margins.get(found.score.name)
    if margin is None or not _scatters(found.difference):
        return math.nan
    return found.difference.p_equivalent(margin)


def _family_wise(p_values: Sequence[float], looks: Looks) -> Float[np.ndarray, " comparison"]:
    return holm(looks.corrected(np.array(p_values)))


def _row(
    found: Found,
    p_family: float,
    p_equivalent: float,
    margin: float | None,
    alphas: Sequence[float],
    *,
    is_whole: bool,
) -> dict[str, Any]:
    comparison, difference = found.comparison, found.difference
    row: dict[str, Any] = {
        "kind": comparison.kind,
        "score": found.score.name,
        "factor": comparison.factor,
        "a": comparison.a,
        "b": comparison.b,
        "matched": found.matched,
        "n": difference.n if difference else 0,
        "mean_a": found.means[0],
        "mean_b": found.means[1],
    }
    verdict, needs = CANNOT_TELL, None
    if difference:
        row |= {"difference": difference.mean, "sd": difference.sd}
        for prefix, alpha in zip(("", "family_"), alphas, strict=True):
            ends = difference.interval(1 - alpha) if _scatters(difference) else (math.nan, math.nan)
            row |= {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}
        row |= {"p": _p_value(found), "p_family": p_family, "p_equivalent": p_equivalent}
        if is_whole:
            verdict = _verdict(found, p_family, p_equivalent)
        if is_whole and verdict == CANNOT_TELL and _scatters(difference):
            needs = _needs(difference, margin, alphas[-1])
    row |= {"margin": margin, "verdict": verdict, "needs_seeds": needs}
    ends = (row.get("low", math.nan), row.get("high", math.nan))
    return row | {"sentence": _sentence(found, ends, verdict, margin, needs, is_whole=is_whole)}


def _verdict(found: Found, p_family: float, p_equivalent: float) -> str:
    assert found.difference is not None
    if p_equivalent < ALPHA:
        return "equivalent"
    if not p_family < ALPHA:
        return CANNOT_TELL
    if found.comparison.kind == "interaction":
        return "interacts"
    return "better" if (found.difference.mean > 0) == found.score.higher_is_better else "worse"


def _needs(difference: PairedDifference, margin: float | None, alpha: float) -> int | None:
    """Seeds that would tell if the truth were what was seen, the sooner of either way."""
    ways = [needed_seeds(difference.mean, difference.sd, alpha)]
    if margin is not None:
        ways.append(needed_seeds_for_equivalence(difference.mean, difference.sd, margin, alpha))
    counts = [count for count in ways if count is not None]
    # What it takes at 80 % power can be fewer than there are: bad luck, or a corrected level.
    return max(min(counts), difference.n + 1) if counts else None


def _sentence(
    found: Found,
    ends: tuple[float, float],
    verdict: str,
    margin: float | None,
    needs: int | None,
    *,
    is_whole: bool,
) -> str:
    comparison, difference = found.comparison, found.difference
    a, b = comparison.a, comparison.b
    where = f" ({comparison.factor})" if comparison.factor else ""
    doubt = f"{a} from {b}{where}"
    if comparison.kind == "interaction":
        doubt = f"whether what {a} does depends on {b}{where}"
    if difference is None:
        return f"Cannot tell {doubt}: no seed has all the runs that it takes."
    measured = _measured(found.score, difference, ends)
    if not is_whole:
        return f"No verdict before all runs are done. So far {a} against {b}{where}: {measured}."
    if verdict == CANNOT_TELL:
        would = (
            f"about {needs} seeds would tell"
            if needs
            else "no affordable number of seeds would tell"
        )
        if difference.n < 2:
            would = "one seed has no spread to judge it by"
        elif not _scatters(difference):
            would = "all seeds say the same, so how they scatter is not known"
        return f"Cannot tell {doubt}: {measured}; {would}."
    if comparison.kind == "interaction":
        depends = "depends on" if verdict == "interacts" else f"depends by less than {margin:g} on"
        return f"What {a} does {depends} {b}{where}: {measured}."
    if verdict == "equivalent":
        return f"{a} and {b}{where} are equivalent within {margin:g}: {measured}."
    return f"{a} is {verdict} than {b}{where}: {measured}."


def _measured(score: Score, difference: PairedDifference, ends: tuple[float, float]) -> str:
    digits = 3 if abs(difference.mean) < 10 else 2
    mean = round(difference.mean, digits) + 0.0  # no minus before a zero
    said = f"{score.title} {mean:+.{digits}f}"
    if math.isfinite(ends[0]):
        said += f" [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"
    return f"{said}, {difference.n} seed{'s' if difference.n > 1 else ''}"
