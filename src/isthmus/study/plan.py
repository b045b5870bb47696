"""A study's plan: the variants and seeds of one recipe, read from and written as TOML."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.engine.task import task_of
from isthmus.errors import UserError, nearest_name
from isthmus.metrics.metric import Metric
from isthmus.recipe import Recipe, recipe_tables, settings_of, with_data_from, with_settings
from isthmus.recipe.parsing import build, flattened, nested, parse
from isthmus.recipe.rules import STRICT, AboveZero, Setting
from isthmus.tasks import recipe_from

DATA_THAT_MAY_DIFFER = ("data.limit", "data.flip", "data.shift_px")
"""Fields of the data table in which variants may differ, because they change the training images only."""

_NEVER_TUNED = ("objective.", "data.limit")
"""Prefixes of fields that change the problem itself, so validation metrics cannot choose their values."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Variant:
    """A name, and a value for each field in which the variants of a study differ."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9+_.-]*[A-Za-z0-9+_-])?$")]
    """Also the name of the folder of its runs, so it must be valid on every file system."""
    settings: Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyTable:
    """The ``[study]`` table of a recipe file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    question: str = ""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    variants: tuple[Variant, ...] = ()
    metrics: tuple[str, ...] = ()
    """Test metrics that get verdicts, the primary metric first; if empty, the defaults of the task."""
    margins: Mapping[str, AboveZero] = Field(default_factory=dict)
    """Metric -> equivalence margin: a difference smaller than this does not matter."""
    expected_sd: Mapping[str, AboveZero] = Field(default_factory=dict)
    """Metric -> standard deviation over seeds of the difference of two variants, known from an
    earlier study; the forecast uses it."""
    tune: Mapping[str, Annotated[tuple[Setting, ...], Field(min_length=2)]] = Field(
        default_factory=dict
    )
    """Hyperparameter that is tuned for each variant before the comparison -> the values to try."""
    looks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of seeds at which verdicts are looked at before the end; verdicts are corrected for these
    interim looks."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyPlan(StudyTable):
    """The content of a study file: the ``[study]`` table and the recipe that its variants share."""

    recipe: Recipe

    def __post_init__(self) -> None:
        """Reject fields that cannot be compared or tuned, and variants whose recipe is invalid."""
        for what, values in (("seed", self.seeds), ("variant", [v.name for v in self.variants])):
            folders = [str(value).lower() for value in values]  # some file systems ignore case
            twice = [v for v, of in zip(values, folders, strict=True) if folders.count(of) > 1]
            if twice:
                raise ValueError(
                    f"{what} {twice[0]} occurs more than once in the study: every {what} must be unique, and "
                    "upper and lower case count as equal; rename or remove one"
                )
        for key in (*self.factors, *self.tune):
            if key.split(".")[0] in ("data", "measure") and key not in DATA_THAT_MAY_DIFFER:
                raise ValueError(
                    f"{key} differs between variants: they would be evaluated on different images or "
                    "labels, or with different settings, and would not be comparable; make a separate "
                    "study for each value"
                )
        self._check_tuning()
        for variant in self.variants:
            for setting in self.tuning_grid:
                try:
                    with_settings(self.recipe_of(variant), setting)
                except UserError as error:
                    raise ValueError(f"variant {variant.name}: {error}") from None

    def _check_tuning(self) -> None:
        if tuned := [key for key in self.tune if key.startswith(_NEVER_TUNED)]:
            raise ValueError(
                f"{tuned[0]} is tuned: it changes the problem itself, so validation metrics cannot "
                "choose its value; make it a factor, or set it to one value"
            )
        if self.tune and not self.recipe.data.has_validation:
            raise ValueError(
                "study.tune needs a data.split with a separate validation set: without one, the "
                "hyperparameters would be chosen on the test set; remove study.tune or change data.split"
            )
        if both := [key for key in self.tune if key in self.factors]:
            raise ValueError(
                f"{both[0]} is both a factor and tuned: a field is either compared or tuned; choose one"
            )

    @property
    def factors(self) -> tuple[str, ...]:
        """Recipe fields that some variant sets, in the order of first mention."""
        return tuple(dict.fromkeys(key for variant in self.variants for key in variant.settings))

    @property
    def levels(self) -> dict[str, dict[str, Any]]:
        """Variant -> factor -> level; a variant that does not set a factor has the level of the recipe."""
        settings = {v.name: settings_of(self.recipe_of(v)) for v in self.variants}
        return {name: {key: of[key] for key in self.factors} for name, of in settings.items()}

    @property
    def tuning_grid(self) -> tuple[dict[str, Setting], ...]:
        """All combinations of the values of the tuned hyperparameters; if none is tuned, one empty dict."""
        fields = sorted(
            self.tune
        )  # positions name folders, so they must not depend on the file's order
        values = itertools.product(*(self.tune[field] for field in fields))
        return tuple(dict(zip(fields, setting, strict=True)) for setting in values)

    def recipe_of(self, variant: Variant) -> Recipe:
        """The recipe of one variant, before tuning."""
        return with_settings(self.recipe, variant.settings)


