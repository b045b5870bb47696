"""Recipes and study plans: everything that decides a run except its seed, as plain data.

The field docstrings are the only description of a field: the command line's help is
generated from them. Nothing here knows what a name stands for (that is ``build.py``).
"""

from isthmus.recipe.labelled import LabelledData
from isthmus.recipe.parsing import nested, parse, settings_of
from isthmus.recipe.recipe import Recipe, settings_hash
from isthmus.recipe.rules import IGNORE_INDEX, STRICT, Positive
from isthmus.recipe.train import Train
from isthmus.study.plan import (
    AnyRecipe,
    StudyPlan,
    Variant,
    differing_fields,
    load_plan,
    load_recipe,
    plan_as_toml,
    recipe_as_toml,
    shipped_recipe,
    with_data_from,
    with_settings,
)
from isthmus.tasks.classify.recipe import Classifier, ClassifyRecipe, ClassifyTrain
from isthmus.tasks.generate.recipe import VAE, GenerateRecipe, GenerateTrain, Measure, Objective
from isthmus.tasks.segment.recipe import Augment, Data, Loss, Model, SegmentRecipe

__all__ = [
    "IGNORE_INDEX",
    "STRICT",
    "VAE",
    "AnyRecipe",
    "Augment",
    "Classifier",
    "ClassifyRecipe",
    "ClassifyTrain",
    "Data",
    "GenerateRecipe",
    "GenerateTrain",
    "LabelledData",
    "Loss",
    "Measure",
    "Model",
    "Objective",
    "Positive",
    "Recipe",
    "SegmentRecipe",
    "StudyPlan",
    "Train",
    "Variant",
    "differing_fields",
    "load_plan",
    "load_recipe",
    "nested",
    "parse",
    "plan_as_toml",
    "recipe_as_toml",
    "settings_hash",
    "settings_of",
    "shipped_recipe",
    "with_data_from",
    "with_settings",
]
