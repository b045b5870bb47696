"""A study folder as plain data: what is there is read, what is absent is a hole."""

from __future__ import annotations

import ast
import json
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from pydantic import Field, TypeAdapter, ValidationError

from isthmus.engine.run_folder import run_folder
from isthmus.errors import UserError
from isthmus.recipe import VAE
from isthmus.recipe.parsing import flattened
from isthmus.report.csv_table import csv_table, unreadable
from isthmus.report.study_record import About, Metric, Record
from isthmus.report.verdict_rows import Verdict, read_verdicts

Arrays = dict[str, Shaped[np.ndarray, "..."]]


class ShownImage(Record):
    """One test image of the sample grid; file names are relative to ``STUDY/images``.

    ``a`` and ``b`` are the two variants that it was chosen for, if it was.
    """

    name: str
    role: str
    image: str
    truth: str
    predictions: dict[str, str]
    mean_iou: dict[str, float | None] = Field(default_factory=dict)
    a: str = ""
    b: str = ""


@dataclass(frozen=True)
class Study:
    """Everything the report needs to know of one study folder.

    ``runs`` has a row for every planned run, also for those without a result;
    ``epochs`` has a row an epoch of every run that wrote ``metrics.csv``.
    """

    folder: Path
    about: About
    plan: str
    runs: pd.DataFrame
    epochs: pd.DataFrame
    per_image: pd.DataFrame
    images: tuple[ShownImage, ...]
    verdicts: tuple[Verdict, ...]
    variance: pd.DataFrame
    ranks: pd.DataFrame
    sizes: pd.DataFrame
    tuning: pd.DataFrame
    by_image: pd.DataFrame

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The runs that may enter a mean."""
        return self.runs[self.runs["status"] == "finished"]

    @cached_property
    def protocols_are_one(self) -> bool:
        """Whether both swap protocols are the same in every finished run, for no encoder is told."""
        wheres = {
            self.recipe_of(variant).get("model.condition_on") for variant in self.about.variants
        }
        if any(VAE(condition_on=where).encoder_is_conditioned for where in wheres if where):
            return False
        ends = "swap_encoded_true", "swap_encoded_wrong"
        if any(column not in self.finished for column in ends):
            return False
        true, wrong = (pd.to_numeric(self.finished[column], errors="coerce") for column in ends)
        return bool(true.notna().any()) and true.equals(wrong)

    def values(self, variant: str, column: str) -> Float[np.ndarray, " run"]:
        """Finite values of one column over the finished runs of one variant, by seed."""
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
    def by_judged_metric(self) -> tuple[str, ...]:
        """Variants, best mean of the judged metric first; those without a metric last."""
        metric = self.about.judged
        sign = -1.0 if metric.higher_is_better else 1.0

        def place(variant: str) -> tuple[bool, float]:
            mean = self.mean(variant, metric.name)
            return (not np.isfinite(mean), sign * mean if np.isfinite(mean) else 0.0)

        return tuple(sorted(self.about.variants, key=place))

    def settings_of(self, variant: str, prefix: str = "") -> tuple[str, ...]:
        """A variant's values of the factors whose name starts so; empty text where unknown."""
        rows = self.runs[self.runs["variant"] == variant]
        keys = [key for key in self.about.factors if key.startswith(prefix)]
        return tuple(str(rows[key].iloc[0]) if key in rows and len(rows) else "" for key in keys)

    def recipe_of(self, variant: str) -> dict[str, Any]:
        """A variant's recipe as far as ``study.toml`` says it, and what tuning chose: dotted key to value."""
        tables = tomllib.loads(self.plan)
        variants = tables.pop("study", {}).get("variants", [])
        own: dict[str, Any] = next((v for v in variants if v.get("name") == variant), {})
        return dict(flattened(tables)) | dict(flattened(own)) | self._tuned(variant)

    def _tuned(self, variant: str) -> dict[str, Any]:
        """The fields that tuning chose for a variant; none before it has."""
        if self.tuning.empty:
            return {}
        is_own = (self.tuning["variant"] == variant) & self.tuning["chosen"].astype(bool)
        rows = self.tuning[is_own].to_dict("records")
        return {
            str(key): _value(text) for key, text in (rows or [{}])[0].items() if "." in str(key)
        }

    def sample_grids_of(self, variant: str) -> Arrays:
        """What the lowest finished seed of a variant left in sample_grids.npz; empty if it left none."""
        seeds = self.finished.loc[self.finished["variant"] == variant, "seed"]
        if seeds.empty:
            return {}
        path = run_folder(self.folder, variant, int(seeds.min())).sample_grids
        if not path.is_file():
            return {}
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise unreadable(path, error) from None


