"""What differs between tasks: the module that trains, and how its test set is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isthmus import build
from isthmus.data.store import LabelledStore, MaskedStore, Store
from isthmus.recipe import AnyRecipe, GenerateRecipe, SegmentRecipe
from isthmus.runs.classifier import classifier_for
from isthmus.runs.generator import Generator
from isthmus.runs.module import TaskModule
from isthmus.runs.score_classifier import score_classifier
from isthmus.runs.score_generator import score_generator
from isthmus.runs.score_segmenter import score_segmenter
from isthmus.runs.segmenter import Segmenter
from isthmus.runs.trained import Trained

Score = Callable[[Trained], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """How one kind of recipe becomes a module, and a trained module becomes scores."""

    module: Callable[[Any, Any, int], TaskModule]
    score: Score


def module_for(recipe: AnyRecipe, store: Store, steps: int) -> TaskModule:
    """A fresh network and its loss, with weights from torch's global generator."""
    return TASKS[recipe.task].module(recipe, store, steps)


def _segmenter(recipe: SegmentRecipe, store: MaskedStore, steps: int) -> Segmenter:
    num_classes = len(store.class_names)
    return Segmenter(build.unet_for(recipe.model, 3, num_classes), recipe, num_classes, steps)


def _generator(recipe: GenerateRecipe, store: LabelledStore, steps: int) -> Generator:
    return Generator(build.vae_for(recipe, len(store.class_names)), recipe, steps)


TASKS = {
    "segment": Task(_segmenter, score_segmenter),
    "generate": Task(_generator, score_generator),
    "classify": Task(classifier_for, score_classifier),
}
