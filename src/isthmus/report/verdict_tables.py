"""The tables of verdicts: every comparison, each pair of variants, ranks, shares of variance, sizes."""

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
"""Every verdict and the mark that stands for it, from the plainest to none."""

_KINDS = {
    "factor": (
        "Factors",
        "a against b, averaged over matched pairs of variants that differ in nothing else.",
    ),
    "interaction": (
        "Interactions of factors",
        "Whether the effect of one factor depends on another: difference of differences.",
    ),
    "pair": ("Pairs of variants", "a against b, paired by seed."),
}
"""Heading and caption of each kind of comparison, in the order of the page."""
_FOLDED_ROWS = 15
_MOST_VARIANTS = 20
"""In the matrix of pairs and in the ranks: more cannot be taken in."""


@dataclass(frozen=True)
class VerdictSection:
    """The verdicts of one kind on one metric, and the sentences that may be quoted."""

    heading: str
    table: Table
    sentences: tuple[str, ...]

    @property
    def is_folded(self) -> bool:
        """Whether it is too long to stand open."""
        return len(self.table.rows) > _FOLDED_ROWS


def verdict_sections(study: StudyFolder) -> tuple[VerdictSection, ...]:
    """Every verdict, by kind and metric, factors first."""
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
    """Every variant against every other one, by the primary metric; None for two or too many."""
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
    caption = (
        f"The row's variant against the column's, by {primary.title}, best mean first: {legend}."
    )
    return table_of(study, caption, [head, *map(against, names)], names)


def rank_table(study: StudyFolder) -> Table | None:
    """How often each variant has each rank; None without ranks of the primary metric."""
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
        f"How often each variant has each rank by {primary.title} when the seeds are drawn again "
        "(paired bootstrap); 1 is best. With few seeds the shares look more certain than they are."
    )
    places = sorted({place for _, place in shares})
    columns = [words("Variant", lambda name: name), *map(ranked, places)]
    return table_of(study, caption, columns, names)


def variance_table(study: StudyFolder) -> Table | None:
    """What share of a metric's variance each source has; None if it is not known."""
    table = study.variance
    if table.empty:
        return None
    keys = zip(table["source"], table["metric"], strict=True)
    shares = dict(zip(keys, table["share"].astype(float), strict=True))

    def of(metric: str) -> Column:
        cell = lambda source: share_cell(shares.get((source, metric), np.nan))  # noqa: E731
        return Column(study.record.title_of(metric), cell)

    caption = (
        "Sources of a metric's variance over runs and images, as shares. "
        "A factor whose share is small beside the seed's needs many seeds to show."
    )
    columns = [words("Source", lambda source: source), *map(of, dict.fromkeys(table["metric"]))]
    return table_of(study, caption, columns, list(dict.fromkeys(table["source"])))


def size_table(study: StudyFolder) -> Table | None:
    """The primary metric by the number of labelled images, measured and predicted; None if not known."""
    sizes = study.sizes[study.sizes["metric"] == study.record.primary.name]
    if sizes.empty:
        return None

    columns = [
        words("Setting", lambda row: row["variant"]),
        numbers("Labelled images", lambda row: float(row["images"]), lambda count: f"{count:.0f}"),
        words("From", lambda row: row["source"]),
        Column(
            headed(study.record.primary), lambda r: between_cell(r["mean"], r["low"], r["high"])
        ),
    ]
    caption = (
        "By number of labelled images, validation included: mean and 95 % t interval over seeds. "
        "Predicted: by a power law through the others."
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
        Column("All at once", lambda v: _interval(v.family_low, v.family_high, decimals)),
        numbers("p", _p_of, _p_text),
        Column("Seeds", lambda v: count_cell(float(v.n))),
        Column("Needs", lambda v: count_cell(v.needs_seeds)),
    ]
    if kind != "pair":
        factor = words("Factor", lambda v: v.factor)
        columns = [factor, *columns, Column("Matched", lambda v: count_cell(float(v.matched)))]
    metric = next((m for m in study.record.metrics if m.name == verdicts[0].metric), None)
    named = headed(metric) if metric else title(verdicts[0].metric)
    looks = len(study.record.analysis.looks)
    looked = f" Intervals and p allow for {looks} looks at the data." if looks > 1 else ""
    is_tested = any(verdict.verdict == "equivalent" for verdict in verdicts)
    tested = (
        " p of an equivalent pair: of the test that the difference exceeds the margin."
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
    """The p-value that the verdict rests on: of the difference, or that it exceeds the margin."""
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
