"""The tables of runs and variants: metrics, label use, classes, images, tuning, costs, every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.metrics.metric import decimals_for
from isthmus.metrics.wording import (
    NO_NUMBER,
    count_text,
    interval_text,
    mean_text,
    metric_text,
    seconds_text,
    signed_text,
    title,
)
from isthmus.report.charts import COSTS
from isthmus.report.table import (
    Cell,
    Column,
    Table,
    between_cell,
    count_cell,
    headed,
    number_cell,
    numbers,
    order_of,
    table_of,
    words,
)
from isthmus.study.study_folder import StudyFolder

PER_CLASS = {"iou": "IoU", "dice": "Dice", "boundary_f": "Boundary F"}
"""Column prefix of each metric that exists for every class, and its name in the report."""

LABEL_USE = (
    *("swap_encoded_true", "swap_encoded_wrong", "prior_fidelity", "cas"),
    *("leakage_encoded_true", "leakage_encoded_wrong"),
)
"""Metrics that show whether a decoder uses its label; they are proportions."""


@dataclass(frozen=True)
class Subject:
    """A variant or a baseline: its name, and the values of a column (one value per finished run)."""

    name: str
    values: Callable[[str], Float[np.ndarray, " run"]]
    is_baseline: bool = False

    def mean(self, column: str) -> float:
        """Mean of the values; NaN if there are no values."""
        values = self.values(column)
        return float(values.mean()) if values.size else float("nan")


def variant_table(study: StudyFolder) -> Table:
    """All metrics that any run has, for every variant and baseline."""
    primary = study.record.primary
    metrics = [metric for metric in study.record.metrics if _is_shown(study, metric.name)]
    means = [_means(headed(of), of.name, order_of(of, primary)) for of in metrics]
    columns = [_NAME, *means, Column("n finished", lambda of: _finished(study, of))]
    caption = (
        f"Mean ± standard deviation over n seeds, on the test set. Sorted by {primary.title}; "
        "this order is not a verdict."
    )
    return _ranked(study, caption, columns, [metric.name for metric in metrics])


def class_tables(study: StudyFolder) -> tuple[Table, ...]:
    """One table per metric that exists for every class, sorted by the primary metric."""
    tables = []
    for prefix, name in PER_CLASS.items():
        keys = {label: f"{prefix}_{label}" for label in study.record.class_names}
        if any(key in study.runs for key in keys.values()):
            columns = [_NAME, *(_means(label, key) for label, key in keys.items())]
            caption = f"{name} of each class: mean ± standard deviation over seeds."
            tables.append(_ranked(study, caption, columns, list(keys.values())))
    return tuple(tables)


def cost_table(study: StudyFolder) -> Table:
    """The costs of each variant, beside the primary metric."""
    primary = study.record.primary
    costs = [
        numbers(heading, lambda of, column=column: of.mean(column), as_text)  # type: ignore[misc]
        for column, heading, as_text in COSTS
    ]
    columns = [_NAME, _means(headed(primary), primary.name, order_of(primary, primary)), *costs]
    caption = "Means over the finished runs. GFLOP: for the forward pass of one image."
    return table_of(study, caption, columns, _variants(study))


def label_use_table(study: StudyFolder) -> Table:
    """Whether each finished run uses its label: proportions with intervals, one row per run."""
    finished = study.finished.sort_values("seed").to_dict("records")
    rows = [r for variant in study.by_primary_metric for r in finished if r["variant"] == variant]
    rows += [of.metrics | {"variant": of.name} for of in study.record.baselines]
    columns = [
        _text("Variant", "variant"),
        Column("Seed", lambda run: count_cell(_float(run, "seed"))),
        *(
            Column(headed(metric), lambda run, name=metric.name: _share(run, name))  # type: ignore[misc]
            for metric in study.record.metrics
            if metric.name in LABEL_USE and _is_shown(study, metric.name)
        ),
        _recorded("Judge's accuracy", "judge_accuracy", metric_text),
    ]
    caption = (
        "One row per trained network: proportions of test images, with 95 % Wilson intervals over images in "
        "brackets. The intervals do not include the variation between seeds."
    )
    return table_of(study, caption, columns, rows, lambda run: "seed" not in run)


def image_table(study: StudyFolder) -> Table | None:
    """Quantiles of the primary metric over test images; None without metrics of single images."""
    primary, metrics = study.record.primary, study.per_image
    if metrics.empty or primary.name not in metrics:
        return None
    means = metrics.groupby(["variant", "image"])[primary.name].mean().dropna()
    of = {v: means[v].to_numpy() if v in means else np.empty(0) for v in study.by_primary_metric}

    def quantile(heading: str, share: float) -> Column:
        return numbers(
            heading,
            lambda v: float(np.quantile(of[v], share)) if of[v].size else np.nan,
            metric_text,
        )

    columns = [
        words("Variant", str),
        quantile("10th percentile", 0.1),
        quantile("Median", 0.5),
        quantile("90th percentile", 0.9),
    ]
    caption = f"{primary.heading} of single test images, each averaged over seeds first."
    behind = study.by_image[study.by_image["metric"] == primary.name].set_index("b")
    if len(behind):
        against = f"{behind['a'].iloc[0]} \N{MINUS SIGN} this variant"
        decimals = decimals_for(float((behind["high"] - behind["low"]).median()) / 2)
        columns.append(Column(against, lambda variant: _behind(behind, variant, decimals)))
        caption += (
            f" {against}: mean difference over images with its 95 % bootstrap interval, which is not "
            "corrected for several comparisons. This interval is for these trained networks and includes "
            "the variation between test images; the intervals of verdicts include the variation between "
            "seeds."
        )
    columns.append(Column("n images", lambda variant: count_cell(float(of[variant].size))))
    return table_of(study, caption, columns, study.by_primary_metric)


def run_table(study: StudyFolder) -> Table:
    """One row per planned run, including failed and missing runs."""
    primary, loss = study.record.primary, study.record.title_of("loss").lower()
    columns = [
        _text("Variant", "variant"),
        *(_text(key, key) for key in study.record.factors if key in study.runs),
        Column("Seed", lambda run: count_cell(_float(run, "seed"))),
        _text("Status", "status"),
        _recorded(primary.heading, primary.name, metric_text),
        _recorded("Epochs", "epochs", count_text),
        _recorded("Evaluated epoch", "best_epoch", count_text),
        _recorded(f"Last training {loss}", "train_loss_last", metric_text),
        _recorded("Time", "train_seconds", seconds_text),
    ]
    return table_of(study, "All planned runs.", columns, study.runs.to_dict("records"))


def tuning_table(study: StudyFolder) -> Table | None:
    """The setting that was chosen for each variant, and the next best; None if nothing was tuned."""
    tried = study.tuning
    if tried.empty:
        return None
    metric = next(filter(None, tried["metric"]), "metric")  # a failed setting has no metric
    rows = [
        {"variant": variant} | _tuned(tried[tried["variant"] == variant])
        for variant in study.record.variants
        if variant in set(tried["variant"])
    ]
    columns = [
        _text("Variant", "variant"),
        _text("Chosen setting", "chosen"),
        _recorded("Validation metric", "own", metric_text),
        _recorded("Metric of the next best setting", "next", metric_text),
        _recorded("Metric of the worst setting", "worst", metric_text),
        Column("Settings tried", lambda of: Cell(of["tried"], of["count"])),
        _text("Hyperparameters at the edge of the range", "edges"),
    ]
    caption = (
        f"Tuned on validation images only; metric: {title(metric)}. If the next best setting is nearly as "
        "good as the chosen setting, tuning had little effect; if a hyperparameter is at the edge of the "
        "range of values tried, a better value may lie outside. Settings were tried with one seed, so the "
        "intervals of the study do not include the variation of the chosen setting between seeds."
    )
    return table_of(study, caption, columns, rows)


def _tuned(tried: pd.DataFrame) -> dict[str, Any]:
    """The settings that tuning tried for one variant, and the chosen setting."""
    fields = [str(key) for key in tried if "." in str(key)]  # fields of the recipe
    if "status" in tried:  # a setting that failed may have a metric, but it does not count
        tried = tried.assign(value=tried["value"].where(tried["status"] == "finished"))
    rows = tried[fields].to_numpy()
    settings = np.array(
        [", ".join(f"{f} {v}" for f, v in zip(fields, row, strict=True)) for row in rows]
    )
    is_chosen = tried["chosen"].astype(bool).to_numpy()
    chosen, means = tried[is_chosen], tried.groupby(settings, sort=False)["value"].mean()
    own, failed = float(chosen["value"].mean()), int(means.isna().sum())
    others = means[~means.index.isin(settings[is_chosen])].dropna().to_numpy()
    # The chosen setting is the best, so all other metrics lie on one side of its metric.
    others = others[np.argsort(np.abs(others - own))]
    is_known = len(others) > 0 and np.isfinite(own)
    edges = [field for field in fields if _is_at_edge(tried[field], chosen[field])]
    return {
        "chosen": "; ".join(dict.fromkeys(settings[is_chosen])),
        "own": own,
        "next": others[0] if is_known else np.nan,
        "worst": others[-1] if is_known else np.nan,
        "count": float(len(means)),
        "tried": f"{len(means)}, {failed} failed" if failed else f"{len(means)}",
        "edges": ", ".join(edges) or "no",
    }


def _is_at_edge(tried: pd.Series, chosen: pd.Series) -> bool:
    """Whether the chosen value is the lowest or highest of the numbers tried; always true for two."""
    values = pd.to_numeric(tried, errors="coerce")
    if values.isna().any() or values.nunique() < 2:
        return False
    return bool(pd.to_numeric(chosen).isin([values.min(), values.max()]).any())


def _variants(study: StudyFolder) -> Iterator[Subject]:
    for name in study.by_primary_metric:
        yield Subject(name, lambda column, name=name: study.values(name, column))  # type: ignore[misc]


def _ranked(
    study: StudyFolder, caption: str, columns: Sequence[Column], shown: Sequence[str]
) -> Table:
    """Variants, and baselines that have one of the columns shown, sorted by the primary metric."""
    primary = study.record.primary
    subjects = list(_variants(study))
    for baseline in study.record.baselines:
        metrics = {
            key: np.array([value]) for key, value in baseline.metrics.items() if np.isfinite(value)
        }
        if set(metrics) & set(shown):
            read = lambda column, of=metrics: of.get(column, np.empty(0))  # noqa: E731
            subjects.append(Subject(baseline.name, read, is_baseline=True))
    ranked = sorted(subjects, key=lambda of: primary.rank_key(of.mean(primary.name)))
    return table_of(study, caption, columns, ranked, lambda of: of.is_baseline)


_NAME = words("Variant", lambda of: of.name)


def _means(text: str, column: str, order: str = "none") -> Column:
    cell = lambda of: number_cell(of.mean(column), mean_text(of.values(column)))  # noqa: E731
    return Column(text, cell, order=order)


def _finished(study: StudyFolder, of: Subject) -> Cell:
    if of.is_baseline:
        return Cell(NO_NUMBER)
    planned, n = (int((runs["variant"] == of.name).sum()) for runs in (study.runs, study.finished))
    return Cell(str(n) if n == planned else f"{n} of {planned}", float(n))


def _behind(behind: pd.DataFrame, variant: str, decimals: int) -> Cell:
    """Mean difference of the best variant to this variant over images; a dash for the best variant."""
    if variant not in behind.index:
        return Cell(NO_NUMBER)
    mean, low, high = (float(behind[key][variant]) for key in ("difference", "low", "high"))
    return number_cell(mean, f"{signed_text(mean, decimals)} {interval_text(low, high, decimals)}")


def _text(text: str, column: str) -> Column:
    return words(text, lambda run: str(run[column]))


def _recorded(text: str, column: str, as_text: Callable[[float], str]) -> Column:
    return numbers(text, lambda run: _float(run, column), as_text)


def _share(run: Mapping[str, Any], column: str) -> Cell:
    """A proportion with its interval, from the columns COLUMN, COLUMN_low and COLUMN_high."""
    return between_cell(*(_float(run, f"{column}{end}") for end in ("", "_low", "_high")))


def _is_shown(study: StudyFolder, column: str) -> bool:
    """Whether a column has values and is not hidden; before any run has finished, all columns are shown."""
    finished = study.finished
    if column in study.record.notes.hidden_metrics:
        return False
    return finished.empty or (column in finished and bool(finished[column].notna().any()))


def _float(run: Mapping[str, Any], column: str) -> float:
    return float(pd.to_numeric(run.get(column, np.nan), errors="coerce"))
