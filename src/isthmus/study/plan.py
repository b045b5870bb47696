"""StudyPlan: variants x seeds of one recipe; recipes and plans as TOML, in and out."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field
from pydantic.dataclasses import dataclass

from isthmus.errors import UserError, nearest_name
from isthmus.recipe import Recipe, recipe_tables, with_data_from, with_settings
from isthmus.recipe.parsing import build, flattened, nested, parse
from isthmus.recipe.rules import STRICT, AboveZero, Setting
from isthmus.study.factorial import Entry, full_factorial, levels_of, named_variant
from isthmus.tasks import recipe_from

DATA_THAT_MAY_DIFFER = ("data.limit", "data.flip", "data.shift_px")
"""What changes the training images only, of the tables that say what is evaluated and how."""

_NEVER_TUNED = ("objective.", "data.limit")
"""How the names of fields begin that say what is asked of a network, or what it learns from."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Variant:
    """One setting of all factors of a study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9+_.-]*[A-Za-z0-9+_-])?$")]
    """Of the folder of its runs too: no disk may take it for another, or cut it."""
    settings: Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyTable:
    """The ``[study]`` table of a recipe file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    question: str = ""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    variants: tuple[Variant, ...] = ()
    metrics: tuple[str, ...] = ()
    """Test metrics that verdicts speak of; none: the task's own."""
    margins: Mapping[str, AboveZero] = Field(default_factory=dict)
    """Metric -> the largest difference that makes none: what lies within it is equivalent."""
    expected_sd: Mapping[str, AboveZero] = Field(default_factory=dict)
    """Metric -> standard deviation over seeds of the difference of two variants, from an earlier
    study: what the forecast says it can see."""
    tune: Mapping[str, Annotated[tuple[Setting, ...], Field(min_length=2)]] = Field(
        default_factory=dict
    )
    """Fields tuned for each variant before it may be compared, and their grid."""
    looks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Counts of seeds after which verdicts are drawn, if after more than one; corrected for."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyPlan(StudyTable):
    """Variants x seeds of one recipe: what a study file says."""

    recipe: Recipe

    def __post_init__(self) -> None:
        """Build every variant's recipe once, so that a bad one is rejected before anything runs."""
        for what, values in (("seed", self.seeds), ("variant", [v.name for v in self.variants])):
            folders = [str(value).lower() for value in values]  # some disks know no case
            twice = [v for v, of in zip(values, folders, strict=True) if folders.count(of) > 1]
            if twice:
                raise ValueError(
                    f"{what} {twice[0]} stands twice in the study: each may stand once, whatever its "
                    "case; rename one"
                )
        for key in (*self.factors, *self.tune):
            if key.split(".")[0] in ("data", "measure") and key not in DATA_THAT_MAY_DIFFER:
                raise ValueError(
                    f"{key} differs between variants: they would be evaluated on other images or "
                    "labels, or by other rules, and not compare; make a study of each"
                )
        if tuned := [key for key in self.tune if key.startswith(_NEVER_TUNED)]:
            raise ValueError(
                f"{tuned[0]} is tuned: it changes what is asked of a network, which validation metrics "
                "cannot choose; make it a factor, or set it once"
            )
        if self.tune and not self.recipe.data.has_validation:
            raise ValueError(
                "study.tune with a data.split that has no validation part of its own: the test "
                "set would choose; take one out"
            )
        if both := [key for key in self.tune if key in self.factors]:
            raise ValueError(
                f"{both[0]} is a factor and tuned: a field is compared or tuned; choose one"
            )
        for variant in self.variants:
            for setting in self.tuning_grid:
                try:
                    with_settings(self.recipe_of(variant), setting)
                except UserError as error:
                    raise ValueError(f"variant {variant.name}: {error}") from None

    @property
    def factors(self) -> tuple[str, ...]:
        """Recipe fields that some variant sets, in the order of first mention."""
        return tuple(dict.fromkeys(key for variant in self.variants for key in variant.settings))

    @property
    def tuning_grid(self) -> tuple[dict[str, Setting], ...]:
        """The whole grid that each variant is tuned over; a single empty setting without one."""
        fields = sorted(self.tune)  # whatever the file's order: their place names their folder
        values = itertools.product(*(self.tune[field] for field in fields))
        return tuple(dict(zip(fields, setting, strict=True)) for setting in values)

    def recipe_of(self, variant: Variant) -> Recipe:
        """The complete recipe of one variant, its tuned hyperparameters as the recipe has them."""
        return with_settings(self.recipe, variant.settings)


