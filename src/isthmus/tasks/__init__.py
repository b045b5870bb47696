"""The tasks: segmentation, generation and classification.

Each task is a subpackage and an entry of ``TASKS``; code outside does not depend on the task of a recipe.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from isthmus.engine.task import TASKS, Task, task_of
from isthmus.errors import UserError, nearest_name
from isthmus.recipe import Recipe
from isthmus.recipe.parsing import parse
from isthmus.tasks.classify import ClassifyTask
from isthmus.tasks.generate import GenerateTask
from isthmus.tasks.segment import SegmentTask

TASKS |= {task.name: task for task in (SegmentTask(), GenerateTask(), ClassifyTask())}

__all__ = ["TASKS", "Task", "load_recipe", "recipe_from", "task_of"]


def recipe_from(tables: Mapping[str, Any]) -> Recipe:
    """The recipe with these nested tables; ``task`` is "segment" by default.

    Raises:
        UserError: If a key is unknown or a value is invalid.

    >>> recipe_from({"task": "generate"}).task
    'generate'
    """
    name = tables.get("task", "segment")
    if not isinstance(name, str) or name not in TASKS:
        raise UserError(f"task = {name!r}: unknown; {nearest_name(str(name), TASKS)}")
    return parse(TASKS[name].recipe, tables)


def load_recipe(text: str) -> Recipe:
    """The recipe in a TOML text, such as one written by ``recipe_as_toml``."""
    return recipe_from(tomllib.loads(text))
