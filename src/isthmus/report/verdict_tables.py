"""The tables of what may be said: every verdict, who beats whom, likely ranks, and why metrics vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.metrics.wording import NO_NUMBER, interval_text, metric_text, signed_text, title
from isthmus.report.table import (
    Cell,
    Column,
    Row,
    Table,
    data_sentence,
    headed,
    number_cell,
    share_cell,
    word_cell,
)
from isthmus.report.verdict_rows import KINDS, MARKS
from isthmus.study.folder import StudyFolder
from isthmus.study.recommendation import decimals_of
from isthmus.study.records import Verdict

_HEADINGS = {
    "factor": "Factors",
    "interaction": "Interactions of factors",
    "pair": "Pairs of variants",
}
_CAPTIONS = {
    "factor": "a against b, averaged over matched pairs of variants that differ in nothing else.",
    "interaction": "Whether what one factor does depends on another: difference of differences.",
    "pair": "a against b, paired by seed.",
}
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
    for kind in KINDS:
        for metric in metrics:
            rows = [v for v in study.verdicts if (v.kind, v.metric) == (kind, metric)]
            if rows:
                about = f": {study.record.title_of(metric)}" if len(metrics) > 1 else ""
                table = _verdict_table(study, kind, rows)
                sentences = tuple(v.sentence for v in rows if v.sentence)
                sections.append(VerdictSection(_HEADINGS[kind] + about, table, sentences))
    return tuple(sections)


def pair_matrix(study: StudyFolder) -> Table | None:
    """Every variant against every other one, by the judged metric; None for two or too many."""
    pairs = {
        (seen.a, seen.b): seen
        for pair in study.verdicts
        if pair.kind == "pair" and pair.metric == study.record.judged.name
        for seen in (pair, pair.seen_from(pair.b))
    }
    names = [name for name in study.by_judged_metric if any(name == a for a, _ in pairs)]
    if not 2 < len(names) <= _MOST_VARIANTS:
        return None
    rows = []
    for place, name in enumerate(names, start=1):
        cells = [_versus(pairs.get((name, other)), name == other) for other in names]
        rows.append(Row((Cell(f"{place}  {name}", f"{place:02}"), *cells)))
    columns = (
        Column("Row against column", is_number=False),
        *(
            Column(str(place), is_number=False, is_narrow=True)
            for place in range(1, len(names) + 1)
        ),
    )
    legend = ", ".join(f"{MARKS[word]} {word}" for word in MARKS if word != "interacts")
    return Table(
        f"The row's variant against the column's, by {study.record.judged.title}, best mean first: "
        f"{legend}.{data_sentence(study)}",
        columns,
        tuple(rows),
    )


def rank_table(study: StudyFolder) -> Table | None:
    """How often each variant has each rank; None without ranks of the judged metric."""
    metric = study.record.judged
    ranks = study.ranks[study.ranks["metric"] == metric.name]
    names = [name for name in study.by_judged_metric if name in set(ranks["variant"])]
    if not names or len(names) > _MOST_VARIANTS:
        return None
    keys = zip(ranks["variant"], ranks["rank"].astype(int), strict=True)
    shares = dict(zip(keys, ranks["share"].astype(float), strict=True))
    places = sorted({place for _, place in shares})
    rows = [
        Row((word_cell(name), *(share_cell(shares.get((name, place), 0.0)) for place in places)))
        for name in names
    ]
    return Table(
        f"How often each variant has each rank by {metric.title} when the seeds are drawn again "
        f"(paired bootstrap); 1 is best. Few seeds make shares look surer than they are."
        f"{data_sentence(study)}",
        (Column("Variant", is_number=False), *(Column(str(p), is_narrow=True) for p in places)),
        tuple(rows),
    )


def variance_table(study: StudyFolder) -> Table | None:
    """What share of a metric's variance each source has; None if it is not known."""
    shares = study.variance
    if shares.empty:
        return None
    keys = zip(shares["source"], shares["metric"], strict=True)
    of = dict(zip(keys, shares["share"].astype(float), strict=True))
    metrics = list(dict.fromkeys(shares["metric"]))
    rows = [
        Row((word_cell(source), *(share_cell(of.get((source, s), np.nan)) for s in metrics)))
        for source in dict.fromkeys(shares["source"])
    ]
    return Table(
        "What a metric varies with, as shares of its variance over runs and images. "
        f"A factor whose share is small beside the seed's needs many seeds to be seen.{data_sentence(study)}",
        (
            Column("Source", is_number=False),
            *(Column(study.record.title_of(metric)) for metric in metrics),
        ),
        tuple(rows),
    )


