"""Two runs, or two studies, against each other: rejected where their metrics do not compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.engine.run_folder import RunFolder
from isthmus.engine.run_result import RunResult
from isthmus.engine.task import task_of
from isthmus.errors import UserError
from isthmus.metrics.metric import Metric
from isthmus.recipe import Recipe, differing_fields
from isthmus.stats.paired import image_difference
from isthmus.study.analysis import looks_of, metrics_of
from isthmus.study.comparisons import Comparison
from isthmus.study.differences import found_in, is_complete
from isthmus.study.folder import StudyFolder
from isthmus.study.plan import DATA_THAT_MAY_DIFFER, StudyPlan, load_plan
from isthmus.study.planned_runs import PlannedRun, planned_runs
from isthmus.study.sentences import difference_text
from isthmus.study.verdicts import verdicts_on
from isthmus.tasks import load_recipe

_ENTROPY = 0


@dataclass(frozen=True)
class Compared:
    """What may be said of A against B: sentences, the fields in which they differ, and what evaluated both."""

    evaluated_on: str
    differing: tuple[str, ...]
    sentences: tuple[str, ...]


def compare_runs(a: Path, b: Path) -> Compared:
    """Two trained networks on the same test images, paired by image.

    Raises:
        UserError: If one has not finished or is failed, or task, data, measure or judge differ.
    """
    one, other = (_finished_run(path) for path in (a, b))
    recipes = [load_recipe((run.path / "recipe.toml").read_text("utf-8")) for run in (one, other)]
    _check_comparable(recipes, (one.result(), other.result()), (a, b))
    task = task_of(recipes[0])
    with np.load(one.image_metrics) as of_one, np.load(other.image_metrics) as of_other:
        metrics = [
            metric
            for metric in task.comparable(task.metrics, recipes)
            if metric.name in of_one.files and metric.name in of_other.files
        ]
        sentences = [_of_images(s, of_one[s.name], of_other[s.name]) for s in metrics]
    if not sentences:
        raise UserError(
            f"{a} and {b} share no metric of single images: compare their studies instead"
        )
    if one.result().seed != other.result().seed:
        sentences.append(f"The runs have different seeds, so {_of_seeds(recipes[0])} differ too.")
    sentences.append(
        "Images are the unit: this speaks of these two networks, not of their recipes."
    )
    return Compared(_evaluated_on(one.result()), differing_fields(*recipes), tuple(sentences))


def compare_studies(a: Path, b: Path) -> Compared:
    """Variants of two studies paired by seed: those of one name, or the only ones.

    Raises:
        UserError: If no variants or seeds pair, or task, data, measure, judge, margins or metrics differ.
    """
    plans = [load_plan(_plan_of(path)) for path in (a, b)]
    are_named = any(plan.metrics for plan in plans)  # else each has those of its task
    asked = [{"margins": p.margins, "metrics": metrics_of(p) if are_named else ()} for p in plans]
    for key in asked[0]:
        if asked[0][key] != asked[1][key]:
            raise UserError(
                f"{a} and {b} differ in study.{key}: they ask different things; make it one"
            )
    pairs = _paired_variants(plans[0], plans[1], (a, b))
    runs = [planned_runs(plan, path) for plan, path in zip(plans, (a, b), strict=True)]
    results_of = (_any_result(runs[0], a), _any_result(runs[1], b))
    recipes = [(_recipe_of(runs[0], ours), _recipe_of(runs[1], theirs)) for ours, theirs in pairs]
    for of_pair in recipes:
        _check_comparable(of_pair, results_of, (a, b))
    tables = [_results(path, side) for path, side in ((a, "A"), (b, "B"))]
    seeds = sorted(set(tables[0]["seed"]) & set(tables[1]["seed"]))
    if not seeds:
        raise UserError(
            f"{a} and {b} have no seed in common: nothing pairs; run one with the other's seeds"
        )
    results = pd.concat([table[table["seed"].isin(seeds)] for table in tables])
    comparisons = [
        Comparison("pair", "", f"A {ours}", f"B {theirs}", ((f"A {ours}", f"B {theirs}"),))
        for ours, theirs in pairs
    ]
    drawn = {count for plan in plans for count in (*plan.looks, len(plan.seeds))}
    earlier = tuple(sorted(count for count in drawn if count < len(seeds)))
    looks = looks_of(dataclasses.replace(plans[0], seeds=tuple(seeds), looks=earlier))
    judged = max((metrics_of(plan) for plan in plans), key=len)
    metrics = task_of(plans[0].recipe).comparable(
        judged, [recipe for of in recipes for recipe in of]
    )
    found = found_in(results, comparisons, metrics)
    verdicts = verdicts_on(found, plans[0].margins, looks, is_complete=is_complete(results))
    changed = dict.fromkeys(key for of_pair in recipes for key in differing_fields(*of_pair))
    return Compared(
        _evaluated_on(results_of[0]),
        tuple(changed),
        tuple(verdict.sentence for verdict in verdicts),
    )


def _evaluated_on(result: RunResult) -> str:
    """The label scheme, and the judge where one has judged; both sides share them."""
    judge = result.judge
    judged = f"; judge {judge.name}, accuracy {judge.accuracy:.3f}" if judge else ""
    return f"{result.label_scheme}{judged}"


def _of_seeds(recipe: Recipe) -> str:
    """What differs between two runs of one recipe for their seeds alone."""
    drawn = task_of(recipe).drawn_by_seed(recipe)
    return ", ".join(drawn[:-1]) + " and " + drawn[-1]


def _of_images(
    metric: Metric, a: Float[np.ndarray, " image"], b: Float[np.ndarray, " image"]
) -> str:
    known = np.isfinite(a) & np.isfinite(b)
    found = image_difference(a[known], b[known], np.random.default_rng(_ENTROPY))
    said = difference_text(found.mean, found.low, found.high)
    return f"{metric.title}: A - B {said}, {found.n} images."


def _check_comparable(
    recipes: Sequence[Recipe], results: tuple[RunResult, RunResult], paths: tuple[Path, Path]
) -> None:
    """Reject two whose metrics would be of different things, and say which field it is."""
    a, b = paths
    if recipes[0].task != recipes[1].task:
        raise UserError(
            f"{a} is a {recipes[0].task} and {b} a {recipes[1].task}: they share no metric"
        )
    for what, fields in _UNLIKE.items():
        changed = [key for key in differing_fields(*recipes) if fields(key)]
        if changed:
            raise UserError(f"{a} and {b} differ in {', '.join(changed)}: {what}")
    for words, key in (("on different images", "content"), ("by different judges", "judge")):
        one, other = (getattr(result, key) for result in results)
        if one and other and one != other:
            raise UserError(
                f"{a} and {b} were evaluated {words}: their metrics do not compare; run one of them again"
            )


_TRAINING_ONLY = (*DATA_THAT_MAY_DIFFER, "data.folder", "data.validation")
"""Fields that leave the test set as it is; what is in the folder is compared by itself."""

_UNLIKE: dict[str, Callable[[str], bool]] = {
    "their metrics are not of the same images and labels; train both on the same data": (
        lambda key: key.startswith("data.") and key not in _TRAINING_ONLY
    ),
    "the test images are the same, but other shares of the rest have trained and chosen the epoch; "
    "train both with one share": lambda key: key == "data.validation",
    "their metrics were not measured alike; run one of them again with the other's settings": (
        lambda key: key.startswith("measure.")
    ),
}
"""Why metrics do not compare, and the remedy, for the fields that make it so."""


def _paired_variants(
    ours: StudyPlan, theirs: StudyPlan, paths: tuple[Path, Path]
) -> list[tuple[str, str]]:
    names, others = ([v.name for v in plan.variants] for plan in (ours, theirs))
    if shared := [name for name in names if name in others]:
        return [(name, name) for name in shared]
    if len(names) == len(others) == 1:
        return [(names[0], others[0])]
    raise UserError(
        f"{paths[0]} and {paths[1]} have no variant of one name ({', '.join(names)}; "
        f"{', '.join(others)}): name two runs to compare, or rename a variant"
    )


def _finished_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.is_finished or not folder.image_metrics.exists():
        raise UserError(f"{path}: this run has no test metrics; name one that has finished")
    if folder.result().status == "failed":
        raise UserError(
            f"{path}: this run is failed ({folder.result().reason}), so its metrics are no evidence; "
            "name one that has finished"
        )
    return folder


def _plan_of(study: Path) -> Path:
    folder = StudyFolder(study)
    if not folder.table_file("results").is_file():
        raise UserError(
            f"{study}: neither a finished run nor a study with results; name one of these"
        )
    return folder.plan_file


def _any_result(runs: Sequence[PlannedRun], study: Path) -> RunResult:
    """What one finished run says; all runs of a study share images and judge."""
    finished = [run for run in runs if run.folder.is_finished]
    if not finished:
        raise UserError(f"{study}: no run has finished; run the study first")
    return finished[0].folder.result()


def _results(study: Path, side: str) -> pd.DataFrame:
    table = StudyFolder(study).results
    return table.assign(variant=f"{side} " + table["variant"])


def _recipe_of(runs: Sequence[PlannedRun], variant: str) -> Recipe:
    return next(run.recipe for run in runs if run.variant.name == variant)
