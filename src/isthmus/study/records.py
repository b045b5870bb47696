"""What a study writes of itself: one class a file, which writes it and reads it back."""

from __future__ import annotations

from pydantic import Field

from isthmus.engine.run_result import Baseline, JudgeRecord, Record
from isthmus.metrics.metric import Metric, in_words


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
        found = (metric.title for metric in self.metrics if metric.name == column)
        title = next(found, in_words(column))
        return title[:1].upper() + title[1:]
