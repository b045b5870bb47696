"""Recipes: reading and writing TOML, settings, and one error for each kind of wrong recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import error_of
from isthmus.errors import UserError
from isthmus.losses import LOSSES
from isthmus.nn.blocks import DOWN_SAMPLERS, DROPOUTS, NORMS, UP_SAMPLERS
from isthmus.recipe import LabelledData, differing_fields, recipe_as_toml, with_settings
from isthmus.recipe.parsing import settings_of
from isthmus.study.plan import StudyPlan, load_plan, plan_as_toml
from isthmus.tasks import load_recipe, recipe_from
from isthmus.tasks.segment import recipe as segment
from isthmus.tasks.segment.recipe import Loss, Model, SegmentRecipe

RECIPES_FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(RECIPES_FOLDER.rglob("*.toml"))


def plan_from(text: str, folder: Path) -> StudyPlan:
    file = folder / "some.toml"
    file.write_text(text, encoding="utf-8")
    return load_plan(file)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_is_the_same_after_a_round_trip(path: Path, tmp_path: Path) -> None:
    plan = load_plan(path)
    assert plan_from(plan_as_toml(plan), tmp_path) == plan


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_starts_with_a_comment_that_has_its_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert (
        f"isthmus study {path.relative_to(path.parents[len(path.parts) - 1 - path.parts.index('recipes')])}"
        in head
        or "isthmus demo" in head
    )


FAULTS = {
    "bilinear_masks": {"data.mask_resize"},
    "confounded_budget": {"train.batch", "train.epochs"},
    "label_scheme_mixup": {"data.trimap"},
    "dice_on_logits": {"loss.softmax"},
    "one_seed": set(),
    "sorted_split": {"data.split", "train.keep"},
}


def test_each_faulty_recipe_differs_from_the_sound_one_in_its_fault_only() -> None:
    sound = load_plan(RECIPES_FOLDER / "operators.toml")
    cells = {variant.name: sound.recipe_of(variant) for variant in sound.variants}
    faults = {path.stem: load_plan(path) for path in RECIPES if path.parent.name == "faults"}
    assert faults.keys() == FAULTS.keys()
    assert faults["one_seed"].variants == sound.variants
    for name, plan in faults.items():
        differs: set[str] = set()
        for recipe in map(plan.recipe_of, plan.variants):
            twin = cells[f"{recipe.model.down}_{recipe.model.up}_{recipe.loss.name}"]
            differs.update(differing_fields(recipe, twin))
        assert differs == FAULTS[name], name


@given(
    width=st.integers(1, 40).map(lambda half: 2 * half),
    lr=st.floats(1e-6, 1.0),
    classes=st.lists(st.text(min_size=1, max_size=5), max_size=3),
    limit=st.none() | st.integers(1, 9),
)
def test_any_recipe_is_the_same_after_a_round_trip(
    width: int, lr: float, classes: list[str], limit: int | None
) -> None:
    settings = {"model.width": width, "train.lr": lr, "data.classes": classes, "data.limit": limit}
    own = {"data.name": "folder", "data.folder": "mine"}
    recipe = with_settings(SegmentRecipe(), settings | own)
    assert load_recipe(recipe_as_toml(recipe)) == recipe


@pytest.mark.parametrize(
    ("hint", "table"),
    [
        (get_type_hints(Model)["down"], DOWN_SAMPLERS),
        (get_type_hints(Model)["up"], UP_SAMPLERS),
        (get_type_hints(Model)["norm"], NORMS),
        (get_type_hints(Model)["dropout"], DROPOUTS),
    ],
)
def test_choices_of_a_field_are_the_names_of_its_parts(hint: object, table: dict) -> None:
    assert set(get_args(hint)) == set(table)


def test_every_loss_name_is_a_sum_of_losses() -> None:
    names = get_args(get_type_hints(Loss)["name"])
    assert {part for name in names for part in name.split("+")} == set(LOSSES)


def test_every_field_changes_the_hash() -> None:
    base = SegmentRecipe()
    other = {
        "data.name": "oxford-pets",
        "data.folder": "x",
        "data.classes": ["a"],
        "data.mask_values": [1],
        "data.trimap": "pet",
        "data.mask_resize": "bilinear",
        "data.split": "reference",
        "data.limit": 9,
        "model.depth": 6,
        "model.down": "strided",
        "model.up": "nearest",
        "model.norm": "group",
        "model.dropout": "channel",
        "loss.name": "focal",
        "loss.smooth": 2.0,
        "loss.gamma": 1.0,
        "loss.alpha": 0.5,
        "loss.beta": 0.5,
        "loss.softmax": False,
        "train.optimiser": "rmsprop",
        "train.momentum": 0.5,
        "train.schedule": "constant",
        "train.precision": "float32",
        "train.compile": True,
        "train.deterministic": True,
        "train.keep": "last",
    }
    readers = {"loss.gamma": "focal", "loss.alpha": "tversky", "loss.beta": "tversky"}
    of_data = segment._ONLY_FOR
    for key, value in settings_of(base).items():
        if key in ("model.name", "task"):
            continue  # only one choice so far
        changed = {key: other.get(key, value * 2 if isinstance(value, int) else 0.123)}
        around: dict[str, object] = {}
        if key in readers:
            around = {"loss.name": readers[key]}
        if key == "train.momentum":
            around = {"train.optimiser": "rmsprop"}
        if auxiliary_classifier := of_data.get(key.removeprefix("data.")):
            around = {"data.name": auxiliary_classifier} | (
                {"data.folder": "y"} if auxiliary_classifier == "folder" else {}
            )
        if key == "data.split":
            around["train.keep"] = "last"
        before = with_settings(base, around)
        assert with_settings(before, changed).hash != before.hash, key


def test_variants_are_named_by_their_settings_which_define_the_factors(tmp_path: Path) -> None:
    plan = plan_from(
        '[study]\nseeds = 3\n[[study.variants]]\nmodel.down = "strided"\nloss.name = "bce"\n'
        '[[study.variants]]\nname = "plain"\n',
        tmp_path,
    )
    assert [v.name for v in plan.variants] == ["strided_bce", "plain"]
    assert plan.factors == ("model.down", "loss.name")
    assert plan.seeds == (0, 1, 2)
    assert plan.recipe_of(plan.variants[0]).loss.name == "bce"
    assert plan.recipe_of(plan.variants[1]) == plan.recipe


def test_a_file_without_a_study_is_a_study_of_one(tmp_path: Path) -> None:
    plan = plan_from("[model]\nwidth = 8\n", tmp_path)
    assert (plan.name, len(plan.variants), plan.recipe.model.width) == ("some", 1, 8)


def test_a_relative_folder_is_relative_to_its_recipe(tmp_path: Path) -> None:
    plan = plan_from('[data]\nname = "folder"\nfolder = "mine"\n', tmp_path)
    assert plan.recipe.data.folder == (tmp_path / "mine").resolve()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[model]\nwidht = 8", "model.widht: unknown key; did you mean width?"),
        ("[modle]\nwidth = 8", "modle: unknown key; did you mean model?"),
        ("[study]\nsede = 1", "study.sede: unknown key; did you mean seeds?"),
        (
            '[model]\ndown = "maxpool"',
            "model.down = 'maxpool': Input should be 'max-pool', 'strided', 'average-pool' or "
            "'blur-pool'; did you mean max-pool?",
        ),
        ("[model]\nwidth = 7", "model.width = 7: Input should be a multiple of 2"),
        ('[train]\nepochs = "ten"', "train.epochs = 'ten': Input should be a valid integer"),
        ("[train]\nepochs = true", "train.epochs = True: Input should be a valid integer"),
        ("[train]\nlr = 0.0", "train.lr = 0.0: Input should be greater than 0"),
        ("[train]\nlr = inf", "train.lr = inf: Input should be a finite number"),
        (
            '[loss]\nname = "bce"\ngamma = 2.0',
            "loss.gamma does nothing for bce: only focal can use it; remove the key",
        ),
        (
            "[train]\nmomentum = 0.9",
            "train.momentum has no effect with adamw: only rmsprop uses it; remove the key",
        ),
        (
            '[data]\nname = "folder"',
            'data.folder is missing: data.name = "folder" needs the path of your folder; set data.folder',
        ),
        (
            '[data]\nfolder = "mine"',
            'data.folder has no effect with data.name = "demo-scenes": only "folder" uses it; set '
            'data.name = "folder" or remove the key',
        ),
        ('[data]\nname = "oxford-pets"\nsplit = "reference"', 'set train.keep = "last"'),
        (
            '[data]\nname = "demo-scenes"\nsplit = "reference"\n[train]\nkeep = "last"',
            'data.split has no effect with data.name = "demo-scenes": only "oxford-pets" uses it; set '
            'data.name = "oxford-pets" or remove the key',
        ),
        (
            'task = "generate"\n[data]\nname = "mnist"\ntest = 0.3',
            'data.test has no effect with data.name = "mnist": only "classes" uses it; set data.name = '
            '"classes" or remove the key',
        ),
        ("[study]\nseeds = [1, 1]", "seed 1 occurs more than once in the study"),
        (
            '[[study.variants]]\nname = "a"\n[[study.variants]]\nname = "A"',
            "variant a occurs more than once in the study: every variant must be unique, and upper and "
            "lower case count as equal; rename or remove one",
        ),
        (
            '[[study.variants]]\nname = "a."',
            "study.variants.0.name = 'a.': String should match pattern",
        ),
        ("[[study.variants]]\nmodel.widht = 8", "model.widht: unknown key; did you mean width?"),
        ("[model", "not a valid TOML file"),
        ("study = 3", "study = 3: must be a table; write its keys under [study]"),
        ("[study]\nvariants = 3", "study.variants must hold tables: write each variant"),
        ("[study]\nseeds = true", "study.seeds = True: Input should be a valid array"),
        ('task = ["a"]', "task = ['a']: unknown; "),
    ],
)
def test_a_wrong_recipe_is_rejected_with_one_sentence(
    text: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as rejected:
        plan_from(text, tmp_path)
    assert sentence in str(rejected.value)
    assert str(rejected.value).startswith(str(tmp_path / "some.toml: "))
    assert "\n" not in str(rejected.value)


def test_a_misspelt_recipe_is_rejected_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "six.toml").touch()
    with pytest.raises(UserError, match=r"sixx\.toml: no such recipe; did you mean six\.toml\?"):
        load_plan(tmp_path / "sixx.toml")


def test_remedies_for_data_tables_work() -> None:
    for settings in (
        {"data.name": "folder", "data.folder": "mine"},
        {"data.name": "demo-scenes"},
        {"data.name": "oxford-pets", "data.split": "reference", "train.keep": "last"},
        {"data.name": "folder", "data.folder": "mine", "data.mask_values": [0, 128, 255]},
    ):
        assert settings.items() <= settings_of(with_settings(SegmentRecipe(), settings)).items()
    assert LabelledData(name="mnist").test == 0.2
    assert LabelledData(name="classes", folder=Path("mine"), test=0.5, shift_px=2).test == 0.5


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SegmentRecipe().model.width = 3  # type: ignore[misc]


FACTORIAL = """
[study]
seeds = 2
{study}
[study.factors]
model.down = ["max-pool", "strided"]
loss.name = ["bce", "dice"]
"""


def planned(tmp_path: Path, text: str) -> StudyPlan:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def test_factors_expand_to_all_their_variants(tmp_path: Path) -> None:
    plan = planned(tmp_path, FACTORIAL.format(study=""))
    names = ["max-pool_bce", "max-pool_dice", "strided_bce", "strided_dice"]
    assert [variant.name for variant in plan.variants] == names
    assert plan.recipe_of(plan.variants[3]).loss.name == "dice"
    assert plan.factors == ("model.down", "loss.name")
    again = tmp_path / "again.toml"
    again.write_text(plan_as_toml(plan), encoding="utf-8")
    assert load_plan(again) == plan


def test_study_only_selects_variants_of_a_factorial_by_name(tmp_path: Path) -> None:
    plan = planned(tmp_path, FACTORIAL.format(study='only = ["strided_bce", "max-pool_bce"]'))
    assert [variant.name for variant in plan.variants] == ["max-pool_bce", "strided_bce"]


def test_margins_metrics_and_tune_are_read_and_written(tmp_path: Path) -> None:
    study = """
