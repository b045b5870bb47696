"""What a study writes of itself: one class a file, which writes it and reads it back."""

from __future__ import annotations

import math

from pydantic import Field

from isthmus.engine.run_result import Baseline, JudgeRecord, Number, Record, Remark, TaskNotes
from isthmus.metrics.metric import Metric


class AnalysisRecord(Record):
    """How verdicts were computed."""

    alpha: float = 0.05
    """Chance of any false claim in a family of comparisons."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which verdicts are drawn."""
    family: dict[str, int] = Field(default_factory=dict)
    """Kind of comparison -> how many there are."""
    metrics: tuple[str, ...] = ()
    """Those of the verdicts; the first says which variant is best."""


class Recommendation(Record):
    """Which variant to take, as far as these seeds can tell."""

    text: str
    details: tuple[str, ...] = ()
    """The sentences that it rests on."""
    variants: tuple[str, ...] = ()
    """Those that may be taken, the best mean first; empty where nothing can be told."""
    start: str = ""
    """The variant to start from where one is needed: the best mean of those that may be taken."""


class StudyRecord(Record):
    """The content of ``study.json``: what the study is, and what its tables rest on."""

    name: str = ""
    question: str = ""
    task: str = "segment"
    label_scheme: str = ""
    class_names: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    """Every metric of the task, in the order of the tables."""
    metric_note: str = ""
    """A rule that every table of metrics states."""
    curve: str = "pixel_accuracy"
    """The metric that is drawn by epoch."""
    loss_title: str = "Loss"
    loss_table: str = "loss"
    """The table of a recipe that says what is minimised."""
    sections: tuple[str, ...] = ("classes", "images")
    """Sections of the report that only this task has."""
    judge: JudgeRecord | None = None
    images: dict[str, int | str] = Field(default_factory=dict)
    """Part -> number of images; "a to b" where runs differ."""
    baselines: tuple[Baseline, ...] = ()
    variants: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    loss_differs: bool = False
    """Whether variants minimise different losses, whose values do not compare."""
    analysis: AnalysisRecord = AnalysisRecord()
    looks_taken: tuple[int, ...] = ()
    """Numbers of seeds whose verdicts may have been seen."""
    looked_last: tuple[int, ...] = ()
    """Those of them that used up the level of the last planned look."""
    variants_seen: tuple[str, ...] = ()
    """The variants whose verdicts were seen first."""
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    mixed: tuple[str, ...] = ()
    """In what the finished runs were not trained alike."""
    headline: str = ""
    """What ran, in a sentence."""
    recommendation: Recommendation | None = None
    """None with nothing to compare."""
    warnings: tuple[Remark, ...] = ()
    """What limits what may be said of this study."""
    notes: TaskNotes = TaskNotes()
    """What the task says of its finished runs."""
    machine: str = ""
    precision: str = ""

    @property
    def judged(self) -> Metric:
        """The metric that says which variant is best."""
        name = next(iter(self.analysis.metrics), self.metrics[0].name)
        found = (metric for metric in self.metrics if metric.name == name)
        return next(found, Metric(name, True, ""))

    @property
    def confidence(self) -> str:
        """The level of an interval, in words."""
        return f"{100 * (1 - self.analysis.alpha):g} %"

    def title_of(self, column: str) -> str:
        """What heads the column of a metric, a loss or a setting."""
        if column == "loss":
            return self.loss_title
        found = (metric for metric in self.metrics if metric.name == column)
        return next(found, Metric(column)).heading


_NAN = float("nan")
_OPPOSITE = {"better": "worse", "worse": "better"}


class Verdict(Record):
    """What may be said of ``a`` against ``b``; NaN where a number is not known.

    ``difference`` is a - b in the metric's unit, whatever its direction; ``verdict`` has
    the direction in it. ``low`` to ``high`` is the t interval over ``n`` paired seeds, and
    ``family_low`` to ``family_high`` the one that holds for all comparisons of its kind at once.
    """

    kind: str
    metric: str
    factor: str = ""
    a: str
    b: str
    matched: int = 0
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

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """Variants that were subtracted, a's first; of an interaction four each."""
        return tuple(tuple(group.split()) for group in self.groups.split(";") if group.strip())

    @property
    def has_interval(self) -> bool:
        """Whether more than one seed stands behind it."""
        return math.isfinite(self.low + self.high)

    @property
    def field(self) -> str:
        """The factor without those that go with it: "loss.name (with loss.weight)" is loss.name."""
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
    """All that a study says, as ``--json`` prints it."""

    study: StudyRecord
    verdicts: tuple[Verdict, ...]
    runs: tuple[dict[str, str | int | float | None], ...]
    """The rows of ``results.csv``."""


class ShownImage(Record):
    """One test image that the report shows; file names are relative to ``STUDY/images``."""

    name: str
    role: str
    image: str
    truth: str
    predictions: dict[str, str]
    """Variant -> file of its predicted mask."""
    mean_iou: dict[str, Number] = Field(default_factory=dict)
    a: str = ""
    """Of the two variants that it was chosen for, if it was, the better one."""
    b: str = ""
