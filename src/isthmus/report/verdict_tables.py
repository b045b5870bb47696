"""Tables of all comparisons, pairs of variants, ranks, proportions of variance, and numbers of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.metrics.wording import NO_NUMBER, interval_text, signed_text, title
from isthmus.report.table import (
    Cell,
    Column,
    Table,
    between_cell,
    count_cell,
    headed,
    numbers,
    share_cell,
    table_of,
    words,
)
from isthmus.study.recommendation import decimals_of
from isthmus.study.records import Verdict
from isthmus.study.study_folder import StudyFolder

MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "interacts": "×", "cannot tell": "?"}  # noqa: RUF001
"""Verdict -> symbol in tables and figures."""

_KINDS = {
    "factor": (
        "Factors",
        "a against b, averaged over matched pairs of variants that differ only in this factor.",
    ),
    "interaction": (
        "Interactions of factors",
        "Whether the effect of one factor depends on another factor: difference of differences.",
    ),
    "pair": ("Pairs of variants", "a against b, paired by seed."),
}
"""Heading and caption of each kind of comparison, in the order of the report."""
_FOLDED_ROWS = 15
_MOST_VARIANTS = 20
"""Largest number of variants in the matrix of pairs and in the table of ranks."""


@dataclass(frozen=True)
class VerdictSection:
    """The verdicts of one kind on one metric, as a table and as sentences."""

    heading: str
    table: Table
    sentences: tuple[str, ...]

    @property
    def is_folded(self) -> bool:
        """Whether the table is folded in the report because it is long."""
        return len(self.table.rows) > _FOLDED_ROWS


def verdict_sections(study: StudyFolder) -> tuple[VerdictSection, ...]:
    """All verdicts, grouped by kind and metric, factors first."""
    metrics = list(dict.fromkeys(verdict.metric for verdict in study.verdicts))
    sections = []
    for kind in _KINDS:
        for metric in metrics:
            rows = [v for v in study.verdicts if (v.kind, v.metric) == (kind, metric)]
            if rows:
                about = f": {study.record.title_of(metric)}" if len(metrics) > 1 else ""
                sentences = tuple(v.sentence for v in rows if v.sentence)
                heading = _KINDS[kind][0] + about
                sections.append(
                    VerdictSection(heading, _verdict_table(study, kind, rows), sentences)
                )
    return tuple(sections)


def pair_matrix(study: StudyFolder) -> Table | None:
    """Every pair of variants on the primary metric; None if there are two variants or too many."""
    primary = study.record.primary
    pairs = {
        (seen.a, seen.b): seen
        for pair in study.verdicts
        if pair.kind == "pair" and pair.metric == primary.name
        for seen in (pair, pair.seen_from(pair.b))
    }
    names = [name for name in study.by_primary_metric if any(name == a for a, _ in pairs)]
    if not 2 < len(names) <= _MOST_VARIANTS:
        return None
    place = {name: k for k, name in enumerate(names, start=1)}

    def against(other: str) -> Column:
        cell = lambda name: _versus(pairs.get((name, other)), name == other)  # noqa: E731
        return Column(str(place[other]), cell, is_number=False, is_narrow=True)

    head = Column(
        "Row against column",
        lambda name: Cell(f"{place[name]}  {name}", f"{place[name]:02}"),
        is_number=False,
    )
    legend = ", ".join(f"{MARKS[word]} {word}" for word in MARKS if word != "interacts")
    caption = f"Variant of the row against that of the column, on {primary.title}; best mean first. {legend}."
    return table_of(study, caption, [head, *map(against, names)], names)


def rank_table(study: StudyFolder) -> Table | None:
    """How often each variant has each rank; None without ranks on the primary metric."""
    primary = study.record.primary
    ranks = study.ranks[study.ranks["metric"] == primary.name]
    names = [name for name in study.by_primary_metric if name in set(ranks["variant"])]
    if not names or len(names) > _MOST_VARIANTS:
        return None
    keys = zip(ranks["variant"], ranks["rank"].astype(int), strict=True)
    shares = dict(zip(keys, ranks["share"].astype(float), strict=True))

    def ranked(place: int) -> Column:
        return Column(
            str(place), lambda name: share_cell(shares.get((name, place), 0.0)), is_narrow=True
        )

    caption = (
        f"How often each variant has each rank on {primary.title} if the seeds are resampled "
        "(paired bootstrap); rank 1 is best. With few seeds, these proportions are too close to 0 or 100 %."
    )
    places = sorted({place for _, place in shares})
    columns = [words("Variant", lambda name: name), *map(ranked, places)]
    return table_of(study, caption, columns, names)


def variance_table(study: StudyFolder) -> Table | None:
    """The proportion of a metric's variance that each source explains; None if it is not known."""
    table = study.variance
    if table.empty:
        return None
    keys = zip(table["source"], table["metric"], strict=True)
    shares = dict(zip(keys, table["share"].astype(float), strict=True))

    def of(metric: str) -> Column:
        cell = lambda source: share_cell(shares.get((source, metric), np.nan))  # noqa: E731
        return Column(study.record.title_of(metric), cell)

    caption = (
        "Proportion of a metric's variance over runs and images that each source explains (ANOVA). "
        "If the proportion of a factor is small compared with that of the seed, many seeds are needed to "
        "detect its effect."
    )
    columns = [words("Source", lambda source: source), *map(of, dict.fromkeys(table["metric"]))]
    return table_of(study, caption, columns, list(dict.fromkeys(table["source"])))


