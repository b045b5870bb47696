"""The statistics of a study are those of commit 77f0f6c for the same tables.

Each folder of ``golden/statistics`` is a study that was generated, not trained: its plan, its runs, its
test images, what else was known of it, and in ``expected/`` what that commit computed from these. Only
keys and columns have been renamed since; sentences have been worded anew. Numbers are compared with a
tolerance for the rounding of other processors (``CLOSE``). With GOLDEN_EXACT=1 they must agree to the
last digit, as they do on processors that round like the one that wrote them (AMD EPYC with AVX512).
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isthmus.engine.run_result import Baseline, JudgeRecord
from isthmus.study.analysis import analyse, looks_of
from isthmus.study.claim import note_look
from isthmus.study.comparisons import comparisons_of
from isthmus.study.plan import StudyPlan, load_plan, metrics_of
from isthmus.study.power import visible_differences
from isthmus.study.publish import conclusions, planned_record
from isthmus.study.recommendation import best_pairs, interacting, shown_effects
from isthmus.study.records import AnalysisRecord, StudyRecord
from isthmus.study.stopping_rule import StoppingRule, widest_interval
from isthmus.study.study_folder import StudyFolder
from isthmus.tasks.generate.page import _Runs

GOLDEN = Path(__file__).parent / "golden" / "statistics"

# What the code makes of a case, as files of a folder.


def outputs_of(case: Path, out: Path) -> None:
    """Write everything that is compared."""
    plan = load_plan(case / "study.toml")
    facts = json.loads((case / "facts.json").read_text("utf-8"))
    results, per_image = _tables(case, facts)
    folder = StudyFolder(out / "study")
    folder.path.mkdir(parents=True)
    for name in ("study.toml", "results.csv", "tuning.csv"):
        if (case / name).exists():
            shutil.copyfile(case / name, folder.path / name)
    analysis = analyse(plan, folder, results, per_image)
    for name in TABLES:
        shutil.copyfile(folder.path / name, out / name)
    _write(out / "analysis.json", analysis.model_dump())
    _write(out / "power.json", _power(plan, results))
    recipes = {variant.name: plan.recipe_of(variant) for variant in plan.variants}
    record = _record(plan, facts, analysis)
    folder.write_record(record)
    folder.write_record(record.model_copy(update=conclusions(folder, recipes)))
    _write(out / "recommendation.json", _recommendation(folder))
    _write(out / "warnings.json", _warnings(folder, recipes))
    _write(out / "stopping.json", _stopping(plan, folder))
    note_look(folder)
    looked = {"looks_taken", "looked_last", "variants_seen"}
    _write(out / "looks.json", folder.record.model_dump(include=looked))


def _tables(case: Path, facts: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs, and the metrics of single images in the precision that their task has."""
    results, images = (read_table(case / f"{name}.csv") for name in ("results", "per_image"))
    return results, images.astype(dict.fromkeys(facts.get("single_precision", []), np.float32))


def _power(plan: StudyPlan, results: pd.DataFrame) -> dict[str, Any]:
    """What the study can detect, as the forecast prints it before any run and after these."""
    looks, metrics = looks_of(plan), metrics_of(plan)

    def seen(table: pd.DataFrame | None) -> list[dict[str, Any]]:
        compared = comparisons_of(plan.levels)
        of = visible_differences(compared, metrics, len(plan.seeds), looks, plan.expected_sd, table)
        return [
            {"comparison": v.words, "metric": v.metric.name}
            | {"smallest": v.smallest, "source": v.source}
            for v in of
        ]

    return {
        "looks": list(looks.seeds),
        "nominal_alpha": looks.nominal_alpha(0.05),
        "before": seen(None),
        "after": seen(results),
    }