def load_plan(path: Path) -> StudyPlan:
    """The study that a TOML file describes; a file without [study] is a study of one variant.

    A relative ``data.folder`` is relative to the file.

    Raises:
        UserError: If the file is missing, is not TOML, or breaks a rule.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such recipe; {nearest_name(path.name, beside)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a TOML file ({error}); mend it at that place") from None
    try:
        plan = _plan(tables, default_name=path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return dataclasses.replace(plan, recipe=with_data_from(path.parent, plan.recipe))


def shipped_recipe(path: Path) -> Path:
    """The path itself, or the recipe of that name that comes with isthmus if there is none."""
    here = Path(__file__).parents[1]
    for home in (here, here.parents[1]):  # an installed wheel, a checkout
        shipped = home / path
        if not path.exists() and path.parts[:1] == ("recipes",) and shipped.exists():
            return shipped
    return path


def plan_as_toml(plan: StudyPlan) -> str:
    """The whole plan as TOML that ``load_plan`` reads back to an equal plan."""
    study = {
        "name": plan.name,
        "question": plan.question,
        "seeds": list(plan.seeds),
        "metrics": list(plan.metrics),
        "looks": list(plan.looks),
        "margins": dict(plan.margins),
        "expected_sd": dict(plan.expected_sd),
        "tune": nested({key: list(values) for key, values in plan.tune.items()}),
        "variants": [{"name": v.name, **nested(v.settings)} for v in plan.variants],
    }
    written = {key: value for key, value in study.items() if value or key == "question"}
    return tomli_w.dumps({"study": written, **recipe_tables(plan.recipe)})


def _plan(tables: dict[str, Any], default_name: str) -> StudyPlan:
    study = tables.pop("study", {})
    if not isinstance(study, dict):
        raise UserError(f"study = {study!r}: is a table; write its keys under [study]")
    study = dict(study)
    recipe = recipe_from(tables)
    variants = _variants(study) or [{"name": default_name, "settings": {}}]
    if "tune" in study:
        study["tune"] = levels_of(study["tune"], "study.tune")
    known = {field.name for field in dataclasses.fields(StudyTable)}
    for key in study:
        if key not in known:
            raise UserError(f"study.{key}: unknown key; {nearest_name(key, known)}")
    if type(study.get("seeds")) is int:  # true is one too
        study["seeds"] = list(range(study["seeds"]))
    named = {"name": default_name, **study, "variants": variants}
    table = parse(StudyTable, named, prefix="study.")
    fields = {key: getattr(table, key) for key in known}
    return build(StudyPlan, {**fields, "recipe": recipe}, prefix="study.")


def _variants(study: dict[str, Any]) -> list[Entry]:
    """The variants that a [study] table lists or spans with its factors, taken out of it."""
    listed, factors, only = (study.pop(key, None) for key in ("variants", "factors", "only"))
    if factors is None:
        if only is not None:
            raise UserError(
                "study.only chooses among the variants that study.factors spans, and there are no "
                "factors; take the key out"
            )
        listed = [] if listed is None else listed
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise UserError(
                "study.variants holds no tables: write each one under [[study.variants]]"
            )
        return [named_variant(entry.pop("name", None), dict(flattened(entry))) for entry in listed]
    if listed:
        raise UserError(
            "study.factors and study.variants: a study spans its variants or lists them; take one out"
        )
    return list(full_factorial(factors, only, "study.factors"))
