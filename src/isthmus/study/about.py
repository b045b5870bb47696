"""What a study says of itself in study.json: metrics, baselines, data, machine, command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.store import LabelledStore, MaskedStore
from isthmus.engine.seeds import numpy_draws
from isthmus.metrics.segmentation import EMPTY_MASK_RULE, segmentation_metrics
from isthmus.recipe import IGNORE_INDEX, AnyRecipe, GenerateRecipe, StudyPlan
from isthmus.study.planned_runs import PlannedRun
from isthmus.tasks.catalogue import CURVES, METRICS_OF
from isthmus.tasks.generate.evaluate import images_of, swap_shares
from isthmus.tasks.generate.judge import judge_folder, judge_recipe, load_judge
from isthmus.tasks.generate.label_swap import controls, wrong_labels_of

_ALIKE = ("processor", "vector_instructions", "gpu", "threads", "precision", "torch")
"""What runs should have in common, of all that they write down of where they were trained."""


def read_study_record(study: Path) -> dict[str, Any]:
    """What ``study.json`` of a study folder says; nothing where there is none."""
    path = study / "study.json"
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return said


def variants_seen(about: Mapping[str, Any]) -> list[str]:
    """The variants whose verdicts were seen first; none before a look was taken."""
    first: list[str] = about.get("variants_seen", [])
    return first or (about["variants"] if about.get("looks_taken") else [])


def study_record(
    plan: StudyPlan,
    finished: list[PlannedRun],
    store: MaskedStore | LabelledStore,
    command: str,
    before: Mapping[str, Any],
    analysis: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the report says of a study beside its runs.

    Args:
        plan: The study.
        finished: Its runs that may be counted.
        store: Their images.
        command: The command line that asked for this.
        before: What this said last time, or nothing: controls are kept while the judge is the same.
        analysis: What the tables of verdicts are made with.
    """
    environments = [json.loads(run.folder.environment.read_text("utf-8")) for run in finished]
    environment: Mapping[str, Any] = environments[-1] if environments else {}
    task = plan.recipe.task
    judge = finished[-1].folder.result().get("judge", {}) if finished else {}
    kept = before.get("baselines") if judge and judge == before.get("judge") else None
    tuned = {run.variant.name: run.recipe for run in finished}
    losses = {_minimised(tuned.get(v.name, plan.recipe_of(v))) for v in plan.variants}
    return {
        "name": plan.name,
        "question": plan.question,
        "task": task,
        "label_scheme": store.label_scheme,
        "class_names": list(store.class_names),
        "ignore_index": IGNORE_INDEX,
        "metrics": [vars(metric) for metric in METRICS_OF[task]],
        "curve": CURVES[task],
        "judge": judge,
        "empty_mask_rule": EMPTY_MASK_RULE if task == "segment" else "",
        "images": _images(finished),
        "baselines": kept or _baselines(plan, finished, store),
        "variants": [variant.name for variant in plan.variants],
        "factors": list(plan.factors),
        "seeds": list(plan.seeds),
        "loss_differs": len(losses) > 1,
        "analysis": dict(analysis),
        "looks_taken": before.get("looks_taken", []),
        "looked_last": before.get("looked_last", []),
        "variants_seen": variants_seen(before),
        "command": command,
        "versions": {name: version(name) for name in ("isthmus", "numpy", "scipy", "statsmodels")}
        | {key: environment[key] for key in ("torch", "lightning", "python") if key in environment},
        "mixed": [key for key in _ALIKE if len({str(of.get(key)) for of in environments}) > 1],
        "machine": ", ".join(
            f"{environment[key]}" if key != "threads" else f"{environment[key]} threads"
            for key in ("processor", "vector_instructions", "threads")
            if key in environment
        ),
        "precision": environment.get("precision", ""),
    }


def _images(finished: Sequence[PlannedRun]) -> dict[str, int | str]:
    """How many images each part has; from the fewest to the most where runs differ in that."""
    counts = [run.folder.result()["images"] for run in finished]
    parts = {part: sorted({of[part] for of in counts}) for part in (counts[0] if counts else ())}
    return {part: of[0] if len(of) == 1 else f"{of[0]} to {of[-1]}" for part, of in parts.items()}


def _minimised(recipe: AnyRecipe) -> object:
    """What a recipe's training minimises; equal for two whose losses may be compared."""
    return getattr(recipe, "loss", None) or getattr(recipe, "objective", None)


def _baselines(
    plan: StudyPlan, finished: list[PlannedRun], store: MaskedStore | LabelledStore
) -> list[dict[str, Any]]:
    """What costs nothing to beat, or what theory says of the best: rows to compare with."""
    if isinstance(store, MaskedStore):
        return [_constant_prediction(store)]
    recipe = finished[-1].recipe if finished else None
    if isinstance(recipe, GenerateRecipe) and judge_folder(judge_recipe(recipe), store).is_finished:
        return _controls(recipe, plan.seeds[0], store)
    return []


def _constant_prediction(store: MaskedStore) -> dict[str, Any]:
    """The metrics of a prediction that is everywhere the training part's commonest class."""
    parts = np.asarray(store.parts)
    counts = np.bincount(np.asarray(store.masks[parts == "train"]).ravel(), minlength=256)
    commonest = int(counts[:IGNORE_INDEX].argmax())
    truth = np.asarray(store.masks[parts == "test"])
    constant = np.full_like(truth, commonest)
    return {
        "name": f"all {store.class_names[commonest]} (constant prediction)",
        "definition": "the same class for every pixel of every image",
        "is_floor": True,
        "metrics": segmentation_metrics(truth, constant, store.class_names).over_set,
    }


def _controls(recipe: GenerateRecipe, seed: int, store: LabelledStore) -> list[dict[str, Any]]:
    """The two decoders whose metrics theory knows, under the wrong labels of this seed."""
    parts = np.asarray(store.parts)
    training = images_of(store, np.flatnonzero(parts == "train"))
    test = images_of(store, np.flatnonzero(parts == "test"))
    given = wrong_labels_of(test[1], len(store.class_names), seed)
    rng = numpy_draws(seed, "style")
    judge = load_judge(recipe, store)
    definitions = {
        "ignores the label": "a decoder that returns the source image, whatever label it is given",
        "class medoids": "a decoder that returns, for the label it is given, the training image "
        "nearest to the mean of that class; swaps succeed where the judge says the medoid's label",
    }
    return [
        {
            "name": f"{name} (control)",
            "definition": definitions[name],
            "is_floor": name == "ignores the label",
            "metrics": swap_shares(control, "encoded_true") | swap_shares(control, "encoded_wrong"),
        }
        for name, control in controls(judge, training, test, given, rng).items()
    ]
