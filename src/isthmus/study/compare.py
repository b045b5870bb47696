"""Two runs, or two studies, against each other: refused where their scores do not compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.recipe import (
    AnyRecipe,
    StudyPlan,
    differing_fields,
    load_plan,
    load_recipe,
    settings_of,
)
from isthmus.refusal import Refusal
from isthmus.runs.folder import RunFolder
from isthmus.scoring.definitions import Score
from isthmus.statistics.pictures import picture_difference
from isthmus.study.about import SCORES_OF
from isthmus.study.analysis import looks_of, scores_of
from isthmus.study.comparisons import Comparison
from isthmus.study.planned import PlannedRun, planned_runs
from isthmus.study.verdicts import found_in, verdicts_on

_ENTROPY = 0


@dataclass(frozen=True)
class Compared:
    """What may be said of A against B: sentences, and the fields in which they differ."""

    differing: tuple[str, ...]
    sentences: tuple[str, ...]


def compare_runs(a: Path, b: Path) -> Compared:
    """Two trained networks on the same test pictures, paired by picture.

    Raises:
        Refusal: If one has not finished, or contract, pictures or task differ.
    """
    one, other = (_finished_run(path) for path in (a, b))
    recipes = [load_recipe((run.path / "recipe.toml").read_text("utf-8")) for run in (one, other)]
    _refuse_unlike(recipes, [_contract(one), _contract(other)], (a, b))
    with np.load(one.scores) as of_one, np.load(other.scores) as of_other:
        if of_one["names"].tolist() != of_other["names"].tolist():
            raise Refusal(
                f"{a} and {b} were scored on different test pictures: their scores do not pair; "
                "train both on the same split"
            )
        scores = [
            score
            for score in _comparable(SCORES_OF[recipes[0].task], recipes)
            if score.name in of_one.files and score.name in of_other.files
        ]
        sentences = [_of_pictures(s, of_one[s.name], of_other[s.name]) for s in scores]
    if one.result()["seed"] != other.result()["seed"]:
        sentences.append(
            "The runs have different seeds, so they were validated on different pictures."
        )
    sentences.append(
        "Pictures are the unit: this speaks of these two networks, not of their recipes."
    )
    return Compared(differing_fields(*recipes), tuple(sentences))


def compare_studies(a: Path, b: Path) -> Compared:
    """Variants of two studies against each other, paired by seed: those of one name, or the only ones.

    Raises:
        Refusal: If no variants or seeds pair, or contract, pictures, split or task differ.
    """
    plans = [load_plan(_plan_of(path)) for path in (a, b)]
    pairs = _paired_variants(plans[0], plans[1], (a, b))
    runs = [planned_runs(plan, path) for plan, path in zip(plans, (a, b), strict=True)]
    of_pairs = [(_recipe_of(runs[0], ours), _recipe_of(runs[1], theirs)) for ours, theirs in pairs]
    for recipes in of_pairs:
        contracts = [_study_contract(path) for path in (a, b)]
        _refuse_unlike(list(recipes), contracts, (a, b))
    tables = [_results(path, side) for path, side in ((a, "A"), (b, "B"))]
    seeds = sorted(set(tables[0]["seed"]) & set(tables[1]["seed"]))
    if not seeds:
        raise Refusal(
            f"{a} and {b} have no seed in common: nothing pairs; run one with the other's seeds"
        )
    results = pd.concat([table[table["seed"].isin(seeds)] for table in tables])
    comparisons = [
        Comparison("pair", "", f"A {ours}", f"B {theirs}", ((f"A {ours}", f"B {theirs}"),))
        for ours, theirs in pairs
    ]
    looks = looks_of(dataclasses.replace(plans[0], seeds=tuple(seeds), looks=()))
    is_whole = not (results["status"] == "missing").any()
    scores = _comparable(scores_of(plans[0]), [recipe for of in of_pairs for recipe in of])
    found = found_in(results, comparisons, scores)
    verdicts = verdicts_on(found, plans[0].margins, looks, is_whole=is_whole)
    changed = dict.fromkeys(key for recipes in of_pairs for key in differing_fields(*recipes))
    return Compared(tuple(changed), tuple(verdicts["sentence"]) if len(verdicts) else ())


def _comparable(scores: Sequence[Score], recipes: Sequence[AnyRecipe]) -> list[Score]:
    """Without nats and bits where likelihoods differ, which score different things of a picture."""
    likelihoods = {settings_of(recipe).get("objective.likelihood") for recipe in recipes}
    if len(likelihoods) == 1:
        return list(scores)
    return [score for score in scores if not {"nats", "bits"} & set(score.name.split("_"))]


def _of_pictures(
    score: Score, a: Float[np.ndarray, " picture"], b: Float[np.ndarray, " picture"]
) -> str:
    known = np.isfinite(a) & np.isfinite(b)
    found = picture_difference(a[known], b[known], np.random.default_rng(_ENTROPY))
    digits = 3 if abs(found.mean) < 10 else 2
    return (
        f"{score.title}: A - B {found.mean:+.{digits}f} [{found.low:+.{digits}f}, "
        f"{found.high:+.{digits}f}], {known.sum()} pictures."
    )


def _refuse_unlike(
    recipes: Sequence[AnyRecipe], contracts: Sequence[str], paths: tuple[Path, Path]
) -> None:
    """Refuse two whose scores would be of different things, and say which field it is."""
    a, b = paths
    if recipes[0].task != recipes[1].task:
        raise Refusal(
            f"{a} is a {recipes[0].task} and {b} a {recipes[1].task}: they share no score"
        )
    changed = [
        key
        for key in differing_fields(*recipes)
        if key.startswith("data.") and key not in _DATA_THAT_MAY_DIFFER
    ]
    if changed:
        raise Refusal(
            f"{a} and {b} differ in {', '.join(changed)}: their scores are not of the same pictures "
            "and labels; train both on the same data"
        )
    if contracts[0] != contracts[1]:
        raise Refusal(
            f"{a} has the label contract {contracts[0]!r} and {b} {contracts[1]!r}: scores under two "
            "contracts do not compare"
        )


_DATA_THAT_MAY_DIFFER = ("data.limit", "data.flip", "data.shift_px")
"""What changes the training pictures only."""


def _paired_variants(
    ours: StudyPlan, theirs: StudyPlan, paths: tuple[Path, Path]
) -> list[tuple[str, str]]:
    names, others = ([v.name for v in plan.variants] for plan in (ours, theirs))
    if shared := [name for name in names if name in others]:
        return [(name, name) for name in shared]
    if len(names) == len(others) == 1:
        return [(names[0], others[0])]
    raise Refusal(
        f"{paths[0]} and {paths[1]} have no variant of one name ({', '.join(names)}; "
        f"{', '.join(others)}): name two runs to compare, or rename a variant"
    )


def _finished_run(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.is_finished or not folder.scores.exists():
        raise Refusal(f"{path}: not a finished run, for it has no scores; finish it first")
    return folder


def _contract(run: RunFolder) -> str:
    return str(run.result()["contract"])


def _plan_of(study: Path) -> Path:
    if not (study / "results.csv").is_file():
        raise Refusal(
            f"{study}: neither a finished run nor a study with results; name one of these"
        )
    return study / "plan.toml"


def _study_contract(study: Path) -> str:
    finished = [path.parent for path in sorted(study.glob("runs/*/*/result.json"))]
    return _contract(RunFolder(finished[0])) if finished else ""


def _results(study: Path, side: str) -> pd.DataFrame:
    table = pd.read_csv(study / "results.csv")
    return table.assign(variant=f"{side} " + table["variant"])


def _recipe_of(runs: Sequence[PlannedRun], variant: str) -> AnyRecipe:
    return next(run.recipe for run in runs if run.variant.name == variant)