def read_study(folder: Path) -> Study:
    """The study that lies in a folder, finished or not.

    Raises:
        UserError: If the folder holds no ``study.toml``, or a file in it cannot be read.
    """
    plan = folder / "study.toml"
    if not plan.is_file():
        raise UserError(
            f"{folder}: not a study folder, for it holds no study.toml; "
            "name the folder that isthmus study wrote"
        )
    text = plan.read_text(encoding="utf-8")
    results = _results(folder / "results.csv")
    about = _completed(_about(folder / "study.json"), text, results, folder)
    runs = _with_missing_runs(results, about)
    return Study(
        folder=folder,
        about=about,
        plan=text,
        runs=runs,
        epochs=_epochs(folder, about),
        per_image=_per_image(folder / "per_image.parquet"),
        images=_images(folder / "images" / "images.json"),
        verdicts=read_verdicts(folder / "verdicts.csv"),
        variance=csv_table(
            folder / "variance.csv",
            ("metric", "source", "share"),
            ("metric", "source").__contains__,
        ),
        ranks=csv_table(
            folder / "ranks.csv",
            ("metric", "variant", "rank", "share"),
            ("metric", "variant").__contains__,
        ),
        sizes=csv_table(
            folder / "learning_curve.csv",
            ("metric", "variant", "images", "source", "mean", "low", "high", "sentence"),
            ("metric", "variant", "source", "sentence").__contains__,
        ),
        tuning=_tuning(folder / "tuning.csv"),
        by_image=csv_table(
            folder / "by_image.csv",
            ("metric", "a", "b", "n", "difference", "low", "high"),
            ("metric", "a", "b").__contains__,
        ),
    )


def _about(path: Path) -> About:
    if not path.is_file():
        return About()
    try:
        return About.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def _completed(about: About, plan: str, results: pd.DataFrame, folder: Path) -> About:
    """Fill what ``study.json`` lacks from the plan, then from the results."""
    try:
        study = tomllib.loads(plan).get("study", {})
    except tomllib.TOMLDecodeError as error:
        raise unreadable(folder / "study.toml", error) from None
    planned = tuple(entry["name"] for entry in study.get("variants", []) if "name" in entry)
    seeds = study.get("seeds", ())
    known = {
        "name": about.name or study.get("name") or folder.resolve().name,
        "question": about.question or study.get("question", ""),
        "variants": about.variants or planned or tuple(results["variant"].unique()),
        "seeds": about.seeds
        or tuple(range(seeds) if isinstance(seeds, int) else seeds)
        or tuple(int(seed) for seed in sorted(results["seed"].unique())),
        "metrics": about.metrics or (Metric(name="mean_iou"),),
    }
    return about.model_copy(update=known)


def _results(path: Path) -> pd.DataFrame:
    table = csv_table(
        path,
        ("variant", "seed", "status"),
        lambda key: "." in key or key in ("variant", "status", "reason"),
    )
    return table if "reason" in table else table.assign(reason="")


def _value(text: str) -> Any:
    """A setting as a recipe has it.

    >>> _value("0.5"), _value("adamw")
    (0.5, 'adamw')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _tuning(path: Path) -> pd.DataFrame:
    words = ("variant", "metric_name")
    required = ("variant", "seed", "metric", "metric_name", "chosen")
    return csv_table(path, required, lambda key: "." in key or key in words)


def _with_missing_runs(results: pd.DataFrame, about: About) -> pd.DataFrame:
    """The results, with a row of status ``missing`` for every planned run they lack."""
    there = set(zip(results["variant"], results["seed"], strict=True))
    lacking = [
        {"variant": variant, "seed": seed, "status": "missing", "reason": "not in results.csv"}
        for variant in about.variants
        for seed in about.seeds
        if (variant, seed) not in there
    ]
    if not lacking:
        return results
    rows = [*results.to_dict("records"), *lacking]
    return pd.DataFrame(rows, columns=results.columns)


def _epochs(folder: Path, about: About) -> pd.DataFrame:
    tables = list(_epoch_tables(folder, about))
    if not tables:
        return pd.DataFrame(columns=["variant", "seed", "epoch"])
    return pd.concat(tables, ignore_index=True)


def _epoch_tables(folder: Path, about: About) -> Iterator[pd.DataFrame]:
    for variant in about.variants:
        for seed in about.seeds:
            path = run_folder(folder, variant, seed).epoch_table
            try:
                table = pd.read_csv(path)
            except (FileNotFoundError, pd.errors.EmptyDataError):
                continue
            except (pd.errors.ParserError, UnicodeDecodeError) as error:
                raise unreadable(path, error) from None
            if "epoch" in table and len(table):
                yield table.assign(variant=variant, seed=seed)


def _per_image(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=["variant", "seed", "image"])
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _images(path: Path) -> tuple[ShownImage, ...]:
    if not path.is_file():
        return ()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(tuple[ShownImage, ...]).validate_python(entries)
    except (ValidationError, ValueError) as error:
        raise unreadable(path, error) from None
