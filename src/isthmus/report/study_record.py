"""What ``study.json`` says of a study; what it leaves out is empty."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from isthmus.report.formatting import title


class Record(BaseModel):
    """Something read from JSON; keys that nobody asks for are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Metric(Record):
    """A metric's name, direction and meaning."""

    name: str
    higher_is_better: bool = True
    definition: str = ""
    words: str = ""

    @property
    def title(self) -> str:
        """What heads its column."""
        return self.words or title(self.name)


class Judge(Record):
    """Which classifier says what an image shows."""

    name: str = ""
    accuracy: float = float("nan")


class Baseline(Record):
    """What a variant is compared with that is no variant; a floor is what it must beat."""

    name: str
    definition: str = ""
    is_floor: bool = False
    metrics: dict[str, float] = Field(default_factory=dict)


class Analysis(Record):
    """How the verdicts were come to: at most ``alpha`` of families like these err.

    ``looks`` has the numbers of seeds at which the study was judged, ``family`` the number
    of comparisons of each kind, ``metrics`` the columns judged, the first of most weight.
    """

    alpha: float = 0.05
    looks: tuple[int, ...] = ()
    family: dict[str, int] = Field(default_factory=dict)
    metrics: tuple[str, ...] = ()


class About(Record):
    """What ``study.json`` says of the study; fields it lacks are empty."""

    name: str = ""
    question: str = ""
    task: str = "segment"
    label_scheme: str = ""
    class_names: tuple[str, ...] = ()
    ignore_index: int = 255
    metrics: tuple[Metric, ...] = (Metric(name="mean_iou"),)
    analysis: Analysis = Analysis()
    curve: str = "pixel_accuracy"
    judge: Judge = Judge()
    empty_mask_rule: str = ""
    images: dict[str, int | str] = Field(default_factory=dict)
    baselines: tuple[Baseline, ...] = ()
    variants: tuple[str, ...] = ()
    variants_seen: tuple[str, ...] = ()
    looked_last: tuple[int, ...] = ()
    factors: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    loss_differs: bool = False
    mixed: tuple[str, ...] = ()
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""
    precision: str = ""

    @property
    def judged(self) -> Metric:
        """The metric that the answer is about: the first that was analysed, else the first."""
        name = next(iter(self.analysis.metrics), self.metrics[0].name)
        return next((metric for metric in self.metrics if metric.name == name), Metric(name=name))

    @property
    def confidence(self) -> str:
        """How sure an interval is, in words."""
        return f"{100 * (1 - self.analysis.alpha):g} %"

    def title_of(self, column: str) -> str:
        """A column in words: those of its metric; a VAE's loss is an objective, for it is no ELBO."""
        if column == "loss" and self.task == "generate":
            return "Objective"
        return next(
            (metric.title for metric in self.metrics if metric.name == column), title(column)
        )