def load_plan(path: Path) -> StudyPlan:
    """The study that a TOML file describes; a file without ``[study]`` is a study of one variant.

    A relative ``data.folder`` is relative to the file.

    Raises:
        UserError: If the file is missing, is not TOML, or is not a valid study.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such recipe; {nearest_name(path.name, beside)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a valid TOML file ({error}); correct it there") from None
    try:
        plan = _plan(tables, default_name=path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return dataclasses.replace(plan, recipe=with_data_from(path.parent, plan.recipe))


def metrics_of(plan: StudyPlan) -> tuple[Metric, ...]:
    """The metrics that get verdicts; the first, the primary metric, decides which variant is best.

    Raises:
        UserError: If the plan names a metric that its task does not have, that its variants do not
            measure, or that is not comparable between its variants.
    """
    task = task_of(plan.recipe)
    known = {metric.name: metric for metric in task.metrics}
    recipes = [plan.recipe_of(variant) for variant in plan.variants]
    names = dict.fromkeys(plan.metrics or task.verdict_metrics(recipes))
    for name in names:
        if name not in known:
            raise UserError(
                f"study.metrics: this task has no metric {name!r}; {nearest_name(name, known)}"
            )
    for key, named in (("margins", plan.margins), ("expected_sd", plan.expected_sd)):
        for name in named:
            if name not in names:
                raise UserError(
                    f"study.{key}: {name!r} is not a metric with verdicts; {nearest_name(name, names)}, or "
                    "add it to study.metrics"
                )
    task.check_metrics(list(names), recipes)
    kept = task.comparable([known[name] for name in names], recipes)
    lost = {name for name in names if known[name] not in kept}
    for key in ("metrics", "margins", "expected_sd"):
        if incomparable := next((name for name in getattr(plan, key) if name in lost), None):
            raise UserError(
                f"study.{key}: {incomparable} has different meanings for different likelihoods, so it gets "
                "no verdict; remove it, or use one objective.likelihood for all variants"
            )
    return kept


def shipped_recipe(path: Path) -> Path:
    """The path itself or, if it does not exist, the recipe with that path that isthmus ships."""
    here = Path(__file__).parents[1]
    for home in (here, here.parents[1]):  # an installed wheel, a checkout
        shipped = home / path
        if not path.exists() and path.parts[:1] == ("recipes",) and shipped.exists():
            return shipped
    return path


def plan_as_toml(plan: StudyPlan) -> str:
    """The plan as TOML that ``load_plan`` reads back to an equal plan."""
    study = {field.name: getattr(plan, field.name) for field in dataclasses.fields(StudyTable)}
    study["tune"] = nested(plan.tune)
    study["variants"] = [{"name": v.name, **nested(v.settings)} for v in plan.variants]
    written = {key: value for key, value in study.items() if value or key == "question"}
    return tomli_w.dumps({"study": written, **recipe_tables(plan.recipe)})


def _plan(tables: dict[str, Any], default_name: str) -> StudyPlan:
    study = tables.pop("study", {})
    if not isinstance(study, dict):
        raise UserError(f"study = {study!r}: must be a table; write its keys under [study]")
    study = dict(study)
    recipe = recipe_from(tables)
    variants = _variants(study) or [{"name": default_name, "settings": {}}]
    if "tune" in study:
        study["tune"] = _values_by_field(study["tune"], "study.tune")
    known = {field.name for field in dataclasses.fields(StudyTable)}
    for key in study:
        if key not in known:
            raise UserError(f"study.{key}: unknown key; {nearest_name(key, known)}")
    if type(study.get("seeds")) is int:  # isinstance would accept true, which is an int in Python
        study["seeds"] = list(range(study["seeds"]))
    named = {"name": default_name, **study, "variants": variants}
    table = parse(StudyTable, named, prefix="study.")
    fields = {key: getattr(table, key) for key in known}
    return build(StudyPlan, {**fields, "recipe": recipe}, prefix="study.")


def _variants(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Remove the variants from a ``[study]`` table and return them.

    They are the variants that the table lists, or all combinations of the levels of its factors.
    """
    listed, factors, only = (study.pop(key, None) for key in ("variants", "factors", "only"))
    if factors is None:
        if only is not None:
            raise UserError(
                "study.only selects from the combinations of study.factors, but there are no factors; "
                "remove study.only"
            )
        listed = [] if listed is None else listed
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise UserError(
                "study.variants must hold tables: write each variant under [[study.variants]]"
            )
        return [_variant(entry.pop("name", None), dict(flattened(entry))) for entry in listed]
    if listed:
        raise UserError(
            "study.factors and study.variants are both set: variants are either the combinations of factors "
            "or listed; remove one of the two"
        )
    return _full_factorial(factors, only)