metrics = ["mean_iou"]
looks = [2, 4]
margins = { mean_iou = 0.01 }
expected_sd = { mean_iou = 0.008 }
tune.train.lr = [1e-3, 3e-3]
tune.train.batch = [8, 16]
"""
    plan = planned(tmp_path, FACTORIAL.format(study=study))
    assert plan.tuning_grid[1] == {"train.batch": 8, "train.lr": 3e-3}
    other_order = planned(tmp_path, FACTORIAL.format(study="\n".join(reversed(study.split("\n")))))
    assert other_order.tuning_grid == plan.tuning_grid
    assert len(plan.tuning_grid) == 4
    again = tmp_path / "again.toml"
    again.write_text(plan_as_toml(plan), encoding="utf-8")
    assert load_plan(again) == plan


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            FACTORIAL.format(study='only = ["strided_bec"]'),
            "study.only: there is no variant strided_bec; did you mean strided_bce?",
        ),
        (
            "[study.factors]\nmodel.down = 'strided'",
            "study.factors.model.down = 'strided': must be a list of two or more values",
        ),
        (
            "[study.factors]\nmodel.width = [8, 16, 8]",
            "study.factors.model.width lists 8 more than once: values must be unique; remove one",
        ),
        (
            FACTORIAL.format(study="") + "[[study.variants]]\nmodel.width = 8",
            "study.factors and study.variants are both set: variants are either the combinations of "
            "factors or listed; remove one of the two",
        ),
        (
            "[study]\nonly = ['a']",
            "study.only selects from the combinations of study.factors, but there are no factors; "
            "remove study.only",
        ),
        (
            FACTORIAL.format(study="tune.loss.name = ['bce', 'dice']"),
            "loss.name is both a factor and tuned: a field is either compared or tuned; choose one",
        ),
        (
            FACTORIAL.format(study="tune.train.lr = [1e-3]"),
            "study.tune.train.lr = [0.001]: must be a list of two or more values",
        ),
        (
            FACTORIAL.format(study="tune.train.lr = [1e-3, -1.0]"),
            "variant max-pool_bce: train.lr = -1.0: Input should be greater than 0",
        ),
        (
            FACTORIAL.format(study="tune = 3"),
            "study.tune = 3: must be a table of fields, each with a list of values",
        ),
        (
            FACTORIAL.format(study="only = [1]"),
            "study.only: there is no variant 1; known: max-pool_bce, max-pool_dice, strided_bce, "
            "strided_dice",
        ),
        (
            FACTORIAL.format(study="only = 'strided_bce'"),
            "study.only = 'strided_bce': must be a list of names of variants; correct or remove it",
        ),
        (
            "[study.factors]\ndata.classes = [['a', 'b'], ['b', 'a']]",
            "study.factors.data.classes lists ['a', 'b']: a value must be a string, a number, true or "
            "false",
        ),
        (
            "[study]\nvariants = ['a']",
            "study.variants must hold tables: write each variant under [[study.variants]]",
        ),
        (
            "[study.factors]\ndata.size_px = [32, 64]",
            "data.size_px differs between variants: they would be evaluated on different images or "
            "labels, or with different settings, and would not be comparable; make a separate study for "
            "each value",
        ),
        (
            "task = 'generate'\n[study]\ntune.objective.likelihood = "
            "['bernoulli-dynamic', 'continuous-bernoulli']",
            "objective.likelihood is tuned: it changes the problem itself, so validation metrics cannot "
            "choose its value; make it a factor, or set it to one value",
        ),
        (
            "task = 'generate'\n[study]\ntune.objective.invariance_weight = [1.0, 9.0]\n"
            "[objective]\ninvariance = 'hsic'\ninvariance_weight = 1.0",
            "objective.invariance_weight is tuned: it changes the problem itself, so validation metrics "
            "cannot choose its value; make it a factor, or set it to one value",
        ),
        (
            "[study]\ntune.train.lr = [1e-3, 1e-2]\n[data]\nname = 'oxford-pets'\n"
            "split = 'reference'\n[train]\nkeep = 'last'",
            "study.tune needs a data.split with a separate validation set: without one, the "
            "hyperparameters would be chosen on the test set; remove study.tune or change data.split",
        ),
        (
            FACTORIAL.format(study="margins = { mean_iou = 0.0 }"),
            "study.margins.mean_iou = 0.0: Input should be greater than 0",
        ),
    ],
)
def test_a_wrong_study_table_is_rejected_with_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        planned(tmp_path, text)
    assert str(error.value) == f"{tmp_path / 'study.toml'}: {sentence}"


def test_an_unknown_task_gets_its_sentence() -> None:
    with pytest.raises(
        UserError, match=r"^task = 'paint': unknown; known: classify, generate, segment$"
    ):
        recipe_from({"task": "paint"})


@pytest.mark.parametrize("value", ["auto", True, False])
def test_compiling_is_automatic_or_decided(value: object) -> None:
    assert with_settings(SegmentRecipe(), {"train.compile": value}).train.compile == value


def test_a_wrong_word_for_compiling_gets_its_sentence() -> None:
    assert error_of(lambda: with_settings(SegmentRecipe(), {"train.compile": "atuo"})) == (
        "train.compile = 'atuo': Input should be 'auto', True or False; did you mean auto?"
    )
