"""Format numbers and lists as text for tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from isthmus.metrics.metric import Metric

NO_NUMBER = "—"
"""Text in place of a number that is not known."""


def title(name: str) -> str:
    """A column's name as words.

    >>> title("mean_iou"), title("boundary_f"), title("train_seconds")
    ('Mean IoU', 'Boundary F', 'Train seconds')
    """
    return Metric(name).heading


def metric_text(value: float) -> str:
    """A metric with three decimals, or fewer from 10 on; a dash if it is not finite.

    >>> metric_text(0.71249), metric_text(-83.1249), metric_text(2048.123), metric_text(float("nan"))
    ('0.712', '-83.12', '2048.1', '—')
    """
    return f"{value:.{_decimals(value)}f}" if np.isfinite(value) else NO_NUMBER


def signed_text(value: float, decimals: int) -> str:
    """A difference with its sign; a dash if it is not finite.

    >>> signed_text(0.0312, 3), signed_text(-2.0, 1), signed_text(-0.0, 2), signed_text(np.nan, 3)
    ('+0.031', '−2.0', '0.00', '—')
    """
    if not np.isfinite(value):
        return NO_NUMBER
    text = f"{abs(value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "\N{MINUS SIGN}"
    return f"{sign}{text}"


def interval_text(low: float, high: float, decimals: int) -> str:
    """Both ends of the interval of a difference.

    >>> interval_text(-0.01, 0.0312, 3)
    '[−0.010, +0.031]'
    """
    return f"[{signed_text(low, decimals)}, {signed_text(high, decimals)}]"


def percent_text(share: float) -> str:
    """A proportion in per cent; a dash if it is not finite.

    >>> percent_text(0.624), percent_text(0.002), percent_text(0.0), percent_text(float("nan"))
    ('62 %', '< 1 %', '0 %', '—')
    """
    if not np.isfinite(share):
        return NO_NUMBER
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names joined for a sentence; if there are many, the first names and the number of others.

    >>> listed([]), listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], most=2)
    ('', 'a', 'a, b and c', 'a, b and 2 others')
    """
    if len(names) <= most + 1:
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{', '.join(names[:most])} and {len(names) - most} others"


def mean_text(values: Float[np.ndarray, " run"]) -> str:
    """Mean ± standard deviation (with n - 1) over runs; for a single run, only its value.

    >>> mean_text(np.array([0.70, 0.72])), mean_text(np.array([0.7])), mean_text(np.array([]))
    ('0.710 ± 0.014', '0.700', '—')
    """
    if values.size == 0:
        return metric_text(np.nan)
    mean = metric_text(float(values.mean()))
    if values.size == 1:
        return mean
    return f"{mean} ± {values.std(ddof=1):.{_decimals(float(values.mean()))}f}"


def range_text(values: Float[np.ndarray, " run"]) -> str:
    """The lowest and the highest value; a single number if both have the same text.

    >>> range_text(np.array([0.2, 0.1])), range_text(np.array([0.2]))
    ('0.100 to 0.200', '0.200')
    """
    if values.size == 0:
        return NO_NUMBER
    low, high = metric_text(float(values.min())), metric_text(float(values.max()))
    return low if low == high else f"{low} to {high}"


def count_text(value: float) -> str:
    """A count with three digits and k, M or G for thousands, millions or billions.

    >>> count_text(1.934e6), count_text(51_200.0), count_text(96.0), count_text(float("nan"))
    ('1.93 M', '51.2 k', '96', '—')
    """
    if not np.isfinite(value):
        return NO_NUMBER
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def seconds_text(value: float) -> str:
    """A duration in its two largest units; a unit with the value 0 is left out.

    >>> seconds_text(8.25), seconds_text(312.0), seconds_text(7200.0), seconds_text(float("nan"))
    ('8.2 s', '5 min 12 s', '2 h', '—')
    """
    if not np.isfinite(value):
        return NO_NUMBER
    if value < 60:
        return f"{round(value, 1):g} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))[0 if hours else 1 :][:2]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def counted(count: int | str, noun: str) -> str:
    """A count and its noun, in the plural if the count is not 1.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _decimals(value: float) -> int:
    return 3 if abs(value) < 10 else 2 if abs(value) < 1000 else 1
