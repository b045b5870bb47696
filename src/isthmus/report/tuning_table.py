"""What tuning chose for each variant, and how much that choice was worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from isthmus.metrics.wording import metric_text, title
from isthmus.report.table import (
    Cell,
    Column,
    Row,
    Table,
    data_sentence,
    number_cell,
    word_cell,
)
from isthmus.study.folder import StudyFolder

_FIXED = ("variant", "seed", "metric", "metric_name", "status", "chosen")


def tuning_table(study: StudyFolder) -> Table | None:
    """The setting that each variant chose, beside the next best; None if nothing was tuned.

    Settings are tried with one seed, so no interval of the study knows the luck of that choice.
    """
    tried = study.tuning
    if tried.empty:
        return None
    fields = [str(key) for key in tried if key not in _FIXED]
    metric = next(filter(None, tried["metric_name"]), "metric")  # a failed setting has none
    rows = tuple(
        _row(variant, tried[tried["variant"] == variant], fields)
        for variant in study.record.variants
        if variant in set(tried["variant"])
    )
    return Table(
        f"Tuned on validation images only, by {title(metric)}. A flat optimum (little between the "
        "chosen and the next best setting) means that tuning decided little; a setting at the edge "
        "of what was tried may not be the best there is. Settings were tried with one seed: the intervals "
        f"of the study do not know how the choice would fall with others.{data_sentence(study)}",
        (
            Column("Variant", is_number=False),
            Column("Chosen", is_number=False),
            *(Column(text) for text in ("Its metric", "Next best", "Worst")),
            Column("Settings tried"),
            Column("At the edge", is_number=False),
        ),
        rows,
    )


def _row(variant: str, tried: pd.DataFrame, fields: list[str]) -> Row:
    if "status" in tried:  # what has failed may have a metric, but none that counts
        tried = tried.assign(metric=tried["metric"].where(tried["status"] == "finished"))
    settings = [
        ", ".join(f"{field} {value}" for field, value in zip(fields, row, strict=True))
        for row in tried[fields].to_numpy()
    ]
    all_means = tried.groupby(np.array(settings), sort=False)["metric"].mean()
    means, count = all_means.dropna(), len(all_means)
    broken = f", {count - len(means)} failed" if len(means) < count else ""
    chosen = tried[tried["chosen"].astype(bool)]
    of_chosen = list(dict.fromkeys(np.array(settings)[tried["chosen"].astype(bool)]))
    own = float(chosen["metric"].mean())
    # The chosen setting is the best there is, so the others lie on one side of it.
    others = means[~means.index.isin(of_chosen)].to_numpy()
    others = others[np.argsort(np.abs(others - own))]
    is_known = len(others) > 0 and np.isfinite(own)
    near_and_far = (float(others[0]), float(others[-1])) if is_known else (np.nan, np.nan)
    edges = [field for field in fields if _is_at_edge(tried[field], chosen[field])]
    return Row(
        (
            word_cell(variant),
            word_cell("; ".join(map(str, of_chosen))),
            *(number_cell(value, metric_text(value)) for value in (own, *near_and_far)),
            Cell(f"{count}{broken}", float(count)),
            word_cell(", ".join(edges) or "no"),
        )
    )


def _is_at_edge(tried: pd.Series, chosen: pd.Series) -> bool:
    """Whether the lowest or highest of several numbers was chosen; of two, one always is."""
    values = pd.to_numeric(tried, errors="coerce")
    if values.isna().any() or values.nunique() < 2:
        return False
    return bool(pd.to_numeric(chosen).isin([values.min(), values.max()]).any())