def size_table(study: StudyFolder) -> Table | None:
    """The primary metric for each number of labelled images, measured and predicted; None if unknown."""
    sizes = study.sizes[study.sizes["metric"] == study.record.primary.name]
    if sizes.empty:
        return None

    columns = [
        words("Setting", lambda row: row["variant"]),
        numbers("Labelled images", lambda row: float(row["images"]), lambda count: f"{count:.0f}"),
        words("Measured or predicted", lambda row: row["source"]),
        Column(
            headed(study.record.primary), lambda r: between_cell(r["mean"], r["low"], r["high"])
        ),
    ]
    caption = (
        "Mean and 95 % t interval over seeds for each number of labelled images (including validation). "
        "Predicted: extrapolated with a power law, fitted to the measured metrics of each seed."
    )
    return table_of(study, caption, columns, sizes.to_dict("records"))


def _verdict_table(study: StudyFolder, kind: str, verdicts: Sequence[Verdict]) -> Table:
    decimals = decimals_of(verdicts)
    columns = [
        words("a", lambda v: v.a),
        words("b", lambda v: v.b),
        Column("Verdict", _verdict_cell, is_number=False),
        numbers(
            "a\N{NO-BREAK SPACE}\N{MINUS SIGN}\N{NO-BREAK SPACE}b",
            lambda v: v.difference,
            lambda d: signed_text(d, decimals),
        ),
        Column(
            study.record.confidence.replace(" ", "\N{NO-BREAK SPACE}"),
            lambda v: _interval(v.low, v.high, decimals),
        ),
        Column("Simultaneous interval", lambda v: _interval(v.family_low, v.family_high, decimals)),
        numbers("p", _p_of, _p_text),
        Column("Seeds", lambda v: count_cell(float(v.n))),
        Column("Seeds needed", lambda v: count_cell(v.needs_seeds)),
    ]
    if kind != "pair":
        factor = words("Factor", lambda v: v.factor)
        columns = [
            factor,
            *columns,
            Column("Matched pairs", lambda v: count_cell(float(v.matched))),
        ]
    metric = next((m for m in study.record.metrics if m.name == verdicts[0].metric), None)
    named = headed(metric) if metric else title(verdicts[0].metric)
    looks = len(study.record.analysis.looks)
    looked = (
        f" Intervals and p are corrected for {looks} planned looks at the data."
        if looks > 1
        else ""
    )
    is_tested = any(verdict.verdict == "equivalent" for verdict in verdicts)
    tested = (
        " If the verdict is “equivalent”, p is that of the equivalence test (TOST)."
        if is_tested
        else ""
    )
    return table_of(study, f"{named}. {_KINDS[kind][1]}{looked}{tested}", columns, verdicts)


def _verdict_cell(verdict: Verdict) -> Cell:
    return Cell(verdict.verdict, verdict.verdict, mark=MARKS.get(verdict.verdict, ""))


def _versus(verdict: Verdict | None, is_same: bool) -> Cell:
    if verdict is None or is_same:
        return Cell("the same", mark="·") if is_same else Cell("not compared", mark=NO_NUMBER)
    return _verdict_cell(verdict)


def _p_of(verdict: Verdict) -> float:
    """The p-value that the verdict is based on: of the test for a difference, or of equivalence."""
    if verdict.verdict == "equivalent":
        return verdict.p_equivalent
    return verdict.p_study if np.isfinite(verdict.p_study) else verdict.p_family


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if np.isfinite(p) else NO_NUMBER


def _interval(low: float, high: float, decimals: int) -> Cell:
    """An interval, sorted by its lower end."""
    if not np.isfinite(low + high):
        return Cell(NO_NUMBER)
    return Cell(interval_text(low, high, decimals), low)
