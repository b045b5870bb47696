"""Compare two runs by image, or two studies by seed, if their metrics are comparable."""

from __future__ import annotations

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
from isthmus.metrics.wording import listed
from isthmus.recipe import Recipe, differing_fields
from isthmus.stats.paired import image_difference
from isthmus.study.analysis import looks_at
from isthmus.study.comparisons import Comparison
from isthmus.study.differences import found_in, is_complete
from isthmus.study.plan import DATA_THAT_MAY_DIFFER, StudyPlan, load_plan, metrics_of
from isthmus.study.schedule import PlannedRun, Schedule
from isthmus.study.study_folder import StudyFolder
from isthmus.study.verdicts import difference_text, verdicts_on
from isthmus.tasks import load_recipe


@dataclass(frozen=True)
class Compared:
    """The result of comparing A with B."""

    evaluated_on: str
    """The label scheme and the judge, which are the same for A and B."""
    differing: tuple[str, ...]
    """Recipe fields in which A and B differ."""
    sentences: tuple[str, ...]


def compare_runs(a: Path, b: Path) -> Compared:
    """Compare two trained networks on the same test images, paired by image.

    Raises:
        UserError: If a run has not finished or has failed, or if the runs differ in task, data, measure
            or judge.
    """
    one, other = (_finished_run(path) for path in (a, b))
    recipes = [load_recipe(run.recipe.read_text("utf-8")) for run in (one, other)]
    _check_comparable(recipes, (one.result(), other.result()), (a, b))
    task = task_of(recipes[0])
    with np.load(one.image_metrics) as of_one, np.load(other.image_metrics) as of_other:
        sentences = [
            _by_image(metric, of_one[metric.name], of_other[metric.name])
            for metric in task.comparable(task.metrics, recipes)
            if metric.name in of_one.files and metric.name in of_other.files
        ]
    if not sentences:
        raise UserError(
            f"{a} and {b} have no per-image metric in common: two runs are paired by image; "
            "compare their studies instead"
        )
    if one.result().seed != other.result().seed:
        drawn = listed(task.drawn_by_seed(recipes[0]), most=9)
        sentences.append(f"The runs have different seeds, so they also differ in {drawn}.")
    sentences.append(
        "The unit of analysis is the image: the differences are between these two trained networks, not "
        "between their recipes."
    )
    return Compared(_evaluated_on(one.result()), differing_fields(*recipes), tuple(sentences))


def compare_studies(a: Path, b: Path) -> Compared:
    """Compare variants of the same name in two studies, paired by seed.

    If no names match and each study has one variant, these two are compared.

    Raises:
        UserError: If the studies have no variants or no seeds in common, or differ in task, data, measure,
            judge, margins or metrics.
    """
    studies = [_study_with_results(path) for path in (a, b)]
    one, other = plans = [load_plan(study.plan_file) for study in studies]
    are_named = one.metrics or other.metrics  # else each study has the default metrics of its task
    for key, differs in {
        "margins": one.margins != other.margins,
        "metrics": are_named and metrics_of(one) != metrics_of(other),
    }.items():
        if differs:
            raise UserError(
                f"{a} and {b} differ in study.{key}: their verdicts answer different questions; "
                f"set study.{key} to the same value in both"
            )
    pairs = _paired_variants(one, other, (a, b))
    runs = [Schedule(plan, of).runs() for plan, of in zip(plans, studies, strict=True)]
    result_of_a, result_of_b = (_any_result(*of) for of in zip(runs, (a, b), strict=True))
    recipes_of_a, recipes_of_b = ({run.variant.name: run.recipe for run in of} for of in runs)
    recipes = [(recipes_of_a[ours], recipes_of_b[theirs]) for ours, theirs in pairs]
    for of_pair in recipes:
        _check_comparable(of_pair, (result_of_a, result_of_b), (a, b))
    tables = [study.results for study in studies]
    seeds = set(tables[0]["seed"]) & set(tables[1]["seed"])
    if not seeds:
        raise UserError(
            f"{a} and {b} have no seed in common: studies are paired by seed; run one of them with the "
            "seeds of the other"
        )
    results = pd.concat(
        table[table["seed"].isin(seeds)].assign(variant=f"{letter} " + table["variant"])
        for letter, table in zip("AB", tables, strict=True)
    )
    named = [(f"A {ours}", f"B {theirs}") for ours, theirs in pairs]
    comparisons = [Comparison("pair", "", *names, (names,)) for names in named]
    taken = {count for plan in plans for count in (*plan.looks, len(plan.seeds))}
    looks = looks_at((count for count in taken if count < len(seeds)), len(seeds))
    named_metrics = max((metrics_of(plan) for plan in plans), key=len)
    every_recipe = [of for of_pair in recipes for of in of_pair]
    metrics = task_of(one.recipe).comparable(named_metrics, every_recipe)
    found = found_in(results, comparisons, metrics)
    verdicts = verdicts_on(found, one.margins, looks, is_complete=is_complete(results))
    changed = dict.fromkeys(key for of_pair in recipes for key in differing_fields(*of_pair))
    sentences = tuple(verdict.sentence for verdict in verdicts)
    return Compared(_evaluated_on(result_of_a), tuple(changed), sentences)