def size_table(study: StudyFolder) -> Table | None:
    """The judged metric by the number of labelled images, and what the law says of more."""
    sizes = study.sizes[study.sizes["metric"] == study.record.judged.name]
    if sizes.empty:
        return None
    rows = []
    for variant, images, source, *numbers in sizes[
        ["variant", "images", "source", "mean", "low", "high"]
    ].itertuples(index=False):
        mean, low, high = map(float, numbers)
        between = f" [{metric_text(low)}, {metric_text(high)}]" if np.isfinite(low + high) else ""
        count = number_cell(float(images), str(int(images)))
        words = (word_cell(str(variant)), count, word_cell(str(source)))
        rows.append(Row((*words, number_cell(mean, f"{metric_text(mean)}{between}"))))
    return Table(
        f"By number of labelled images, validation included: mean and 95 % t interval over seeds. "
        f"Predicted: by a power law through the others.{data_sentence(study)}",
        (
            Column("Setting", is_number=False),
            Column("Labelled images"),
            Column("From", is_number=False),
            Column(headed(study.record.judged)),
        ),
        tuple(rows),
    )


def _verdict_table(study: StudyFolder, kind: str, verdicts: Sequence[Verdict]) -> Table:
    decimals = decimals_of(verdicts)
    metric = next((s for s in study.record.metrics if s.name == verdicts[0].metric), None)
    named = headed(metric) if metric else title(verdicts[0].metric)
    confidence = study.record.confidence
    columns = (
        *([Column("Factor", is_number=False)] if kind != "pair" else []),
        *(Column(text, is_number=False) for text in ("a", "b", "Verdict")),
        *(Column(text) for text in (_tied("a \N{MINUS SIGN} b"), _tied(confidence), "All at once")),
        *(Column(text) for text in ("p", "Seeds", "Needs")),
        *([Column("Matched")] if kind != "pair" else []),
    )
    rows = tuple(Row(_cells(verdict, decimals)) for verdict in verdicts)
    looks = len(study.record.analysis.looks)
    looked = f" Intervals and p allow for {looks} looks at the data." if looks > 1 else ""
    equivalent = any(verdict.verdict == "equivalent" for verdict in verdicts)
    tested = (
        " p of an equivalent pair: that its difference exceeds the margin." if equivalent else ""
    )
    caption = f"{named}. {_CAPTIONS[kind]}{looked}{tested}{data_sentence(study)}"
    return Table(caption, columns, rows)


def _cells(verdict: Verdict, decimals: int) -> tuple[Cell, ...]:
    words = [word_cell(text) for text in (verdict.a, verdict.b)]
    if verdict.kind != "pair":
        words = [word_cell(verdict.factor), *words]
    return (
        *words,
        Cell(verdict.verdict, verdict.verdict, mark=MARKS.get(verdict.verdict, "")),
        number_cell(verdict.difference, signed_text(verdict.difference, decimals)),
        _interval(verdict.low, verdict.high, decimals),
        _interval(verdict.family_low, verdict.family_high, decimals),
        number_cell(p := _p_of(verdict), _p_text(p)),
        _count(verdict.n),
        _count(verdict.needs_seeds),
        *([_count(verdict.matched)] if verdict.kind != "pair" else []),
    )


def _p_of(verdict: Verdict) -> float:
    """The p-value that the verdict rests on: of the difference, or that it exceeds the margin."""
    if verdict.verdict == "equivalent":
        return verdict.p_equivalent
    return verdict.p_study if np.isfinite(verdict.p_study) else verdict.p_family


def _interval(low: float, high: float, decimals: int) -> Cell:
    """An interval, sorted by its lower end."""
    if not np.isfinite(low + high):
        return Cell(NO_NUMBER)
    return Cell(interval_text(low, high, decimals), low)


def _count(value: float) -> Cell:
    return number_cell(value, f"{value:.0f}" if np.isfinite(value) else NO_NUMBER)


def _tied(words: str) -> str:
    """Words that stay on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _p_text(p: float) -> str:
    if not np.isfinite(p):
        return NO_NUMBER
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _versus(verdict: Verdict | None, is_same: bool) -> Cell:
    if is_same:
        return Cell("the same", mark="·")
    if verdict is None:
        return Cell("not compared", mark=NO_NUMBER)
    return Cell(verdict.verdict, verdict.verdict, mark=MARKS.get(verdict.verdict, ""))
