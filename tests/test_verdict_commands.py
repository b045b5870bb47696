"""Studies with factors, tuning, stopping rules and comparisons, as users run them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from conftest import SMALL, run_result, tuning_result
from isthmus.cli.main import main
from isthmus.engine import train as engine_train
from isthmus.engine.device import CPU, environment
from isthmus.engine.loaders import split_for
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import task_of
from isthmus.errors import UserError
from isthmus.recipe import Recipe, recipe_as_toml, with_settings
from isthmus.study import forecast
from isthmus.study.claim import claimed_plan, write_plan, written_plan
from isthmus.study.executors import one_by_one
from isthmus.study.jobs import JobOptions
from isthmus.study.plan import StudyPlan, Variant, load_plan, plan_as_toml
from isthmus.study.publish import tuning_table
from isthmus.study.run import StudyRun
from isthmus.study.schedule import Schedule
from isthmus.study.stopping_rule import StoppingRule, run_with_rule
from isthmus.study.study_folder import StudyFolder, read_study
from isthmus.study.warnings import study_warnings
from isthmus.tasks import load_recipe
from isthmus.tasks.segment.recipe import SegmentRecipe

FACTORS = """
[study]
name = "factors"
seeds = 2
margins = { mean_iou = 0.3 }
[study.factors]
model.down = ["max-pool", "strided"]
loss.name = ["dice", "bce+dice"]
"""


@pytest.fixture(scope="module")
def recipe(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "factors.toml"
    path.write_text(FACTORS + SMALL.format(discs=discs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("finished") / "factors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main(["study", str(recipe), "--out", str(study)]) == 0
    return study


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(words)
    output = capsys.readouterr()
    return status, (output.err if status else output.out).strip()


@pytest.mark.trains
def test_a_factorial_study_ends_with_its_verdicts(finished: Path) -> None:
    verdicts = pd.read_csv(finished / "verdicts.csv")
    assert verdicts["kind"].value_counts().to_dict() == {"pair": 6, "factor": 2, "interaction": 1}
    assert (verdicts["n"] == 2).all()
    assert (verdicts["margin"] == 0.3).all()
    results = pd.read_csv(finished / "results.csv")
    down = results.groupby(["model.down", "seed"])["mean_iou"].mean().unstack()
    row = verdicts[verdicts["factor"] == "model.down"].iloc[0]
    expected = (down.loc["strided"] - down.loc["max-pool"]).mean()
    assert row["difference"] == pytest.approx(expected)
    assert pd.read_csv(finished / "ranks.csv")["share"].sum() == pytest.approx(4)
    assert pd.read_csv(finished / "variance.csv")["share"].sum() == pytest.approx(1)
    about = json.loads((finished / "study.json").read_text())
    assert about["analysis"]["looks"] == [2]
    roles = [entry["role"] for entry in json.loads((finished / "images/images.json").read_text())]
    assert roles == sorted(roles, key=["typical", "differing", "hardest", "easiest"].index)


@pytest.mark.trains
def test_runs_of_another_version_of_the_code_are_named(
    finished: Path, recipe: Path, tmp_path: Path
) -> None:
    assert read_study(finished).record.mixed == ()
    study = shutil.copytree(finished, tmp_path / "study")
    runs = [
        RunFolder(study / "runs" / name / "seed-0") for name in ("strided_dice", "max-pool_dice")
    ]
    began = runs[0].begun_with()
    assert began
    assert len(began.code) == 12
    newer = began.versions | {"torch": "99.1"}
    runs[0].write_environment(began.model_copy(update={"code": "0123456789ab"}))
    runs[1].write_environment(began.model_copy(update={"commit": "abc", "versions": newer}))
    assert main(["study", str(recipe), "--out", str(study)]) == 0
    record = read_study(study).record
    assert record.mixed == ("commit", "code", "torch")
    (text,) = (of.text for of in record.warnings if "same environment" in of.text)
    assert text.startswith(
        "The runs were not all trained in the same environment; they differ in commit, code and torch:"
    )
    assert text in (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unsure(finished: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study, had its two seeds said the opposite: of every factor +0.2 and -0.2."""
    study = tmp_path_factory.mktemp("unsure") / "factors"
    shutil.copytree(finished, study)
    for path in study.glob("runs/*/*/result.json"):
        sign = 1 if path.parent.name == "seed-0" else -1
        down, loss = path.parent.parent.name.split("_")
        result = json.loads(path.read_text())
        levels = (down == "strided") + (loss == "bce+dice")
        result["metrics"]["mean_iou"] = 0.5 + 0.2 * sign * levels
        path.write_text(json.dumps(result))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main(["study", str(recipe), "--out", str(study)]) == 0
    return study


