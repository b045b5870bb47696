"""The verdict on every comparison of a study: better, worse, equivalent, interacts or cannot tell."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import counted
from isthmus.stats.corrections import Looks, holm, planned_looks
from isthmus.stats.paired import PairedDifference, needed_seeds, needed_seeds_for_equivalence
from isthmus.study.comparisons import count_families
from isthmus.study.differences import Found, scatters
from isthmus.study.records import Verdict

ALPHA = 0.05
"""Probability of any false "better", "worse" or "interacts" in a family, and of any false "equivalent"."""

CANNOT_TELL = "cannot tell"
"""The verdict where neither a difference nor equivalence is significant."""


def verdicts_on(
    found: Sequence[Found],
    margins: Mapping[str, float],
    looks: Looks,
    *,
    is_complete: bool,
) -> tuple[Verdict, ...]:
    """Difference, intervals, p-values, verdict and needed seeds of every comparison.

    The tests are two-sided paired t tests over seeds. Their p-values are corrected for the interim
    looks (analyses before the end), then by Holm's method for the family: all comparisons of one kind on
    all metrics. Equivalence within a margin is tested by two one-sided tests (Schuirmann 1987), which are
    corrected in the same way. If both tests are significant, the verdict is "equivalent".

    To bound the probability of any false claim of a difference in the whole study by ``ALPHA``, no
    verdict is "better", "worse" or "interacts" unless the smallest p-value of all families remains
    significant after Bonferroni's correction for the number of families (Bonferroni gatekeeping). Claims
    of equivalence are controlled at ``ALPHA`` within each family, not over the whole study.

    Assumes that the differences of different seeds are independent draws from one normal distribution.

    Args:
        found: The comparisons.
        margins: Metric -> equivalence margin.
        looks: The interim looks.
        is_complete: Whether every planned run is done; if not, nothing is tested.
    """
    kinds = dict.fromkeys(of.comparison.kind for of in found)
    families = [[of for of in found if of.comparison.kind == kind] for kind in kinds]
    p_families = [_corrected([_p_value(of) for of in family], looks) for family in families]
    num_families = count_families((of.comparison.kind, of.groups) for of in found)
    smallest = min((p for p_values in p_families for p in p_values if p <= 1), default=1.0)
    p_smallest = min(1.0, num_families * smallest)
    verdicts: list[Verdict] = []
    for family, p_values in zip(families, p_families, strict=True):
        equivalences = _corrected([_p_equivalent(of, margins) for of in family], looks)
        tests = len(family) * (1 if p_smallest < ALPHA else num_families)
        for of, p, equivalent in zip(family, p_values, equivalences, strict=True):
            verdict = _measured(of, margins.get(of.metric.name), looks, len(family))
            if is_complete and of.difference:
                p_study = np.maximum(p, p_smallest)
                tested = {"p": _p_value(of), "p_family": p, "p_study": p_study}
                update = tested | {"p_equivalent": equivalent}
                update["verdict"] = _verdict(of, p_study, equivalent)
                if update["verdict"] == CANNOT_TELL:
                    update["needs_seeds"] = _needs_of(of, margins, ALPHA / tests, looks)
                verdict = verdict.model_copy(update=update)
            sentence = _sentence(of, verdict, is_complete=is_complete)
            verdicts.append(verdict.model_copy(update={"sentence": sentence}))
    return tuple(verdicts)


def difference_text(mean: float, low: float, high: float) -> str:
    """A difference with its interval, if it has one, with enough decimals to show the interval's width.

    >>> difference_text(-0.0001, -0.25, 0.125), difference_text(12.0, float("nan"), float("nan"))
    ('+0.000 [-0.250, +0.125]', '+12.00')
    >>> difference_text(-0.0004, -0.00043, -0.00037)
    '-0.000400 [-0.000430, -0.000370]'
    """
    usual = 3 if abs(mean) < 10 else 2
    digits = max(usual, decimals_for((high - low) / 2)) if math.isfinite(low) else usual
    numbers = [f"{round(of, digits) + 0.0:+.{digits}f}" for of in (mean, low, high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if math.isfinite(low) else numbers[0]


def _p_value(found: Found) -> float:
    return found.difference.p_value if scatters(found.difference) else math.nan


def _p_equivalent(found: Found, margins: Mapping[str, float]) -> float:
    margin = margins.get(found.metric.name)
    if margin is None or not scatters(found.difference):
        return math.nan
    return found.difference.p_equivalent(margin)


def _corrected(p_values: Sequence[float], looks: Looks) -> Float[np.ndarray, " comparison"]:
    """P-values of a family, corrected for the interim looks and by Holm's method for the family."""
    return holm(looks.corrected(np.array(p_values)))