def _by_image(
    metric: Metric, a: Float[np.ndarray, " image"], b: Float[np.ndarray, " image"]
) -> str:
    known = np.isfinite(a) & np.isfinite(b)
    found = image_difference(a[known], b[known], np.random.default_rng(0))
    size = difference_text(found.mean, found.low, found.high)
    return f"{metric.title}: A - B {size}, {found.n} images."


def _evaluated_on(result: RunResult) -> str:
    judge = result.judge
    judge_text = f"; judge {judge.name}, accuracy {judge.accuracy:.3f}" if judge else ""
    return f"{result.label_scheme}{judge_text}"


def _check_comparable(
    recipes: Sequence[Recipe], results: tuple[RunResult, RunResult], paths: tuple[Path, Path]
) -> None:
    """Reject two runs or studies whose metrics are not comparable, and name the field that differs."""
    a, b = paths
    if task_of(recipes[0]) is not task_of(recipes[1]):
        raise UserError(
            f'{a} has task = "{recipes[0].task}" and {b} has task = "{recipes[1].task}": they have no metric '
            "in common; name two of the same task"
        )
    for why, is_concerned in _INCOMPARABLE.items():
        changed = [key for key in differing_fields(*recipes) if is_concerned(key)]
        if changed:
            raise UserError(f"{a} and {b} differ in {', '.join(changed)}: {why}")
    for words, key, key_text in (
        ("on different images", "content", "images"),
        ("by different judges", "judge", "judge"),
    ):
        one, other = (getattr(result, key) for result in results)
        if one and other and one != other:
            raise UserError(
                f"{a} and {b} were evaluated {words}, so their metrics are not comparable; run one of them "
                f"again with the {key_text} of the other"
            )


_TRAINING_ONLY = (*DATA_THAT_MAY_DIFFER, "data.folder", "data.validation")
"""Fields that do not change the test set, and the folder, whose images are compared by content instead."""

_INCOMPARABLE: dict[str, Callable[[str], bool]] = {
    "they were not evaluated on the same images and labels; train both on the same data": (
        lambda key: key.startswith("data.") and key not in _TRAINING_ONLY
    ),
    "the test images are the same, but the other images were split differently into training and "
    "validation images; train both with the same fraction": lambda key: key == "data.validation",
    "their metrics were measured differently; run one of them again with the settings of the other": (
        lambda key: key.startswith("measure.")
    ),
}
"""Why metrics are not comparable and what to do -> whether a recipe field is the cause."""


def _paired_variants(
    ours: StudyPlan, theirs: StudyPlan, paths: tuple[Path, Path]
) -> list[tuple[str, str]]:
    names, others = ([v.name for v in plan.variants] for plan in (ours, theirs))
    if shared := [name for name in names if name in others]:
        return [(name, name) for name in shared]
    if len(names) == len(others) == 1:
        return [(names[0], others[0])]
    raise UserError(
        f"{paths[0]} and {paths[1]} have no variant name in common ({', '.join(names)}; "
        f"{', '.join(others)}): variants are compared by name; compare two runs, or rename a variant"
    )


def _finished_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.is_finished or not folder.image_metrics.exists():
        raise UserError(f"{path}: this run has no test metrics; name a run that has finished")
    if folder.result().status == "failed":
        raise UserError(
            f"{path}: this run has failed ({folder.result().reason}), so its metrics do not count; "
            "name a run that has not failed"
        )
    return folder


def _study_with_results(path: Path) -> StudyFolder:
    folder = StudyFolder(path)
    if not folder.table_file("results").is_file():
        raise UserError(
            f"{path}: neither a finished run nor a study with results; name the folder of one of these"
        )
    return folder


def _any_result(runs: Sequence[PlannedRun], path: Path) -> RunResult:
    """The result of any finished run; all runs of a study have the same test images and judge."""
    finished = [run for run in runs if run.folder.is_finished]
    if not finished:
        raise UserError(f"{path}: no run has finished; run the study first")
    return finished[0].folder.result()
