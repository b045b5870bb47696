"""The tables of runs and variants: metrics, costs, and what each run came to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from isthmus.metrics.metric import Metric, decimals_for
from isthmus.metrics.wording import (
    NO_NUMBER,
    count_text,
    interval_text,
    mean_text,
    metric_text,
    seconds_text,
    signed_text,
)
from isthmus.report.table import (
    Cell,
    Column,
    Row,
    Table,
    data_sentence,
    headed,
    number_cell,
    order_of,
    word_cell,
)
from isthmus.study.folder import StudyFolder

PER_CLASS = {"iou": "IoU", "dice": "Dice", "boundary_f": "Boundary F"}
"""Column prefix of each metric that exists for every class, and its name on the page."""

LABEL_CONSISTENCY = (
    "swap_encoded_true",
    "swap_encoded_wrong",
    "prior_fidelity",
    "cas",
    "leakage_encoded_true",
    "leakage_encoded_wrong",
)
"""Shares that say whether a decoder listens."""


def variant_table(study: StudyFolder) -> Table:
    """Every metric that some run has, of every variant, and of the constant prediction."""
    metrics = [metric for metric in study.record.metrics if _is_shown(study, metric.name)]
    columns = (
        Column("Variant", is_number=False),
        *(
            Column(headed(metric), order=order_of(metric, study.record.judged))
            for metric in metrics
        ),
        Column("n finished"),
    )
    rows = [
        Row(
            (
                word_cell(variant),
                *_means(study, variant, names_of(metrics)),
                _finished(study, variant),
            )
        )
        for variant in study.by_judged_metric
    ]
    return Table(
        f"Mean ± standard deviation over n seeds, on the test set. Sorted by "
        f"{study.record.judged.title}; an order is not a verdict.{data_sentence(study)}",
        columns,
        _with_baselines(study, rows, names_of(metrics), padding=1),
    )


def label_use_table(study: StudyFolder) -> Table:
    """Whether each finished run obeys its label: shares with their intervals, a row a run."""
    finished = study.finished.sort_values("seed")
    metrics = [
        s for s in study.record.metrics if s.name in LABEL_CONSISTENCY and _is_shown(study, s.name)
    ]
    shares = names_of(metrics)
    rows = [
        Row(
            (
                word_cell(variant),
                number_cell(float(run["seed"]), str(run["seed"])),
                *(_share(run, column) for column in shares),
                number_cell(value := _float(run.get("judge_accuracy")), metric_text(value)),
            )
        )
        for variant in study.by_judged_metric
        for _, run in finished[finished["variant"] == variant].iterrows()
    ]
    for control in study.record.baselines:
        cells = (_share(pd.Series(control.metrics), column) for column in shares)
        row = (word_cell(control.name), Cell(NO_NUMBER), *cells, Cell(NO_NUMBER))
        rows.append(Row(row, is_baseline=True))
    columns = (
        Column("Variant", is_number=False),
        Column("Seed"),
        *(Column(headed(metric)) for metric in metrics),
        Column("Judge's accuracy"),
    )
    return Table(
        "A row a trained network: the share of images, one a test image, and in brackets its "
        f"95 % Wilson interval, which knows nothing of other seeds.{data_sentence(study)}",
        columns,
        tuple(rows),
    )


def class_tables(study: StudyFolder) -> tuple[Table, ...]:
    """One table a metric that exists for every class; variants in the order of the first table."""
    tables = []
    for prefix, name in PER_CLASS.items():
        columns = [f"{prefix}_{label}" for label in study.record.class_names]
        if not any(column in study.runs for column in columns):
            continue
        rows = [
            Row((word_cell(variant), *_means(study, variant, columns)))
            for variant in study.by_judged_metric
        ]
        headers = [Column("Variant", is_number=False), *map(Column, study.record.class_names)]
        caption = (
            f"{name} of each class: mean ± standard deviation over seeds.{data_sentence(study)}"
        )
        ranked = _with_baselines(study, rows, columns, padding=0)
        tables.append(Table(caption, tuple(headers), ranked))
    return tuple(tables)


def image_table(study: StudyFolder) -> Table | None:
    """How the first metric spreads over the test images; None without metrics of images."""
    first, metrics = study.record.judged, study.per_image
    if metrics.empty or first.name not in metrics:
        return None
    shares = (0.1, 0.5, 0.9)
    behind = study.by_image[study.by_image["metric"] == first.name].set_index("b")
    decimals = decimals_for(float((behind["high"] - behind["low"]).median()) / 2)
    rows = []
    for variant in study.by_judged_metric:
        of_variant = metrics[metrics["variant"] == variant]
        by_image = of_variant.groupby("image")[first.name].mean().dropna()
        quantiles = by_image.quantile(list(shares)) if len(by_image) else [np.nan] * 3
        cells = [number_cell(value, metric_text(value)) for value in map(float, quantiles)]
        rows.append(
            Row(
                (
                    word_cell(variant),
                    *cells,
                    *([_behind(behind, variant, decimals)] if len(behind) else []),
                    number_cell(float(len(by_image)), str(len(by_image))),
                )
            )
        )
    against = f"{behind['a'].iloc[0]} \N{MINUS SIGN} it" if len(behind) else ""
    unit = (
        f" {against}: mean over images and its 95 % bootstrap interval, each by itself. It speaks of these "
        "networks on other images like these; verdicts speak of networks trained again."
    )
    headers = (
        *("10th percentile", "Median", "90th percentile"),
        *([against] if against else []),
        "n images",
    )
    return Table(
        f"{first.title} of single test images, each averaged over seeds first.{unit if against else ''}"
        f"{data_sentence(study)}",
        (Column("Variant", is_number=False), *map(Column, headers)),
        tuple(rows),
    )


def _behind(behind: pd.DataFrame, variant: str, decimals: int) -> Cell:
    """How far the best mean is ahead of a variant over images; of itself, nothing."""
    if variant not in behind.index:
        return Cell(NO_NUMBER)
    mean, low, high = (float(behind[key][variant]) for key in ("difference", "low", "high"))
    return number_cell(mean, f"{signed_text(mean, decimals)} {interval_text(low, high, decimals)}")


def cost_table(study: StudyFolder) -> Table:
    """What each variant costs, beside the first metric."""
    first = study.record.judged
    columns = (
        Column("Variant", is_number=False),
        Column(headed(first), order=order_of(first, first)),
        Column("Training time"),
        Column("Parameters"),
        Column("GFLOP an image"),
    )
    rows = []
    for variant in study.by_judged_metric:
        costs = [
            number_cell(value := study.mean(variant, column), as_text(value))
            for column, as_text in (
                ("train_seconds", seconds_text),
                ("parameters", count_text),
                ("gflop", count_text),
            )
        ]
        rows.append(Row((word_cell(variant), *_means(study, variant, [first.name]), *costs)))
    about_gflop = "GFLOP: the forward pass of one image."
    caption = f"Means over the finished runs. {about_gflop}{data_sentence(study)}"
    return Table(caption, columns, tuple(rows))


def run_table(study: StudyFolder) -> Table:
    """A row a planned run, failed and missing ones too."""
    first = study.record.judged.name
    present = [key for key in study.record.factors if key in study.runs]
    loss = f"Last training {study.record.title_of('loss').lower()}"
    columns = (
        *(Column(text, is_number=False) for text in ("Variant", *present)),
        *(Column("Seed"), Column("Status", is_number=False), Column(study.record.title_of(first))),
        *(Column(text) for text in ("Epochs", "Evaluated epoch", loss, "Time")),
    )
    rows = []
    for _, run in study.runs.iterrows():
        shown = (
            (first, metric_text),
            ("epochs", count_text),
            ("best_epoch", count_text),
            ("train_loss_last", metric_text),
            ("train_seconds", seconds_text),
        )
        words = [word_cell(str(run[key])) for key in ("variant", *present)]
        numbers = [
            number_cell(value := _float(run.get(column)), as_text(value))
            for column, as_text in shown
        ]
        seed = number_cell(float(run["seed"]), str(run["seed"]))
        rows.append(Row((*words, seed, word_cell(run["status"]), *numbers)))
    return Table(f"Every planned run.{data_sentence(study)}", columns, tuple(rows))


def names_of(metrics: Iterable[Metric]) -> list[str]:
    """Column names of metrics."""
    return [metric.name for metric in metrics]


def _share(run: pd.Series, column: str) -> Cell:
    """A share with its interval, which stands in the columns beside it."""
    value, low, high = (_float(run.get(f"{column}{end}")) for end in ("", "_low", "_high"))
    interval = f" [{metric_text(low)}, {metric_text(high)}]" if np.isfinite(low + high) else ""
    return number_cell(value, f"{metric_text(value)}{interval}")


def _is_shown(study: StudyFolder, column: str) -> bool:
    """Whether a column has a number in it that no other has; before any run has finished, each may."""
    finished = study.finished
    if column in study.record.notes.hidden_metrics:
        return False
    return finished.empty or (column in finished and bool(finished[column].notna().any()))


def _means(study: StudyFolder, variant: str, columns: Iterable[str]) -> list[Cell]:
    return [
        number_cell(study.mean(variant, column), mean_text(study.values(variant, column)))
        for column in columns
    ]


def _finished(study: StudyFolder, variant: str) -> Cell:
    planned = int((study.runs["variant"] == variant).sum())
    n = int((study.finished["variant"] == variant).sum())
    return Cell(str(n) if n == planned else f"{n} of {planned}", float(n))


def _with_baselines(
    study: StudyFolder, rows: list[Row], columns: list[str], padding: int
) -> tuple[Row, ...]:
    """The rows with each baseline among them, at its rank by the first metric."""
    first = study.record.judged
    sign = -1.0 if first.higher_is_better else 1.0
    ranked = [
        (sign * study.mean(variant, first.name), row)
        for variant, row in zip(study.by_judged_metric, rows, strict=True)
    ]
    for baseline in study.record.baselines:
        values = [baseline.metrics.get(column, np.nan) for column in columns]
        if np.isfinite(values).any():
            cells = [number_cell(value, metric_text(value)) for value in values]
            row = Row(
                (word_cell(baseline.name), *cells, *[Cell(NO_NUMBER)] * padding), is_baseline=True
            )
            ranked.append((sign * baseline.metrics.get(first.name, np.nan), row))
    # A variant before a baseline that equals it; without a metric, last.
    ranked.sort(key=lambda of: (not np.isfinite(of[0]), of[0] if np.isfinite(of[0]) else 0.0))
    return tuple(row for _, row in ranked)


def _float(value: object) -> float:
    return float(pd.to_numeric(value, errors="coerce")) if value is not None else float("nan")  # type: ignore[call-overload]
