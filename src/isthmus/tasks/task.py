"""What differs between tasks: the module that trains, and how its test set is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isthmus import build
from isthmus.data.store import LabelledStore, MaskedStore, Store
from isthmus.engine.task_module import TaskModule
from isthmus.engine.trained import Trained
from isthmus.recipe import AnyRecipe, GenerateRecipe, SegmentRecipe
from isthmus.tasks.classify.evaluate import evaluate_classifier
from isthmus.tasks.classify.module import classifier_for
from isthmus.tasks.generate.evaluate import evaluate_generator
from isthmus.tasks.generate.module import Generator
from isthmus.tasks.segment.evaluate import evaluate_segmenter
from isthmus.tasks.segment.module import Segmenter

Metric = Callable[[Trained], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """How one kind of recipe becomes a module, and a trained module becomes metrics."""

    module: Callable[[Any, Any, int], TaskModule]
    metric: Metric


def module_for(recipe: AnyRecipe, store: Store, steps: int) -> TaskModule:
    """A fresh network and its loss, with weights from torch's global generator."""
    return TASKS[recipe.task].module(recipe, store, steps)


def _segmenter(recipe: SegmentRecipe, store: MaskedStore, steps: int) -> Segmenter:
    num_classes = len(store.class_names)
    return Segmenter(build.unet_for(recipe.model, 3, num_classes), recipe, num_classes, steps)


def _generator(recipe: GenerateRecipe, store: LabelledStore, steps: int) -> Generator:
    return Generator(build.vae_for(recipe, len(store.class_names)), recipe, steps)


TASKS = {
    "segment": Task(_segmenter, evaluate_segmenter),
    "generate": Task(_generator, evaluate_generator),
    "classify": Task(classifier_for, evaluate_classifier),
}
