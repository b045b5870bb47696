"""A study on disk: the only code that reads and writes the files of a study folder."""

from __future__ import annotations

import ast
import json
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from pydantic import TypeAdapter

from isthmus.engine.run_folder import Entry, RunFolder, write_atomically, write_table, write_text
from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.recipe.parsing import flattened
from isthmus.study.records import ShownImage, StudyOutcome, StudyRecord, Verdict

Arrays = dict[str, Shaped[np.ndarray, "..."]]

_REQUIRED = {
    "variance": ("metric", "source", "share"),
    "ranks": ("metric", "variant", "rank", "share"),
    "learning_curve": ("metric", "variant", "images", "source", "mean", "low", "high", "sentence"),
    "by_image": ("metric", "a", "b", "n", "difference", "low", "high"),
    "tuning": ("variant", "seed", "metric", "value", "chosen"),
    "verdicts": ("kind", "metric", "a", "b", "difference", "verdict"),
    "results": ("variant", "seed", "status"),
}
"""Name of a CSV file -> the columns that it must have."""

_TEXT = (
    *("metric", "source", "variant", "sentence", "a", "b", "kind", "factor", "verdict", "groups"),
    *("status", "reason"),
)
"""Columns of text. Columns of recipe fields, whose names have a dot, are text too."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    A missing file reads as empty. Files are replaced atomically. What was read is cached until this
    object writes; create a new object to see what other processes have written.
    """

    path: Path

    plan_file = Entry("study.toml")
    """The recipe and the ``[study]`` table, as TOML."""
    record_file = Entry("study.json")
    """The ``StudyRecord``, as JSON."""
    report_file = Entry("report.html")
    """The report."""
    per_image_file = Entry("per_image.parquet")
    """Metrics for every finished run and test image."""
    images_folder = Entry("images")
    """The test images and masks that the report shows."""
    shared = Entry("judges")
    """Models that several runs share: the judges."""

    def table_file(self, name: str) -> Path:
        """The CSV file of a table."""
        return self.path / f"{name}.csv"

    def run(self, variant: str, seed: int) -> RunFolder:
        """The run of a variant with a seed."""
        return RunFolder(self.path / "runs" / variant / f"seed-{seed}")

    def tuning_run(self, variant: str, place: int) -> RunFolder:
        """The run of a variant with the setting at this position of the tuning grid."""
        return RunFolder(self.path / "tuning" / variant / f"setting-{place}")

    def write_plan(self, text: str) -> None:
        """Write ``study.toml``."""
        write_text(self.plan_file, text)
        self._forget()

    def write_record(self, record: StudyRecord) -> None:
        """Write ``study.json``."""
        write_text(self.record_file, record.model_dump_json(indent=1) + "\n")
        self._forget()

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as CSV."""
        write_table(self.table_file(name), table)
        self._forget()

    def write_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Write ``verdicts.csv``, one row per comparison and metric."""
        rows = [verdict.model_dump() for verdict in verdicts]
        self.write_table("verdicts", pd.DataFrame(rows, columns=list(Verdict.model_fields)))

    def write_per_image(self, table: pd.DataFrame) -> None:
        """Write ``per_image.parquet``, one row per finished run and test image."""
        write_atomically(self.per_image_file, lambda file: table.to_parquet(file, index=False))
        self._forget()

    def _forget(self) -> None:
        """Drop the cached properties."""
        for name in set(vars(self)) - {"path"}:
            del vars(self)[name]

    @cached_property
    def plan_text(self) -> str:
        """The content of ``study.toml``."""
        return self.plan_file.read_text(encoding="utf-8")

    @cached_property
    def plan_tables(self) -> dict[str, Any]:
        """The tables of ``study.toml``."""
        with _reading(self.plan_file):
            return tomllib.loads(self.plan_text)

    @cached_property
    def record(self) -> StudyRecord:
        """The record; if it lists no variants, missing fields come from the plan and the results."""
        written = self.written_record()
        if written.variants or not self.plan_file.is_file():
            return written
        study = self.plan_tables.get("study", {})
        known = {
            "name": study.get("name") or self.path.resolve().name,
            "question": study.get("question", ""),
            "variants": tuple(entry["name"] for entry in study.get("variants", []))
            or tuple(self.results["variant"].unique()),
            "seeds": tuple(study.get("seeds", ()))
            or tuple(int(seed) for seed in sorted(self.results["seed"].unique())),
            "metrics": (Metric("mean_iou"),),
        }
        return written.model_copy(update={k: getattr(written, k) or v for k, v in known.items()})

    def written_record(self) -> StudyRecord:
        """The content of ``study.json`` as it is now; an empty record if there is no such file."""
        if not self.record_file.is_file():
            return StudyRecord()
        with _reading(self.record_file):
            return StudyRecord.model_validate_json(self.record_file.read_bytes())

    @cached_property
    def results(self) -> pd.DataFrame:
        """One row per run: variant, seed, status, reason, settings, metrics and costs."""
        table = self._table("results")
        return table if "reason" in table else table.assign(reason="")

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The results, with a row of status ``missing`` for each planned run that is not in them."""
        there = set(zip(self.results["variant"], self.results["seed"], strict=True))
        lacking = [
            {"variant": variant, "seed": seed, "status": "missing", "reason": "not in results.csv"}
            for variant in self.record.variants
            for seed in self.record.seeds
            if (variant, seed) not in there
        ]
        if not lacking:
            return self.results
        rows = [*self.results.to_dict("records"), *lacking]
        return pd.DataFrame(rows, columns=self.results.columns)

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The runs of status ``finished``; means include only these runs."""
        return self.runs[self.runs["status"] == "finished"]

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per run and epoch, for every run with a ``metrics.csv``."""
        tables = list(self._epoch_tables())
        if not tables:
            return pd.DataFrame(columns=["variant", "seed", "epoch"])
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def per_image(self) -> pd.DataFrame:
        """One row per finished run and test image."""
        if not self.per_image_file.is_file():
            return pd.DataFrame(columns=["variant", "seed", "image"])
        with _reading(self.per_image_file):
            return pd.read_parquet(self.per_image_file)

    @cached_property
    def images(self) -> tuple[ShownImage, ...]:
        """The test images that the report shows."""
        path = self.images_folder / "images.json"
        if not path.is_file():
            return ()
        with _reading(path):
            entries = json.loads(path.read_text(encoding="utf-8"))
            return TypeAdapter(tuple[ShownImage, ...]).validate_python(entries)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every verdict, in the order of the file."""
        rows = self._table("verdicts").to_dict("records")
        with _reading(self.table_file("verdicts")):
            return TypeAdapter(tuple[Verdict, ...]).validate_python(rows)

    @cached_property
    def variance(self) -> pd.DataFrame:
        """Proportions of the variance of each metric by source."""
        return self._table("variance")

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Proportion of resamples of the seeds in which each variant has each rank."""
        return self._table("ranks")

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """Learning curves over the number of labelled images."""
        return self._table("learning_curve")

    @cached_property
    def tuning(self) -> pd.DataFrame:
        """One row per variant and setting of the tuned hyperparameters."""
        return self._table("tuning")

    @cached_property
    def by_image(self) -> pd.DataFrame:
        """Differences of the variant with the best mean to every other variant, paired by image."""
        return self._table("by_image")

    def values(self, variant: str, column: str) -> Float[np.ndarray, " run"]:
        """Finite values of one column over the finished runs of one variant, in the order of seeds."""
        rows = self._finished_of.get(variant)
        if rows is None or column not in rows:
            return np.empty(0)
        values = np.asarray(pd.to_numeric(rows[column], errors="coerce"), dtype=np.float64)
        return values[np.isfinite(values)]

    @cached_property
    def _finished_of(self) -> dict[str, pd.DataFrame]:
        return {
            str(variant): rows.sort_values("seed")
            for variant, rows in self.finished.groupby("variant")
        }

    def mean(self, variant: str, column: str) -> float:
        """Mean over the finished runs of one variant; NaN without any."""
        values = self.values(variant, column)
        return float(values.mean()) if values.size else float("nan")

    @cached_property
    def by_primary_metric(self) -> tuple[str, ...]:
        """Variants by their mean of the primary metric, best first; variants without a mean come last."""
        metric = self.record.primary
        means = {variant: self.mean(variant, metric.name) for variant in self.record.variants}
        return tuple(sorted(means, key=lambda variant: metric.rank_key(means[variant])))

    def settings_of(self, variant: str, prefix: str = "") -> tuple[str, ...]:
        """A variant's levels of the factors whose names have this prefix; "" where a level is unknown."""
        rows = self.runs[self.runs["variant"] == variant]
        keys = [key for key in self.record.factors if key.startswith(prefix)]
        return tuple(str(rows[key].iloc[0]) if key in rows and len(rows) else "" for key in keys)

    def outcome(self) -> StudyOutcome:
        """The record, the verdicts and the runs of the study."""
        runs = self.runs.astype(object).where(self.runs.notna(), None)
        rows = [{str(key): of for key, of in row.items()} for row in runs.to_dict("records")]
        return StudyOutcome(study=self.record, verdicts=self.verdicts, runs=tuple(rows))

    def recipe_of(self, variant: str) -> dict[str, Any]:
        """A variant's recipe after tuning: dotted key -> value."""
        tables = dict(self.plan_tables)
        variants = tables.pop("study", {}).get("variants", [])
        own: dict[str, Any] = next((v for v in variants if v.get("name") == variant), {})
        return dict(flattened(tables)) | dict(flattened(own)) | self._tuned(variant)

    def _tuned(self, variant: str) -> dict[str, Any]:
        """The values that tuning chose for a variant; empty before tuning is complete."""
        if self.tuning.empty:
            return {}
        is_own = (self.tuning["variant"] == variant) & self.tuning["chosen"].astype(bool)
        chosen = next(iter(self.tuning[is_own].to_dict("records")), {})
        return {str(key): _value(text) for key, text in chosen.items() if "." in str(key)}

    def sample_grids_of(self, variant: str) -> Arrays:
        """The arrays of ``sample_grids.npz`` of a variant's lowest finished seed; empty if there is none."""
        seeds = self.finished.loc[self.finished["variant"] == variant, "seed"]
        if seeds.empty:
            return {}
        path = self.run(variant, int(seeds.min())).sample_grids
        if not path.is_file():
            return {}
        with _reading(path), np.load(path) as arrays:
            return dict(arrays)

    def _table(self, name: str) -> pd.DataFrame:
        """A table from its CSV file; text columns stay text, as a level may be called "none" or "nan"."""
        path, required = self.table_file(name), list(_REQUIRED[name])
        if _is_empty(path):
            return pd.DataFrame(columns=required)
        with _reading(path):
            header = pd.read_csv(path, nrows=0).columns
            text = [key for key in header if "." in key or key in _TEXT]
            blank = {key: ["", "nan"] for key in header if key not in text}
            table = pd.read_csv(
                path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=blank
            )
            if absent := [key for key in required if key not in table]:
                raise ValueError(f"no column {absent[0]}")
            return table

    def _epoch_tables(self) -> Iterator[pd.DataFrame]:
        for variant in self.record.variants:
            for seed in self.record.seeds:
                path = self.run(variant, seed).epoch_table
                if _is_empty(path):
                    continue
                with _reading(path):
                    table = pd.read_csv(path)
                if "epoch" in table and len(table):
                    yield table.assign(variant=variant, seed=seed)


def read_study(folder: Path) -> StudyFolder:
    """The study in a folder, finished or not.

    Raises:
        UserError: If the folder holds no ``study.toml``, or if this file is not valid TOML.
    """
    study = StudyFolder(folder)
    if not study.plan_file.is_file():
        raise UserError(
            f"{folder}: not a study folder, because it contains no study.toml; "
            "name a folder that isthmus study wrote"
        )
    _ = study.plan_tables  # raises an error if the file is not valid TOML
    return study


def _is_empty(path: Path) -> bool:
    """Whether a file is missing or blank; pandas writes a table without columns as one line break."""
    return not path.is_file() or not path.read_bytes().strip()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the exceptions that a damaged file raises into a ``UserError`` that names the file."""
    try:
        yield
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        lines = str(error).strip().splitlines()
        reason = ", ".join(line.strip() for line in lines[:3])
        raise UserError(
            f"{path}: cannot be read ({reason}); "
            "remove the file to write the report without it, or run the study again"
        ) from None


def _value(text: str) -> Any:
    """A setting that was read as text, in the type that it has in the recipe.

    >>> _value("0.5"), _value("adamw")
    (0.5, 'adamw')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