def _full_factorial(factors: Any, only: Any) -> list[dict[str, Any]]:
    """Every combination of the factors' levels, the last factor changing fastest.

    Args:
        factors: The value of ``study.factors``, which may be invalid.
        only: The value of ``study.only``, which may be invalid: names of the variants to keep.
    """
    levels = _values_by_field(factors, "study.factors")
    combinations = itertools.product(*levels.values())
    variants = [_variant(None, dict(zip(levels, of, strict=True))) for of in combinations]
    if only is None:
        return variants
    if not isinstance(only, list) or not only:
        raise UserError(
            f"study.only = {only!r}: must be a list of names of variants; correct or remove it"
        )
    names = [variant["name"] for variant in variants]
    if unknown := [name for name in only if name not in names]:
        raise UserError(
            f"study.only: there is no variant {unknown[0]}; {nearest_name(str(unknown[0]), names)}"
        )
    return [variant for variant in variants if variant["name"] in only]


def _values_by_field(tables: Any, key: str) -> dict[str, list[Any]]:
    """Dotted field -> its list of values; ``key`` is the key of the tables, for error messages."""
    if not isinstance(tables, Mapping) or not tables:
        raise UserError(
            f"{key} = {tables!r}: must be a table of fields, each with a list of values"
        )
    levels = dict(flattened(tables))
    for field, values in levels.items():
        if not isinstance(values, list) or len(values) < 2:
            raise UserError(f"{key}.{field} = {values!r}: must be a list of two or more values")
        if twice := [value for value in values if values.count(value) > 1]:
            raise UserError(
                f"{key}.{field} lists {twice[0]!r} more than once: values must be unique; remove one"
            )
        if many := [value for value in values if isinstance(value, list | dict)]:
            raise UserError(
                f"{key}.{field} lists {many[0]!r}: a value must be a string, a number, true or false"
            )
    return levels


def _variant(name: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A variant as plain data; if ``name`` is None, the variant is named after its values."""
    derived = "_".join(re.sub("[ :]", "-", str(value)) for value in settings.values())
    return {"name": name or derived or "base", "settings": dict(settings)}