@pytest.fixture(scope="module")
def longer(unsure: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That study with one seed more, added by hand."""
    study = tmp_path_factory.mktemp("longer") / "factors"
    shutil.copytree(unsure, study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main(["study", str(recipe), "--out", str(study), "--seeds", "3"]) == 0
    return study


@pytest.mark.trains
def test_another_look_at_more_seeds_is_corrected_for(longer: Path) -> None:
    study = longer
    about = json.loads((study / "study.json").read_text())
    assert about["analysis"]["looks"] == [2, 3]
    assert about["looked_last"] == [2, 3], "each was the last that was planned then"
    (late,) = (of.text for of in study_warnings(read_study(study)) if "had been seen" in of.text)
    assert late.startswith(
        "Seeds were added after verdicts on 2 seeds had been seen, with no further look planned"
    )
    assert load_plan(study / "study.toml").looks == (2,), "and what the last seed makes it"
    assert (pd.read_csv(study / "verdicts.csv")["n"] == 3).all()


@pytest.mark.trains
def test_the_forecast_says_what_can_be_seen(
    finished: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    words = ["study", str(recipe), "--dry-run", "--out"]
    status, blind = said([*words, "nowhere"], capsys)
    assert status == 0
    assert "the smallest difference that 2 seeds can detect" in blind
    assert " SD " in blind
    assert "set study.expected_sd to the standard deviation" in " ".join(blind.split())
    assert not Path("nowhere").exists()
    _, piloted = said([*words, str(finished)], capsys)
    assert "runs already done" in piloted
    assert " SD " not in piloted


def forecast_of(
    recipe: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, dict[str, tuple[float, float]]]:
    """What a forecast of one seed says, and of each variant its steps and minutes a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "140")
        words = ["study", str(recipe), "--dry-run", "--seeds", "1", "--out", str(study)]
        status, shown = said(words, capsys)
    assert status == 0
    rows = [
        [cell.strip() for cell in line.split("│")] for line in shown.splitlines() if "│" in line
    ]
    return shown, {row[1]: (float(row[4].replace(",", "")), float(row[5])) for row in rows}


