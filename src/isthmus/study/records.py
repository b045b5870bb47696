"""Typed records of a study: the content of its files and of its JSON output."""

from __future__ import annotations

import math

from pydantic import Field

from isthmus.engine.run_result import Baseline, JudgeRecord, Number, Record, Remark, TaskNotes
from isthmus.metrics.metric import Metric


class AnalysisRecord(Record):
    """How verdicts were computed."""

    alpha: float = 0.05
    """Probability of any false claim in a family: all comparisons of one kind on all metrics."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at the interim looks (analyses before the end) and at the final look."""
    family: dict[str, int] = Field(default_factory=dict)
    """Kind of comparison -> size of its family."""
    metrics: tuple[str, ...] = ()
    """Metrics with verdicts, the primary metric first."""


class Recommendation(Record):
    """Which variant to take, according to the verdicts."""

    text: str
    details: tuple[str, ...] = ()
    """Sentences with the reasons."""
    variants: tuple[str, ...] = ()
    """The recommended variants, best mean first; empty if the verdicts do not suffice."""
    start: str = ""
    """The variant to use where a single one is needed: the first recommended one or, if none is
    recommended, the best variant."""


class StudyRecord(Record):
    """The content of ``study.json``: the study, the data behind its tables, and its conclusions."""

    name: str = ""
    question: str = ""
    task: str = "segment"
    label_scheme: str = ""
    content: str = ""
    """Hash of the images, masks or labels, names and splits."""
    class_names: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    """Every metric of the task, in the order of the tables."""
    metric_note: str = ""
    """A note that every table of metrics states."""
    curve: str = "pixel_accuracy"
    """The metric that is plotted by epoch."""
    loss_title: str = "Loss"
    loss_table: str = "loss"
    """The table of a recipe that defines the minimised quantity."""
    sections: tuple[str, ...] = ("classes", "images")
    """Sections of the report that only this task has."""
    judge: JudgeRecord | None = None
    images: dict[str, int | str] = Field(default_factory=dict)
    """Split -> number of images; "a to b" if runs differ."""
    baselines: tuple[Baseline, ...] = ()
    variants: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    loss_differs: bool = False
    """Whether variants minimise different losses, whose values are not comparable."""
    analysis: AnalysisRecord = AnalysisRecord()
    looks_taken: tuple[int, ...] = ()
    """Numbers of seeds at which verdicts may have been seen."""
    looked_last: tuple[int, ...] = ()
    """The numbers in ``looks_taken`` after which no planned look was left."""
    variants_seen: tuple[str, ...] = ()
    """The variants in the first verdicts that were seen."""
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    mixed: tuple[str, ...] = ()
    """Fields of the environment in which the finished runs differ."""
    headline: str = ""
    """What was run, in a sentence."""
    recommendation: Recommendation | None = None
    """None with fewer than two variants."""
    warnings: tuple[Remark, ...] = ()
    """Limits of what this study can show."""
    notes: TaskNotes = TaskNotes()
    """Remarks of the task on the finished runs."""
    machine: str = ""
    precision: str = ""

    @property
    def primary(self) -> Metric:
        """The primary metric, which decides which variant is best."""
        name = next(iter(self.analysis.metrics), self.metrics[0].name)
        found = (metric for metric in self.metrics if metric.name == name)
        return next(found, Metric(name, True, ""))

    @property
    def seen_first(self) -> tuple[str, ...]:
        """The variants in the first verdicts that were seen; empty before the first look."""
        return self.variants_seen or (self.variants if self.looks_taken else ())

    @property
    def confidence(self) -> str:
        """The confidence level of an interval, as text."""
        return f"{100 * (1 - self.analysis.alpha):g} %"

    def title_of(self, column: str) -> str:
        """The heading of the column of a metric, a loss or a setting."""
        if column == "loss":
            return self.loss_title
        found = (metric for metric in self.metrics if metric.name == column)
        return next(found, Metric(column)).heading


_NAN = float("nan")
_OPPOSITE = {"better": "worse", "worse": "better"}


class Verdict(Record):
    """One comparison of ``a`` with ``b`` on one metric; unknown numbers are NaN.

    ``difference`` is a - b in the metric's unit, averaged over ``n`` paired seeds; ``verdict`` takes the
    metric's direction into account. ``low`` to ``high`` is the t interval of the difference;
    ``family_low`` to ``family_high`` is the simultaneous interval for all comparisons of one kind.
    """

    kind: str
    metric: str
    factor: str = ""
    a: str
    b: str
    matched: int = 0
    """Number of groups of variants over which the difference is averaged; see ``Comparison``."""
    n: int = 0
    mean_a: Number = _NAN
    mean_b: Number = _NAN
    difference: Number = _NAN
    sd: Number = _NAN
    low: Number = _NAN
    high: Number = _NAN
    family_low: Number = _NAN
    family_high: Number = _NAN
    p: Number = _NAN
    p_family: Number = _NAN
    p_study: Number = _NAN
    p_equivalent: Number = _NAN
    margin: Number = _NAN
    verdict: str
    needs_seeds: Number = _NAN
    sentence: str = ""
    groups: str = ""
    """Groups of variants; variants are separated by spaces, groups by semicolons."""

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """The variants of each group: that of ``a``, then that of ``b``; four for an interaction."""
        return tuple(tuple(group.split()) for group in self.groups.split(";") if group.strip())

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval, which requires two seeds with different differences."""
        return math.isfinite(self.low + self.high)

    @property
    def field(self) -> str:
        """The factor alone: "loss.name (with loss.weight)" gives "loss.name"."""
        return self.factor.split(" (")[0]

    def seen_from(self, name: str) -> Verdict:
        """The same verdict with ``name`` as ``a``."""
        if self.a == name:
            return self
        return self.model_copy(
            update={
                **{"a": self.b, "b": self.a, "mean_a": self.mean_b, "mean_b": self.mean_a},
                **{"difference": -self.difference, "low": -self.high, "high": -self.low},
                **{"family_low": -self.family_high, "family_high": -self.family_low},
                "groups": "; ".join(" ".join(reversed(pair)) for pair in self.pairs),
                "verdict": _OPPOSITE.get(self.verdict, self.verdict),
            }
        )


class StudyOutcome(Record):
    """What ``--json`` prints of a study."""

    study: StudyRecord
    verdicts: tuple[Verdict, ...]
    runs: tuple[dict[str, str | int | float | None], ...]
    """The rows of ``results.csv``."""


class ShownImage(Record):
    """A test image that the report shows; file names are relative to ``STUDY/images``."""

    name: str
    role: str
    image: str
    truth: str
    predictions: dict[str, str]
    """Variant -> file of its predicted mask."""
    mean_iou: dict[str, Number] = Field(default_factory=dict)
    a: str = ""
    """If the image was chosen because two variants differ on it, the variant with the higher mean IoU."""
    b: str = ""
    """The other one of these two variants."""