def _record(plan: StudyPlan, facts: dict[str, Any], analysis: AnalysisRecord) -> StudyRecord:
    """The study's record, without images to describe."""
    baselines = tuple(Baseline(**({"definition": ""} | of)) for of in facts.get("baselines", []))
    known = {
        "images": {"test": facts["test_images"]},
        "baselines": baselines,
        "judge": JudgeRecord(**facts["judge"]) if "judge" in facts else None,
        "analysis": analysis,
    }
    for key in ("mixed", "looks_taken", "looked_last", "variants_seen"):
        known[key] = tuple(facts.get(key, ()))
    return planned_record(plan).model_copy(update=known)


def _recommendation(study: StudyFolder) -> dict[str, Any]:
    """The variants that are recommended, the verdicts behind them, and the sentences."""
    said = study.record.recommendation
    return {
        "take": said.variants if said else [],
        "best_pairs": [[v.a, v.b, v.verdict] for v in best_pairs(study)],
        "shown_effects": [[v.factor, v.a, v.b, v.verdict] for v in shown_effects(study)],
        "text": said.text if said else None,
        "details": list(said.details) if said else [],
        "interacting": list(interacting(study)),
    }


def _warnings(study: StudyFolder, recipes: dict[str, Any]) -> dict[str, Any]:
    """The warnings of a study, its headline, its references and the variants that obey the label."""
    record = study.record
    obeys = {}
    if record.task == "generate":
        runs = _Runs(study.finished, recipes)
        obeys = {variant: list(runs.obeys(variant)) for variant in record.variants}
    return {
        "obeys": obeys,
        "headline": record.headline,
        "warnings": [[of.text, *of.details] for of in record.warnings],
        "groups": [[of.text, *of.details] for of in record.notes.groups],
        "references": list(record.notes.references),
    }


def _stopping(plan: StudyPlan, study: StudyFolder) -> dict[str, Any]:
    """The width of the widest interval, and whether a study that adds seeds would end."""
    rules = [
        StoppingRule(width, None, most) for width, most in ((0.002, 20), (0.05, 20), (0.002, 3))
    ]
    reasons = [rule.stops(plan, study) for rule in rules]
    return {
        "widest": widest_interval(study.verdicts),
        "stops": [bool(reason) for reason in reasons],
        "reasons": reasons,
    }


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


TABLES = ("verdicts.csv", "ranks.csv", "by_image.csv", "variance.csv", "learning_curve.csv")
RECORDS = ("analysis", "power", "recommendation", "warnings", "stopping", "looks")
WORDS = (
    *("sentence", "text", "details", "interacting", "headline", "warnings", "groups"),
    *("references", "reasons", "source"),
)
"""Columns and keys that hold sentences; all others hold numbers, names and verdicts."""

# How they are compared.

CLOSE = {"": 1e-9, "learning_curve.csv": 1e-6}
"""Relative tolerance of numbers. Sums over seeds and images, and quantiles of t, differ in the last
bits with a processor's vector width and its BLAS. The exponent of a power law is where a sum of squares
is flat: a change in its last bit moves the minimum by the square root of that, 1e-8."""

NOTHING = 1e-13
"""Numbers this small are what arithmetic left of 0."""

IS_EXACT = os.environ.get("GOLDEN_EXACT") == "1"


def changes(expected: Path, made: Path, *, words: bool, exact: bool = False) -> list[str]:
    """Where one file differs from another, in its sentences or in all else."""
    ours, theirs = (list(_leaves(path)) for path in (expected, made))
    close = 0.0 if exact else CLOSE.get(expected.name, CLOSE[""])
    if len(ours) != len(theirs):
        return [f"{expected.name}: {len(ours)} values were expected, and {len(theirs)} are there"]
    return [
        f"{expected.name}, {place}: {before!r} was expected, {after!r} is there"
        for (place, before), (other, after) in zip(ours, theirs, strict=True)
        if any(part in WORDS for part in place.split("/")) == words
        if place != other or not _same(before, after, close)
    ]


def _leaves(path: Path) -> Iterator[tuple[str, Any]]:
    """Place and value of every cell or leaf of a file; a column or key stands in the place."""
    if path.suffix == ".json":
        yield from _of_json("", json.loads(path.read_text(encoding="utf-8")))
        return
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    yield "header", " ".join(header)
    for number, row in enumerate(rows):
        yield from ((f"{number}/{key}", _cell(text)) for key, text in zip(header, row, strict=True))