def test_the_forecast_counts_the_dear_steps_of_a_bound_that_starts_late(
    stroke_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three quarters of the steps at a second, a quarter at five: two seconds a step."""
    monkeypatch.setattr(
        forecast, "seconds_per_step", lambda recipe, *_: float(recipe.objective.importance_samples)
    )
    late = "[objective]\nimportance_samples = 5\nimportance_from = 0.75\n\n[measure]"
    stroke_recipe.write_text(stroke_recipe.read_text().replace("[measure]", late))
    _, costs = forecast_of(stroke_recipe, tmp_path / "s", capsys)
    steps, minutes = costs["told"]
    assert minutes == pytest.approx(steps * 2 / 60, abs=0.05)


def test_the_forecast_counts_the_batches_that_train(
    stroke_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One image more than a batch holds: it is left out."""
    monkeypatch.setattr(forecast, "seconds_per_step", lambda *_: 1.0)
    recipe = load_plan(stroke_recipe).recipe
    store = task_of(recipe).open_store(recipe.data)
    count = len(split_for(recipe, store, 0).train)
    text = stroke_recipe.read_text()
    stroke_recipe.write_text(text.replace("\nbatch = 8", f"\nbatch = {count - 1}"))
    _, costs = forecast_of(stroke_recipe, tmp_path / "s", capsys)
    assert costs["told"][0] == recipe.train.epochs


def test_the_forecast_tells_no_objective_by_the_steps_of_another(
    stroke_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adversary's passes are not among the operations of the network."""
    monkeypatch.setattr(
        forecast,
        "seconds_per_step",
        lambda recipe, *_: {"adversary": 2.0}.get(recipe.objective.invariance, 1.0),
    )
    _, costs = forecast_of(stroke_recipe, tmp_path / "s", capsys)
    each = [60 * minutes / steps for steps, minutes in (costs["told"], costs["not_told"])]
    assert each == pytest.approx([2, 1], abs=0.02)


def tuned_recipe(recipe: Path, path: Path, grid: str) -> Path:
    text = recipe.read_text().replace("seeds = 2", f"seeds = 1\ntune.train.lr = {grid}")
    path.write_text(text.replace('model.down = ["max-pool", "strided"]', "model.width = [8, 12]"))
    return path


@pytest.mark.trains
def test_each_variant_is_tuned_on_validation_before_it_meets_the_test_set(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tuned_recipe(recipe, tmp_path / "tuned.toml", "[1e-9, 1e-2]")
    study = tmp_path / "study"
    assert main(["study", str(tuned), "--out", str(study)]) == 0
    table = pd.read_csv(study / "tuning.csv")
    assert len(table) == 4 * 2
    chosen = table[table["chosen"]].set_index("variant")
    best = table.loc[table.groupby("variant")["value"].idxmax()].set_index("variant")
    assert chosen["train.lr"].to_dict() == best["train.lr"].to_dict()
    assert set(chosen["train.lr"]) == {1e-2}, "a learning rate of 1e-9 learns nothing"
    results = pd.read_csv(study / "results.csv")
    assert set(results["train.lr"]) == {1e-2}
    for run in study.glob("tuning/*/*"):
        result = json.loads((run / "result.json").read_text())
        assert "metrics" not in result, "the test set is not looked at"
        assert not (run / "scores.npz").exists()
    status, sentence = said(["study", str(tuned), "--out", str(study), "--train.lr", "0.1"], capsys)
    assert (status, sentence) == (
        2,
        "isthmus: --train.lr: study.tune sets this field, so the flag would have no effect; change it in "
        "the recipe",
    )
    other = tuned_recipe(recipe, tmp_path / "other.toml", "[1e-3, 1e-2]")
    status, sentence = said(["study", str(other), "--out", str(study)], capsys)
    assert status == 2
    assert sentence == (
        f"isthmus: {study} holds a study that tunes train.lr over 1e-09, 0.01, not train.lr over 0.001, "
        "0.01: all variants must be tuned over the same grid; choose another folder with --out, or restore "
        "study.tune"
    )


def test_what_was_tuned_on_other_images_is_not_gone_on_with(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tuned_recipe(recipe, tmp_path / "tuned.toml", "[1e-3, 1e-2]")
    study = tmp_path / "study"
    plan = load_plan(tuned)
    for run in Schedule(plan, StudyFolder(study)).tuning_runs():
        run.folder.write_environment(environment(CPU, content="other", prepared={}, parts={}))
        run.folder.finish(tuning_result())
    assert said(["study", str(tuned), "--out", str(study)], capsys) == (
        2,
        f"isthmus: {study}: the images have changed since its runs finished: all runs of a study must have "
        "the same test set; restore the data, or choose another folder with --out",
    )


def test_a_setting_that_breaks_off_holds_its_variant_back_and_is_tried_again(
    plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = dataclasses.replace(plan, tune={"train.lr": (1e-3, 1e-2)})
    broken = tmp_path / "tuning" / "a" / "setting-0"

    def tune_run(recipe: Recipe, _seed: int, folder: RunFolder, **_: object) -> None:
        folder.claim(recipe, "content")
        if folder.path == broken and not folder.error.exists():
            raise OSError("disk full")
        folder.finish(tuning_result())

    monkeypatch.setattr(engine_train, "tune_run", tune_run)
    folder, quiet = StudyFolder(tmp_path), Console(quiet=True)
    options = JobOptions(device="cpu", data_root=None, logger="none", shared=folder.shared)
    call = StudyRun(folder, frozenset("ab"), options, one_by_one, quiet, "")
    schedule = Schedule(tuned, folder)
    call.tune(schedule)
    assert "disk full" in (broken / "error.txt").read_text()
    assert schedule.untuned() == {"a"}
    assert not schedule.untrainable()
    assert list(tuning_table(schedule)["variant"]) == ["a", "b", "b"]
    call.tune(schedule)
    assert not schedule.untuned()
    assert len(tuning_table(schedule)) == 4


def test_the_forecast_counts_tuning_and_the_seeds_that_a_rule_may_add(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven steps an epoch, of one minute each."""
    timed: list[Recipe] = []
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr(
        forecast, "seconds_per_step", lambda recipe, *_: timed.append(recipe) or 60.0
    )
    path = tmp_path / "tuned.toml"
    tuned = "seeds = 2\ntune.train.epochs = [1, 10]"
    path.write_text(recipe.read_text().replace("seeds = 2", tuned))
    words = ["study", str(path), "--dry-run", "--out", str(tmp_path / "s")]
    status, shown = said([*words, "--stop-width", "0.1", "--max-seeds", "5"], capsys)
    assert status == 0
    assert len(timed) == len(set(timed)) == 4 * 2, "a step of every recipe is timed once"
    assert shown.count(", tuning train.epochs 10 ") == 4
    assert "a variant that is not tuned yet is counted with its most expensive setting" in shown
    left_out = "not included: augmentation and validation, which add about 10 %; the "
    assert f"{left_out}evaluation on the test set, once per run\n" in shown
    minutes, more = 4 * (7 + 70 + 2 * 70), 3 * 4 * 70
    assert (
        f"about {minutes:.1f} minutes of training remain on this machine, about "
        f"{minutes + more:.1f} if seeds are added up to 5\n"
    ) in shown
    assert "the smallest difference that 2 seeds can detect" in shown
    assert not (tmp_path / "s").exists()


def pretended(study: Path, widths: list[float], minutes: float = 1.0, status: str = "finished"):
    """In place of training: tables as a study leaves them, narrower with every seed."""

    def run(plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        folder = StudyFolder(study)
        plan = write_plan(plan, folder)
        runs = Schedule(plan, folder).runs()
        for of in [of for of in runs if of.seed in seeds]:
            of.folder.claim(of.recipe, "content")
            of.folder.add_epoch({"epoch": 1.0, "seconds": 60 * minutes / 2})
            of.folder.finish(run_result(status=status))
        done = {False: "missing", True: status}
        rows = [
            {"variant": of.variant.name, "seed": of.seed, "status": done[of.folder.is_finished]}
            for of in runs
        ]
        pd.DataFrame(rows).to_csv(study / "results.csv", index=False)
        half = widths[len(plan.seeds)] / 2
        verdict = {
            "kind": "factor",
            "metric": "mean_iou",
            "a": "a",
            "b": "b",
            "difference": 0.5,
            "verdict": "cannot tell",
            "n": 0 if math.isnan(half) else 2,
            "low": 0.5 - half,
            "high": 0.5 + half,
        }
        pd.DataFrame([verdict]).to_csv(study / "verdicts.csv", index=False)
        return plan

    return run


@pytest.fixture
def plan() -> StudyPlan:
    variants = tuple(Variant(name=name, settings={}) for name in "ab")
    return StudyPlan(name="x", recipe=SegmentRecipe(), seeds=(0, 1), variants=variants)


WIDTHS = [9.0, 9.0, 0.5, 0.3, 0.1, 0.05]


def test_commands_that_begin_together_plan_together(plan: StudyPlan, tmp_path: Path) -> None:
    """Each has looked into the folder before the other has written its plan."""
    (first, second), folder = plan.variants, StudyFolder(tmp_path)
    ours = claimed_plan(dataclasses.replace(plan, variants=(first,), seeds=(0,)), folder)
    theirs = claimed_plan(dataclasses.replace(plan, variants=(second,), seeds=(1,)), folder)
    other = dataclasses.replace(theirs, recipe=with_settings(plan.recipe, {"train.epochs": 9}))
    write_plan(ours, folder)
    joined = write_plan(theirs, folder)
    assert {variant.name for variant in joined.variants} == {"a", "b"}
    assert joined.seeds == (0, 1)
    assert written_plan(ours, folder).seeds == (0, 1), "and the tables of the first tell of both"
    with pytest.raises(
        UserError, match=r"a study with a different recipe \(changed: train.epochs\)"
    ):
        write_plan(other, folder)


def test_a_budget_leaves_out_no_more_than_its_own_seeds(plan: StudyPlan, tmp_path: Path) -> None:
    """Another command has joined the folder, with a variant and a seed that has begun."""
    (first, second), folder = plan.variants, StudyFolder(tmp_path)
    write_plan(dataclasses.replace(plan, variants=(second,), seeds=(7,)), folder)
    (joined,) = Schedule(load_plan(folder.plan_file), folder).runs()
    joined.folder.claim(joined.recipe, "content")
    ours = dataclasses.replace(plan, variants=(first,), seeds=(0, 1, 2))
    rule = StoppingRule(width=None, budget_minutes=1.5, max_seeds=20)
    ended, reason = run_with_rule(ours, StudyFolder(tmp_path), rule, pretended(tmp_path, [1.0] * 9))
    assert "planned seeds are left out" in reason
    written = load_plan(tmp_path / "study.toml")
    assert {variant.name for variant in written.variants} == {"a", "b"}
    assert {0, 7} <= set(written.seeds)
    assert set(ended.seeds) == set(written.seeds)


def test_no_seed_is_added_for_an_interval_that_cannot_come(plan: StudyPlan, tmp_path: Path) -> None:
    """One of the two variants fails under every seed."""

    def run(plan: StudyPlan, seeds: Collection[int]) -> StudyPlan:
        plan = pretended(tmp_path, [math.nan] * 9)(plan, seeds)
        results = StudyFolder(tmp_path).results
        results.loc[results["variant"] == "b", "status"] = "failed"
        results.to_csv(tmp_path / "results.csv")
        return plan

    rule = StoppingRule(width=0.2, budget_minutes=None, max_seeds=5)
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, run)
    assert ended.seeds == (0, 1)
    assert reason == (
        "fewer than two variants have a finished run, and more seeds would hardly change that"
    )


def test_seeds_are_added_until_the_interval_is_narrow(plan: StudyPlan, tmp_path: Path) -> None:
    rule = StoppingRule(width=0.2, budget_minutes=None, max_seeds=5)
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, pretended(tmp_path, WIDTHS))
    assert len(ended.seeds) == 4
    assert reason == "the widest interval has width 0.1, which is within 0.2"
    assert ended.looks == (2, 3, 4, 5), "the look that was spared is corrected for too"


def test_the_most_seeds_end_it(plan: StudyPlan, tmp_path: Path) -> None:
    rule = StoppingRule(width=0.2, budget_minutes=None, max_seeds=3)
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, pretended(tmp_path, WIDTHS))
    assert len(ended.seeds) == 3
    assert reason == "3 seeds are the maximum allowed"


def test_a_budget_ends_it_and_looks_at_no_metric(plan: StudyPlan, tmp_path: Path) -> None:
    rule = StoppingRule(width=None, budget_minutes=4.5, max_seeds=20)
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, pretended(tmp_path, [1.0] * 9))
    assert len(ended.seeds) == 4
    assert reason == (
        "4 minutes of training are spent, and another seed would take 1 more, which exceeds the budget of "
        "4.5"
    )
    assert ended.looks == ()


def test_a_budget_bounds_the_planned_seeds_too(plan: StudyPlan, tmp_path: Path) -> None:
    planned = dataclasses.replace(plan, seeds=(0, 1, 2, 3, 4))
    rule = StoppingRule(width=None, budget_minutes=3.5, max_seeds=20)
    ended, reason = run_with_rule(planned, StudyFolder(tmp_path), rule, pretended(tmp_path, WIDTHS))
    assert ended.seeds == (0, 1, 2)
    assert reason == (
        "3 minutes of training are spent, and another seed would take 1 more, which exceeds the budget of "
        "3.5; 2 planned seeds are left out"
    )
    assert not StudyFolder(tmp_path).results["status"].eq("missing").any(), (
        "what was spent has verdicts"
    )
    more = dataclasses.replace(rule, budget_minutes=4.5)
    ended, reason = run_with_rule(planned, StudyFolder(tmp_path), more, pretended(tmp_path, WIDTHS))
    assert ended.seeds == (0, 1, 2, 3)
    assert reason.endswith("; 1 planned seed is left out")


def test_a_budget_hides_no_run_that_has_begun(plan: StudyPlan, tmp_path: Path) -> None:
    run = pretended(tmp_path, WIDTHS)
    run(plan, (0,))
    last = Schedule(plan, StudyFolder(tmp_path)).runs()[-1]
    last.folder.claim(last.recipe, "content")
    rule = StoppingRule(width=None, budget_minutes=1.5, max_seeds=20)
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, run)
    assert ended.seeds == (0, 1)
    assert reason.endswith(
        "which exceeds the budget of 1.5; the seeds that have started need a larger budget"
    )


def test_where_every_run_has_failed_no_seed_is_added(plan: StudyPlan, tmp_path: Path) -> None:
    rule = StoppingRule(width=0.2, budget_minutes=None, max_seeds=5)
    run = pretended(tmp_path, WIDTHS, status="failed")
    ended, reason = run_with_rule(plan, StudyFolder(tmp_path), rule, run)
    assert ended.seeds == (0, 1)
    assert reason == "every run has failed, and more seeds would not change that"


def widest(study: Path) -> float:
    verdicts = pd.read_csv(study / "verdicts.csv").query("kind == 'factor'")
    return float((verdicts["high"] - verdicts["low"]).max())


@pytest.mark.trains
def test_a_study_adds_the_seed_that_makes_it_sure(
    unsure: Path,
    longer: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its looks are those of the one that was given a third seed by hand.

    The t interval of two seeds that differ by 0.4 is wider than that of three, even of one look,
    wherever from -1 to 1 the third one lies.
    """
    study, width = tmp_path / "factors", 1.01 * widest(longer)
    assert width < widest(unsure)
    shutil.copytree(unsure, study)
    words = ["study", str(recipe), "--out", str(study), "--stop-width", str(width)]
    capsys.readouterr()
    assert main([*words, "--max-seeds", "3"]) == 0
    assert (
        f"stopped at 3 seeds: the widest interval has width {widest(longer):.3g}, which is within"
        in capsys.readouterr().err
    )
    assert json.loads((study / "study.json").read_text())["analysis"]["looks"] == [2, 3]
    pd.testing.assert_frame_equal(
        pd.read_csv(study / "verdicts.csv"), pd.read_csv(longer / "verdicts.csv")
    )


def test_one_variant_has_no_interval_to_narrow(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one.toml"
    one.write_text(
        small_recipe.read_text().replace('[[study.variants]]\nmodel.down = "strided"\n', "")
    )
    words = ["study", str(one), "--out", str(tmp_path / "s"), "--seeds", "2"]
    assert said([*words, "--stop-width", "0.1"], capsys) == (
        2,
        "isthmus: --stop-width needs two or more variants to compare, and this study has one; add a "
        "variant, or use --budget-minutes",
    )


def test_a_rule_that_cannot_start_gets_its_sentence(
    recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["study", str(recipe), "--out", str(tmp_path / "s"), "--stop-width", "0.1"]
    assert said([*words, "--seeds", "1"], capsys) == (
        2,
        "isthmus: --stop-width needs two or more seeds to start from, because one seed has no interval; "
        "give --seeds 2 or more",
    )
    for rule in ("--stop-width", "--budget-minutes"):
        words = ["study", str(recipe), "--out", str(tmp_path / "s"), rule, "1", "--seeds", "5"]
        assert said([*words, "--max-seeds", "3"], capsys) == (
            2,
            "isthmus: --max-seeds 3 is less than the 5 seeds that the study already has: no seed could be "
            "added; raise --max-seeds",
        )


def test_a_metric_that_the_task_has_not_is_rejected_before_training(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(recipe.read_text().replace("seeds = 2", 'seeds = 2\nmetrics = ["mean_uio"]'))
    status, sentence = said(["study", str(path), "--out", str(tmp_path / "s")], capsys)
    assert status == 2
    assert sentence == (
        "isthmus: study.metrics: this task has no metric 'mean_uio'; did you mean mean_iou?"
    )
    assert not (tmp_path / "s").exists()


@pytest.mark.trains
@pytest.mark.parametrize("was_seen", [False, True])
def test_a_budget_takes_no_look_but_does_not_forget_one(
    finished: Path, recipe: Path, tmp_path: Path, was_seen: bool
) -> None:
    study = tmp_path / "factors"
    shutil.copytree(finished, study)
    if not was_seen:
        for name in ("study.json", "results.csv", "verdicts.csv"):
            (study / name).unlink()
    words = ["study", str(recipe), "--out", str(study), "--max-seeds", "3"]
    assert main([*words, "--budget-minutes", "1000"]) == 0
    assert (pd.read_csv(study / "verdicts.csv")["n"] == 3).all()
    about = json.loads((study / "study.json").read_text())
    assert about["analysis"]["looks"] == ([2, 3] if was_seen else [3])
    assert about["looks_taken"] == about["analysis"]["looks"]
    assert about["variants_seen"] == about["variants"]


@pytest.mark.trains
def test_a_look_is_remembered_while_a_variant_is_to_come(
    finished: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "factors"
    shutil.copytree(finished, study)
    results = pd.read_csv(study / "results.csv")
    results.loc[0, "status"] = "missing"
    results.to_csv(study / "results.csv", index=False)
    wider = tmp_path / "wider.toml"
    wider.write_text(recipe.read_text().replace("mean_iou = 0.3", "mean_iou = 0.5"))
    status, sentence = said(["study", str(wider), "--out", str(study)], capsys)
    assert (status, "has verdicts, with different values of study.margins" in sentence) == (2, True)


@pytest.mark.trains
def test_what_is_asked_is_settled_before_the_answer_is_seen(
    finished: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = tmp_path / "wider.toml"
    wider.write_text(recipe.read_text().replace("mean_iou = 0.3", "mean_iou = 0.5"))
    assert said(["study", str(wider), "--out", str(finished)], capsys) == (
        2,
        f"isthmus: {finished} already has verdicts, with different values of study.margins: these must be "
        "chosen before verdicts are seen; restore them, or choose another folder with --out",
    )


@pytest.mark.trains
def test_runs_on_other_images_are_not_added(
    finished: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "factors"
    shutil.copytree(finished, study)
    begun = study / "runs" / "strided_dice" / "seed-0" / "environment.json"
    begun.write_text(begun.read_text().replace('"content": "', '"content": "other'))
    assert said(["study", str(recipe), "--out", str(study), "--seeds", "3"], capsys) == (
        2,
        f"isthmus: {study}: the images have changed since its runs finished: all runs of a study must have "
        "the same test set; restore the data, or choose another folder with --out",
    )


def assert_tells(text: str, title: str, difference: float) -> None:
    """The difference stands there rounded, with as many decimals as its interval needs."""
    number = r"[+-]\d+\.(\d+)"
    condition = re.search(rf"{title}: A - B ({number}) \[{number}, {number}\], ", text)
    assert condition, text
    rounded, *decimals = condition.groups()
    assert len({len(of) for of in decimals}) == 1
    assert len(decimals[0]) >= (3 if abs(difference) < 9.999 else 2)
    assert float(rounded) == pytest.approx(difference, abs=0.51 * 0.1 ** len(decimals[0]))


@pytest.mark.trains
def test_two_runs_are_compared_by_image(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (finished / "runs" / name / "seed-0" for name in ("max-pool_dice", "strided_dice"))
    status, text = said(["compare", str(a), str(b)], capsys)
    assert status == 0
    label_scheme = json.loads((a / "result.json").read_text())["label_scheme"]
    assert f"\nscored on: {label_scheme}\ndiffer in: model.down\n" in text
    assert "mean IoU: A - B " in text
    assert text.endswith("between these two trained networks, not between their recipes.")
    with np.load(a / "scores.npz") as of_a, np.load(b / "scores.npz") as of_b:
        difference = (of_a["mean_iou"] - of_b["mean_iou"]).mean()
    assert_tells(text, "mean IoU", difference)
    assert ", 4 images." in text


@pytest.mark.trains
def test_two_studies_are_compared_by_seed(
    finished: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = tmp_path / "longer"
    words = ["study", str(recipe), "--out", str(longer), "--train.epochs", "5"]
    assert main(words) == 0
    status, text = said(["compare", str(longer), str(finished)], capsys)
    assert status == 0
    assert "differ in: train.epochs" in text
    assert text.count("max-pool_dice") == 2
    assert text.count(", 2 seeds") == 4


def other_scheme(finished: Path, folder: Path, change: dict[str, object]) -> Path:
    """The same study as if it had been run with some other settings."""
    shutil.copytree(finished, folder)
    for path in folder.glob("runs/*/*/recipe.toml"):
        recipe = with_settings(load_recipe(path.read_text()), change)
        path.write_text(recipe_as_toml(recipe))
    plan = load_plan(folder / "study.toml")
    plan = dataclasses.replace(plan, recipe=with_settings(plan.recipe, change))
    (folder / "study.toml").write_text(plan_as_toml(plan))
    return folder


@pytest.mark.trains
@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        (
            "data.size_px",
            64,
            "they were not evaluated on the same images and labels; train both on the same data",
        ),
        (
            "data.validation",
            0.4,
            "the test images are the same, but the other images were split differently into training and "
            "validation images; train both with the same fraction",
        ),
    ],
)
def test_what_does_not_compare_is_rejected_by_its_field(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    value: object,
    why: str,
) -> None:
    other = other_scheme(finished, tmp_path / "other", {setting: value})
    run = Path("runs/strided_dice/seed-0")
    for a, b in ((finished, other), (finished / run, other / run)):
        assert said(["compare", str(a), str(b)], capsys) == (
            2,
            f"isthmus: {a} and {b} differ in {setting}: {why}",
        )


@pytest.mark.trains
def test_metrics_that_are_asked_for_by_name_are_those_of_their_task(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "named"
    shutil.copytree(finished, named)
    for metrics, status in ((("mean_iou",), 0), (("mean_dice",), 2)):
        plan = dataclasses.replace(load_plan(named / "study.toml"), metrics=metrics, margins={})
        (named / "study.toml").write_text(plan_as_toml(plan))
        plain = tmp_path / f"plain{status}"
        shutil.copytree(finished, plain)
        plan = dataclasses.replace(load_plan(plain / "study.toml"), margins={})
        (plain / "study.toml").write_text(plan_as_toml(plan))
        ended, text = said(["compare", str(plain), str(named)], capsys)
        assert (ended, "differ in study.metrics" in text) == (status, status == 2)


@pytest.mark.trains
def test_a_failed_run_is_no_evidence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = finished / "runs" / "strided_dice" / "seed-0", tmp_path / "bad"
    shutil.copytree(good, bad)
    result = json.loads((bad / "result.json").read_text())
    (bad / "result.json").write_text(
        json.dumps(result | {"status": "failed", "reason": "collapsed"})
    )
    assert said(["compare", str(good), str(bad)], capsys) == (
        2,
        f"isthmus: {bad}: this run has failed (collapsed), so its metrics do not count; name a run that "
        "has not failed",
    )
    (bad / "result.json").write_text(json.dumps(result | {"content": "another"}))
    assert said(["compare", str(good), str(bad)], capsys)[1].endswith(
        "were evaluated on different images, so their metrics are not comparable; run one of them again "
        "with the images of the other"
    )


@pytest.mark.trains
def test_compare_needs_two_of_a_kind(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished / "runs" / "strided_dice" / "seed-0"
    assert said(["compare", str(finished), str(run)], capsys) == (
        2,
        f"isthmus: {finished} and {run}: one is a run and the other is not; name two runs or two "
        "studies",
    )
    assert said(["compare", str(finished), "nowhere"], capsys) == (
        2,
        "isthmus: nowhere: neither a finished run nor a study with results; name the folder of one "
        "of these",
    )
    assert said(["compare", str(run)], capsys)[0] == 2
