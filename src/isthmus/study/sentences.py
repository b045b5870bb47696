"""Verdicts in words."""

from __future__ import annotations

import math

from isthmus.metrics.metric import decimals_for
from isthmus.study.differences import Found, scatters

CANNOT_TELL = "cannot tell"
"""The verdict where neither a difference nor its absence is shown."""


def sentence_of(
    found: Found,
    ends: tuple[float, float],
    verdict: str,
    margin: float | None,
    needs: int | None,
    *,
    is_complete: bool,
) -> str:
    """What may be said of one comparison, for people.

    Args:
        found: The comparison.
        ends: Of the interval of its difference; NaN without one.
        verdict: Its verdict.
        margin: The largest difference that makes none, if one was named.
        needs: About how many seeds would tell, if it is known.
        is_complete: Whether every planned run is done.
    """
    comparison, difference = found.comparison, found.difference
    a, b = comparison.a, comparison.b
    where = f" ({comparison.factor})" if comparison.factor else ""
    doubt = f"{a} from {b}{where}"
    if comparison.kind == "interaction":
        doubt = f"whether what {a} does depends on {b}{where}"
    if difference is None:
        return f"Cannot tell {doubt}: no seed has all the runs that it takes."
    measured = f"{found.metric.title} {difference_text(difference.mean, *ends)}, {_basis(found)}"
    if not is_complete:
        return f"No verdict before all runs are done. So far {a} against {b}{where}: {measured}."
    if verdict == CANNOT_TELL:
        would = (
            f"about {needs} seeds would tell"
            if needs
            else "no affordable number of seeds would tell"
        )
        if difference.n < 2:
            would = "one seed has no spread to judge it by"
        elif not scatters(difference):
            would = "all seeds say the same, so how they scatter is not known"
        return f"Cannot tell {doubt}: {measured}; {would}."
    if comparison.kind == "interaction":
        depends = "depends on" if verdict == "interacts" else f"depends by less than {margin:g} on"
        return f"What {a} does {depends} {b}{where}: {measured}."
    if verdict == "equivalent":
        return f"{a} and {b}{where} are equivalent within {margin:g}: {measured}."
    return f"{a} is {verdict} than {b}{where}: {measured}."


def difference_text(mean: float, low: float, high: float) -> str:
    """A difference with its interval, if it has one, to as many digits as it takes to see both.

    >>> difference_text(-0.0001, -0.25, 0.125), difference_text(12.0, float("nan"), float("nan"))
    ('+0.000 [-0.250, +0.125]', '+12.00')
    >>> difference_text(-0.0004, -0.00043, -0.00037)
    '-0.000400 [-0.000430, -0.000370]'
    """
    usual = 3 if abs(mean) < 10 else 2
    digits = max(usual, decimals_for((high - low) / 2)) if math.isfinite(low) else usual
    numbers = [f"{round(of, digits) + 0.0:+.{digits}f}" for of in (mean, low, high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if math.isfinite(low) else numbers[0]


def _basis(found: Found) -> str:
    """How many seeds a difference rests on, and on how many pairs of variants in each."""
    assert found.difference is not None
    n, pairs = found.difference.n, len(found.groups)
    seeds = f"{n} seed{'s' if n > 1 else ''}"
    if found.comparison.kind != "factor":
        return seeds
    return f"{seeds}, {pairs} pair{'s' if pairs > 1 else ''} of variants"