def _of_json(place: str, content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict | list):
        items = sorted(content.items()) if isinstance(content, dict) else enumerate(content)
        yield place, f"{type(content).__name__} of {len(content)}"
        for key, of in items:
            yield from _of_json(f"{place}/{key}", of)
    else:
        yield place, content


def _cell(text: str) -> Any:
    """A number with a point or an exponent as one; whatever else is text, whole numbers too."""
    try:
        return text if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _same(before: Any, after: Any, close: float) -> bool:
    """Equal; two fractions may differ by so little, and NaN is NaN."""
    if not (isinstance(before, float) and isinstance(after, float)):
        return type(before) is type(after) and before == after
    if not close or not math.isfinite(before):
        return repr(before) == repr(after)
    return math.isclose(before, after, rel_tol=close, abs_tol=NOTHING)


def read_table(path: Path) -> pd.DataFrame:
    """A table with every number as Python reads it, which is to the last bit; a name stays text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.apply(lambda of: of if of.name in NAMES else _numbers(of))


NAMES = ("variant", "image", "status", "reason")


def _numbers(column: pd.Series[str]) -> pd.Series[Any]:
    """Whole numbers, numbers with NaN for none, or text if some of it is no number."""
    for kind in (int, lambda text: float(text or "nan")):
        try:
            return pd.Series([kind(text) for text in column], index=column.index)
        except ValueError:
            continue
    return column


CASES = sorted(path.parent.name for path in GOLDEN.glob("*/facts.json"))
FILES = (*TABLES, *(f"{name}.json" for name in RECORDS))


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the code under test makes of a case; the folder has its name."""
    out = tmp_path_factory.mktemp("golden") / request.param
    outputs_of(GOLDEN / request.param, out)
    return out


def _all_changes(made: Path, *, words: bool) -> list[str]:
    expected = GOLDEN / made.name / "expected"
    return [
        line
        for name in FILES
        for line in changes(expected / name, made / name, words=words, exact=IS_EXACT)
    ]


def test_the_numbers_and_verdicts_are_those_of_before(made):
    assert _all_changes(made, words=False) == []


def test_the_sentences_are_those_of_before(made):
    assert _all_changes(made, words=True) == []


def test_a_plan_of_factors_spans_the_variants_that_it_spanned():
    sources = sorted(GOLDEN.glob("*/source.toml"))
    assert any("only" in tomllib.loads(s.read_text("utf-8"))["study"] for s in sources)
    for source in sources:
        assert load_plan(source) == load_plan(source.with_name("study.toml")), source.parent.name


def test_a_changed_digit_or_word_is_seen(tmp_path):
    expected = GOLDEN / "factorial_2x3" / "expected" / "verdicts.csv"
    table = read_table(expected)
    assert changes(expected, expected, words=False) == []
    for column, value in (("p_family", table["p_family"][1] * (1 + 1e-8)), ("verdict", "worse")):
        changed = table.assign(**{column: [*table[column][:1], value, *table[column][2:]]})
        changed.to_csv(tmp_path / expected.name, index=False)
        (line,) = changes(expected, tmp_path / expected.name, words=False)
        assert f"verdicts.csv, 1/{column}: " in line
        assert changes(expected, tmp_path / expected.name, words=True) == []
    nearer = table.assign(p=[np.nextafter(table["p"][0], 1.0), *table["p"][1:]])
    nearer.to_csv(tmp_path / expected.name, index=False)
    assert changes(expected, tmp_path / expected.name, words=False) == []
    assert len(changes(expected, tmp_path / expected.name, words=False, exact=True)) == 1
    said = table.assign(sentence=table["sentence"].str.replace("better", "greater"))
    said.to_csv(tmp_path / expected.name, index=False)
    assert changes(expected, tmp_path / expected.name, words=True) != []
    assert changes(expected, tmp_path / expected.name, words=False) == []