def _measured(found: Found, margin: float | None, looks: Looks, family: int) -> Verdict:
    """Means, difference and intervals of a comparison in a family of this size, without a verdict."""
    comparison, difference = found.comparison, found.difference
    numbers: dict[str, float] = {}
    if difference:
        numbers = {"difference": difference.mean, "sd": difference.sd}
        for prefix, count in (("", 1), ("family_", family)):
            if scatters(difference):
                ends = difference.interval(1 - looks.nominal_alpha(ALPHA / count))
                numbers |= {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}
    return Verdict(
        kind=comparison.kind,
        metric=found.metric.name,
        factor=comparison.factor,
        a=comparison.a,
        b=comparison.b,
        matched=len(found.groups),
        n=difference.n if difference else 0,
        mean_a=found.means[0],
        mean_b=found.means[1],
        margin=math.nan if margin is None else margin,
        verdict=CANNOT_TELL,
        groups="; ".join(map(" ".join, found.groups)),
        **numbers,
    )


def _verdict(found: Found, p_study: float, p_equivalent: float) -> str:
    assert found.difference is not None
    if p_equivalent < ALPHA:
        return "equivalent"
    if not p_study < ALPHA:
        return CANNOT_TELL
    if found.comparison.kind == "interaction":
        return "interacts"
    return "better" if (found.difference.mean > 0) == found.metric.higher_is_better else "worse"


def _needs_of(found: Found, margins: Mapping[str, float], alpha: float, looks: Looks) -> float:
    """Number of seeds that a comparison would need at this level; NaN if that is not known."""
    if not scatters(found.difference):
        return math.nan
    needs = _needs(found.difference, margins.get(found.metric.name), alpha, looks)
    return math.nan if needs is None else float(needs)


def _needs(
    difference: PairedDifference, margin: float | None, alpha: float, looks: Looks
) -> int | None:
    """Number of seeds at which a difference or equivalence is significant; None if it would be too large.

    Assumes that the true mean and standard deviation are those measured. Running more seeds adds an
    interim look, which lowers the significance level of every look; this level depends on the number
    of seeds, and the number of seeds needed depends on the level. So the number is found by iteration:
    it starts at one seed more than measured, and is raised to the number needed at its own level until
    it is sufficient.
    """
    count: int | None = difference.n + 1
    while count is not None:
        enough = _enough(difference, margin, _level(looks, count, alpha))
        if enough is not None and enough <= count:
            break
        count = enough
    return count


def _enough(difference: PairedDifference, margin: float | None, level: float) -> int | None:
    """Number of seeds at which a difference or equivalence is significant in one test at this level."""
    counts = [needed_seeds(difference.mean, difference.sd, level)]
    if margin is not None:
        counts.append(needed_seeds_for_equivalence(difference.mean, difference.sd, margin, level))
    return min((count for count in counts if count is not None), default=None)


def _level(looks: Looks, count: int, alpha: float) -> float:
    """Significance level of one test in a study with an additional look, at ``count`` seeds."""
    seeds = tuple(sorted({*looks.seeds, count}))
    return (looks if seeds == looks.seeds else _more_looks(seeds)).nominal_alpha(alpha)


@functools.cache
def _more_looks(seeds: tuple[int, ...]) -> Looks:
    """Looks from fewer simulated studies, which are enough to estimate the number of seeds needed."""
    return planned_looks(seeds, np.random.default_rng(0), draws=20_000)


def _sentence(found: Found, verdict: Verdict, *, is_complete: bool) -> str:
    """The verdict as a sentence."""
    a, b, difference = verdict.a, verdict.b, found.difference
    factor = f" ({verdict.factor})" if verdict.factor else ""
    undecided = f"{a} from {b}{factor}"
    if verdict.kind == "interaction":
        undecided = f"whether what {a} does depends on {b}{factor}"
    if difference is None:
        return f"Cannot tell {undecided}: no seed has all the runs that this needs."
    seeds = counted(difference.n, "seed")
    if verdict.kind == "factor":
        seeds += f", {counted(verdict.matched, 'pair')} of variants"
    size = difference_text(difference.mean, verdict.low, verdict.high)
    measured = f"{found.metric.title} {size}, {seeds}"
    if not is_complete:
        return f"No verdict before all runs are done. So far {a} against {b}{factor}: {measured}."
    if verdict.verdict == CANNOT_TELL:
        needs = _needs_text(difference, verdict.needs_seeds)
        return f"Cannot tell {undecided}: {measured}; {needs}."
    if verdict.kind == "interaction":
        bound = "" if verdict.verdict == "interacts" else f" by less than {verdict.margin:g}"
        return f"What {a} does depends{bound} on {b}{factor}: {measured}."
    if verdict.verdict == "equivalent":
        return f"{a} and {b}{factor} are equivalent within {verdict.margin:g}: {measured}."
    return f"{a} is {verdict.verdict} than {b}{factor}: {measured}."


def _needs_text(difference: PairedDifference, needs: float) -> str:
    """How many seeds would be enough, or why this is not known."""
    if difference.n < 2:
        return "one seed has no standard deviation"
    if not scatters(difference):
        return "all seeds have the same difference, so their standard deviation is not known"
    if math.isnan(needs):
        return "more than 1000 seeds would be needed"
    return f"about {needs:.0f} seeds would be enough"
