"""Recipe and StudyPlan: everything that decides a run except its seed, as plain data.

The field docstrings below are the only description of a field: the command line's
help is generated from them. TOML in and out, overrides, validation and the hash live
here; nothing here knows what a name stands for (that is ``build.py``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from isthmus.refusal import Refusal, nearest_name

IGNORE_INDEX = 255
"""Mask value of a pixel that no loss and no metric may look at."""

Setting = bool | int | float | str
"""What a recipe field can hold once written down as TOML."""

STRICT = ConfigDict(
    extra="forbid", strict=True, validate_default=True, use_attribute_docstrings=True
)
"""Unknown keys and wrong types are refused; a field's docstring is its description."""

Positive = Annotated[int, Field(ge=1)]
Even = Annotated[int, Field(ge=2, multiple_of=2)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
AtLeastZero = Annotated[float, Field(ge=0.0)]
AboveZero = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Which pictures, what their masks mean, and how they are split."""

    name: Literal["demo-scenes", "folder", "oxford-pets"] = "demo-scenes"
    """Data set."""
    folder: Path | None = None
    """For name = "folder": a folder with images/ and masks/, or with train/ and test/ that hold both."""
    classes: tuple[str, ...] = ()
    """For name = "folder": class names in the order of their mask values; empty: class-0, class-1, ..."""
    mask_values: tuple[int, ...] = ()
    """For name = "folder": the mask value of each class; empty: 0, 1, 2, ... or 0 and 255."""
    trimap: Literal["classes3", "pet+border", "pet", "ignore-border"] = "classes3"
    """For name = "oxford-pets": the label contract, printed on every table."""
    mask_resize: Literal["nearest", "bilinear"] = "nearest"
    """How masks reach their size. "bilinear" repeats a fault of the reference study and is only for that."""
    size_px: Annotated[int, Field(ge=8, le=4096)] = 128
    """Height and width that every picture is resized to, in pixels."""
    split: Literal["official", "reference"] = "official"
    """"reference": the training part cut 80/20 with seed 1234, as the reference study did."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the training pictures held out to choose the epoch, stratified."""
    test: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """For a folder without train/ and test/: share of the pictures that is the test set."""
    limit: Positive | None = None
    """Use at most so many training pictures (before validation is cut)."""
    count: Annotated[int, Field(ge=10)] = 400
    """For name = "demo-scenes": how many scenes are drawn; a quarter of them is the test set."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Augment:
    """Random changes to training pictures, the same for picture and mask."""

    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    rotate_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Turn by up to so many degrees either way."""
    scale: Fraction = 0.2
    """Zoom by up to this share either way."""
    shift: Fraction = 0.1
    """Move by up to this share of the side."""
    colour: Fraction = 0.3
    """Change brightness, contrast and saturation by up to this share."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """The network: a U-Net as topology, and the parts that are put into it."""

    name: Literal["unet"] = "unet"
    """Network."""
    down: Literal["max-pool", "strided", "average-pool", "blur-pool"] = "max-pool"
    """Down-sampling between two levels."""
    up: Literal["transposed", "bilinear", "nearest", "pixel-shuffle"] = "transposed"
    """Up-sampling between two levels; bilinear and nearest are followed by a 1x1 convolution."""
    width: Even = 32
    """Channels of the first level; each level doubles them. Even, for up-sampling halves them."""
    depth: Annotated[int, Field(ge=2, le=8)] = 5
    """Number of levels."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation after each convolution."""
    dropout: Literal["element", "channel", "none"] = "none"
    """What one draw of dropout removes: an element, a whole channel, nothing."""
    dropout_rate: Fraction = 0.1
    """Probability that dropout removes it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """What training minimises. Losses of different names cannot rank variants."""

    name: Literal["bce", "ce", "dice", "bce+dice", "ce+dice", "focal", "tversky"] = "ce+dice"
    """Loss on logits; + is the plain sum."""
    smooth: AboveZero | None = None
    """Pixels added to both sides of the ratio in dice and tversky."""
    gamma: AtLeastZero | None = None
    """How much focal turns away from easy pixels."""
    alpha: AtLeastZero | None = None
    """Weight of false positives in tversky."""
    beta: AtLeastZero | None = None
    """Weight of false negatives in tversky."""

    def __post_init__(self) -> None:
        """Refuse a key that the chosen loss would not read."""
        for key, readers in _LOSS_KEYS.items():
            if getattr(self, key) is not None and not set(readers) & set(self.name.split("+")):
                raise ValueError(
                    f"loss.{key} does nothing for {self.name}: only {' and '.join(readers)} "
                    "can read it; take the key out"
                )

    @property
    def options(self) -> dict[str, float]:
        """The keys that were set; the others keep the loss's own default."""
        return {key: value for key in _LOSS_KEYS if (value := getattr(self, key)) is not None}


_LOSS_KEYS = {
    "smooth": ("dice", "tversky"),
    "gamma": ("focal",),
    "alpha": ("tversky",),
    "beta": ("tversky",),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """How long and how the network is trained."""

    epochs: Positive = 40
    """Passes over the training pictures."""
    batch: Positive = 16
    """Pictures per step."""
    optimiser: Literal["adamw", "rmsprop"] = "adamw"
    """Optimiser; rmsprop is the reference study's."""
    lr: AboveZero = 2e-3
    """Learning rate; the peak, where the schedule is one-cycle."""
    weight_decay: AtLeastZero = 1e-2
    """Weight decay."""
    momentum: Fraction | None = None
    """For rmsprop: momentum."""
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """Learning-rate schedule over all steps."""
    warmup: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """For one-cycle: share of the steps in which the learning rate climbs to its peak."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 autocast where the processor has it, else float32; the run writes down which."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are scored: the best by validation mean IoU, or the last."""

    def __post_init__(self) -> None:
        """Refuse momentum where nothing reads it."""
        if self.momentum is not None and self.optimiser != "rmsprop":
            raise ValueError(
                f"train.momentum does nothing for {self.optimiser}: only rmsprop can read it; "
                "take the key out"
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """All that decides a run except its seed.

    >>> Recipe(model=Model(width=8)).model.width
    8
    """

    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    loss: Loss = Loss()
    train: Train = Train()

    def __post_init__(self) -> None:
        """Refuse combinations that no single table can judge."""
        if self.data.name == "folder" and self.data.folder is None:
            raise ValueError(
                'data.folder is missing: data.name = "folder" needs the path of your folder'
            )
        if self.data.split == "reference" and self.train.keep == "best":
            raise ValueError(
                'train.keep = "best" with data.split = "reference": that split has no validation '
                'part of its own, so the epoch would be chosen on the test set; set train.keep = "last"'
            )

    @property
    def hash(self) -> str:
        """Twelve hex digits that differ whenever any field differs."""
        text = json.dumps(settings_of(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Variant:
    """One setting of all factors of a study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+_.-]*$")]
    settings: Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyPlan:
    """Variants x seeds of one recipe: what a study file says."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    recipe: Recipe
    question: str = ""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        """Build every variant's recipe once, so that a bad one is refused before anything runs."""
        for what, values in (("seed", self.seeds), ("variant", [v.name for v in self.variants])):
            twice = {value for value in values if list(values).count(value) > 1}
            if twice:
                raise ValueError(
                    f"{what} {min(twice)} stands twice in the study: each may stand once; rename one"
                )
        for variant in self.variants:
            try:
                self.recipe_of(variant)
            except Refusal as refusal:
                raise ValueError(f"variant {variant.name}: {refusal}") from None

    @property
    def factors(self) -> tuple[str, ...]:
        """Recipe fields that some variant sets, in the order of first mention."""
        return tuple(dict.fromkeys(key for variant in self.variants for key in variant.settings))

    def recipe_of(self, variant: Variant) -> Recipe:
        """The complete recipe of one variant."""
        return with_settings(self.recipe, variant.settings)


Part = TypeVar("Part")


def settings_of(part: Any, prefix: str = "") -> dict[str, Any]:
    """All fields as one flat table: dotted key -> plain value. Paths become text.

    >>> settings_of(Recipe())["model.down"]
    'max-pool'
    """
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            flat |= settings_of(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple):
            flat[prefix + field.name] = list(value)
        else:
            flat[prefix + field.name] = str(value) if isinstance(value, Path) else value
    return flat


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with some fields set anew, checked like one read from a file.

    Raises:
        Refusal: If a key is unknown or a value breaks its rule.

    >>> with_settings(Recipe(), {"model.width": 8}).model.width
    8
    """
    return checked(Recipe, nested(settings_of(recipe) | dict(settings)))


def differing_fields(a: Recipe, b: Recipe) -> tuple[str, ...]:
    """Dotted keys of the fields in which two recipes differ."""
    ours, theirs = settings_of(a), settings_of(b)
    return tuple(key for key in ours if ours[key] != theirs[key])


def load_plan(path: Path) -> StudyPlan:
    """The study that a TOML file describes; a file without [study] is a study of one variant.

    A relative ``data.folder`` is relative to the file.

    Raises:
        Refusal: If the file is missing, is not TOML, or breaks a rule.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise Refusal(f"{path}: no such recipe; {nearest_name(path.name, beside)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise Refusal(f"{path}: not a TOML file ({error}); mend it at that place") from None
    try:
        plan = _plan(tables, default_name=path.stem)
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}") from None
    folder = plan.recipe.data.folder
    if folder is not None and not folder.is_absolute():
        placed = with_settings(plan.recipe, {"data.folder": str((path.parent / folder).resolve())})
        plan = dataclasses.replace(plan, recipe=placed)
    return plan


def shipped_recipe(path: Path) -> Path:
    """The path itself, or the recipe of that name that comes with isthmus if there is none."""
    here = Path(__file__).parent
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
        "variants": [{"name": v.name, **nested(v.settings)} for v in plan.variants],
    }
    return tomli_w.dumps({"study": study, **nested(_written(plan.recipe))})


def recipe_as_toml(recipe: Recipe) -> str:
    """The complete recipe as TOML; fields that are None are left out."""
    return tomli_w.dumps(nested(_written(recipe)))


def load_recipe(text: str) -> Recipe:
    """The recipe written by ``recipe_as_toml``."""
    return checked(Recipe, tomllib.loads(text))


def _written(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in settings_of(recipe).items() if value is not None}


def _plan(tables: dict[str, Any], default_name: str) -> StudyPlan:
    study = dict(tables.pop("study", {}))
    recipe = checked(Recipe, tables)
    variants = [_variant(dict(entry)) for entry in study.pop("variants", [])]
    if not variants:
        variants = [{"name": default_name, "settings": {}}]
    known = {field.name for field in dataclasses.fields(StudyPlan)} - {"recipe"}
    for key in study:
        if key not in known:
            raise Refusal(f"study.{key}: unknown key; {nearest_name(key, known)}")
    if isinstance(study.get("seeds"), int):
        study["seeds"] = list(range(study["seeds"]))
    tables_of_recipe = nested(_written(recipe))
    return checked(
        StudyPlan,
        {"name": default_name, **study, "variants": variants, "recipe": tables_of_recipe},
        prefix="study.",
    )


def _variant(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry.pop("name", None)
    settings = dict(_flat(entry))
    derived = "_".join(str(value).replace(" ", "-") for value in settings.values())
    return {"name": name or derived or "base", "settings": settings}


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat table with dotted keys as tables within tables.

    >>> nested({"model.width": 8})
    {'model': {'width': 8}}
    """
    tables: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, key = dotted.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[key] = value
    return tables


def checked(kind: type[Part], tables: Mapping[str, Any], prefix: str = "") -> Part:
    """Plain tables as a dataclass of this module: the one door through which all settings come.

    Raises:
        Refusal: One line that names the key, the rule and, for a name, the nearest right one.
    """
    try:
        # Through JSON, because pydantic's strict mode then still takes a list for a tuple
        # and text for a path, which is all that TOML can write.
        return TypeAdapter(kind).validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        raise Refusal(_sentence(error, kind, prefix)) from None


def _sentence(error: ValidationError, kind: type, prefix: str) -> str:
    """The first fault as one line: key, rule, nearest right name."""
    fault = error.errors()[0]
    path = [str(step) for step in fault["loc"]]
    key = prefix + ".".join(path)
    rule = fault["msg"].removeprefix("Value error, ").rstrip(".")
    match fault["type"]:
        case "unexpected_keyword_argument":
            owner = _owner(kind, path[:-1])
            known = [field.name for field in dataclasses.fields(owner)]
            return f"{key}: unknown key; {nearest_name(path[-1], known)}"
        case "literal_error":
            choices = get_args(get_type_hints(_owner(kind, path[:-1]))[path[-1]])
            return (
                f"{key} = {fault['input']!r}: {rule}; {nearest_name(str(fault['input']), choices)}"
            )
        case "value_error":
            return rule
        case _:
            return f"{key} = {fault['input']!r}: {rule}"


def _owner(kind: type, path: list[str]) -> type:
    """The dataclass that holds the last key of a dotted path."""
    for step in path:
        kind = get_type_hints(kind)[step]
    return kind
