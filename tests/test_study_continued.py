"""Studies that go on: with other seeds and variants, other code, and files of another version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import tuning_result
from isthmus.cli.main import main
from isthmus.data import store as stores
from isthmus.engine.device import CPU, environment
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import task_of
from isthmus.study.plan import load_plan
from isthmus.study.schedule import Schedule
from isthmus.study.study_folder import StudyFolder, read_study

CODE = "isthmus.engine.device._code_hash"


@pytest.fixture
def words(small_recipe: Path, tmp_path: Path) -> list[str]:
    return [str(small_recipe), "--out", str(tmp_path / "study"), "--device", "cpu"]


def study_of(words: list[str], *more: str) -> list[str]:
    return ["study", *words, "--jobs", "1", *more]


def runs_in(study: Path) -> set[tuple[str, int]]:
    table = pd.read_csv(study / "results.csv")
    return set(zip(table["variant"], table["seed"], strict=True))


def tables_of(study: Path) -> dict[str, bytes]:
    names = ("verdicts.csv", "results.csv", "ranks.csv", "variance.csv", "per_image.parquet")
    return {name: (study / name).read_bytes() for name in names}


def advice(said: str) -> list[str]:
    """The flags of the command that a sentence names at its end."""
    (line,) = [line for line in said.splitlines() if "to include it, run isthmus study" in line]
    command, *flags = line.split("to include it, run isthmus study ")[1].split()
    assert command == "RECIPE"
    return flags


@pytest.mark.usefixtures("no_training")
def test_a_seed_that_a_finished_study_lacks_is_trained_beside_it(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    assert main(study_of(words, "--seeds", "3")) == 0
    before = tables_of(study)
    capsys.readouterr()
    train = ["train", *words, "--variant", "strided", "--seed", "9"]
    assert main(train) == 0
    said = capsys.readouterr().err
    assert (
        f"strided, seed 9 was trained, but is not part of the study in {study}, whose tables have not "
        "changed; to include it, run isthmus study RECIPE --seeds 10\n"
    ) in said
    assert tables_of(study) == before
    assert load_plan(study / "study.toml").seeds == (0, 1, 2)
    run = StudyFolder(study).run("strided", 9)
    assert run.is_finished
    at = run.result_file.stat().st_mtime_ns
    assert main(train) == 0
    assert "to include it, run isthmus study RECIPE --seeds 10" in capsys.readouterr().err
    assert tables_of(study) == before

    assert main(study_of(words, *advice(said))) == 0
    assert run.result_file.stat().st_mtime_ns == at, "it is not trained twice"
    assert runs_in(study) == {(v, seed) for v in ("strided", "max-pool") for seed in range(10)}
    assert (pd.read_csv(study / "verdicts.csv")["n"] == 10).all()


@pytest.mark.usefixtures("no_training")
def test_a_variant_that_a_finished_study_lacks_is_trained_beside_it(
    words: list[str],
    small_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = tmp_path / "study"
    assert main(study_of(words, "--seeds", "2")) == 0
    before = tables_of(study)
    text = small_recipe.read_text(encoding="utf-8")
    new = '[[study.variants]]\nname = "wide"\nmodel.down = "strided"\nmodel.width = 12\n\n[data]'
    small_recipe.write_text(text.replace("[data]", new), encoding="utf-8")
    capsys.readouterr()
    assert main(["train", *words, "--variant", "wide", "--seed", "1"]) == 0
    said = capsys.readouterr().err
    assert (
        f"wide, seed 1 was trained, but is not part of the study in {study}, whose tables have not "
        "changed; to include it, run isthmus study RECIPE\n"
    ) in said
    assert tables_of(study) == before
    names = [variant.name for variant in load_plan(study / "study.toml").variants]
    assert names == ["max-pool", "strided"]
    assert StudyFolder(study).run("wide", 1).is_finished
    assert main(study_of(words, "--seeds", "2", *advice(said))) == 0
    assert runs_in(study) == {
        (v, seed) for v in ("strided", "max-pool", "wide") for seed in range(2)
    }


@pytest.mark.trains  # a few steps are timed
@pytest.mark.usefixtures("no_training")
def test_a_variant_beside_a_study_is_tuned_as_the_study_tunes(
    words: list[str],
    small_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the study could not take it in: its recipe would be another."""

    def tune_run(recipe, seed, folder, **_):
        content = task_of(recipe).open_store(recipe.data).content
        folder.claim(recipe, content)
        folder.write_environment(environment(CPU, content, {}, {}))
        result = tuning_result(value=recipe.train.lr, seed=seed)
        folder.finish(result)
        return result

    monkeypatch.setattr("isthmus.engine.train.tune_run", tune_run)
    text = small_recipe.read_text(encoding="utf-8")
    text = "[study]\ntune.train.lr = [1e-3, 2e-3]\n" + text
    small_recipe.write_text(text, encoding="utf-8")
    assert main(study_of(words, "--seeds", "2")) == 0
    new = '[[study.variants]]\nname = "wide"\nmodel.down = "strided"\nmodel.width = 12\n\n[data]'
    small_recipe.write_text(text.replace("[data]", new), encoding="utf-8")
    assert main(["train", *words, "--variant", "wide", "--seed", "1"]) == 0
    run = StudyFolder(tmp_path / "study").run("wide", 1)
    assert "lr = 0.002" in run.recipe.read_text(encoding="utf-8")
    assert main(study_of(words, "--seeds", "2")) == 0
    assert ("wide", 1) in runs_in(tmp_path / "study")


# Other code


@pytest.mark.trains
def test_a_run_that_other_code_goes_on_with_is_warned_of(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second epoch; then the code changes."""
    study = tmp_path / "study"

    def interrupted(bars: object, name: str, done: int, of: int, words: str) -> None:
        if name == "max-pool, seed 0" and done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(CODE, lambda: "aaaaaaaaaaaa")
    with monkeypatch.context() as cut:
        cut.setattr("isthmus.study.progress.StudyProgress.show", interrupted)
        assert main(study_of(words)) == 1
    run = StudyFolder(study).run("max-pool", 0)
    assert len(run.epochs()) == 1
    assert not run.is_finished
    monkeypatch.setattr(CODE, lambda: "bbbbbbbbbbbb")
    assert main(study_of(words)) == 0
    codes = {
        name: (of.code, of.earlier_code)
        for name in ("max-pool", "strided")
        if (of := StudyFolder(study).run(name, 0).begun_with())
    }
    assert codes == {
        "max-pool": ("bbbbbbbbbbbb", ("aaaaaaaaaaaa",)),
        "strided": ("bbbbbbbbbbbb", ()),
    }
    record = read_study(study).record
    assert record.mixed == ("code",)
    (text,) = (of.text for of in record.warnings if "same environment" in of.text)
    assert "they differ in code" in text
    assert text in (study / "report.html").read_text(encoding="utf-8")


def test_code_that_has_trained_no_whole_epoch_is_not_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_environment(environment(CPU, "", {}, {}).model_copy(update={"code": "aaaaaaaaaaaa"}))
    run.write_environment(environment(CPU, "", {}, {}).model_copy(update={"code": "bbbbbbbbbbbb"}))
    begun = run.begun_with()
    assert begun
    assert (begun.code, begun.earlier_code) == ("bbbbbbbbbbbb", ())


@pytest.mark.usefixtures("no_training")
def test_tuning_by_other_code_is_warned_of(
    words: list[str],
    small_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chosen setting hangs on it."""
    study = tmp_path / "study"
    text = "[study]\ntune.train.lr = [1e-3, 2e-3]\n" + small_recipe.read_text(encoding="utf-8")
    small_recipe.write_text(text, encoding="utf-8")
    plan = load_plan(small_recipe)
    content = task_of(plan.recipe).open_store(plan.recipe.data).content
    monkeypatch.setattr(CODE, lambda: "aaaaaaaaaaaa")
    for run in Schedule(plan, StudyFolder(study)).tuning_runs():
        run.folder.claim(run.recipe, content)
        run.folder.write_environment(environment(CPU, content, {}, {}))
        run.folder.finish(tuning_result())
    assert main(study_of(words)) == 0
    assert read_study(study).record.mixed == (), "all by the same code"
    shutil.rmtree(study / "runs")
    monkeypatch.setattr(CODE, lambda: "bbbbbbbbbbbb")
    assert main(study_of(words)) == 0
    assert read_study(study).record.mixed == ("code",)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "they differ in code" in page


# Files of another version


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("command", "name", "added"),
    [
        ("study", "result.json", "compiled"),
        ("study", "environment.json", "device"),
        ("compare", "result.json", "compiled"),
    ],
)
def test_a_record_of_another_version_says_what_to_do(
    command: str,
    name: str,
    added: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A field less and a field more, as an older and a newer version write it."""
    study = tmp_path / "study"
    assert main(study_of(words)) == 0
    run, other = (StudyFolder(study).run(variant, 0) for variant in ("strided", "max-pool"))
    said = (
        f"isthmus: {run.path / name}: cannot be read: it is damaged, or another version of isthmus has "
        f"written it; delete {run.path} to train the run again, or use that version\n"
    )
    asked = study_of(words) if command == "study" else ["compare", str(run.path), str(other.path)]
    known = json.loads((run.path / name).read_text(encoding="utf-8"))
    older = {key: value for key, value in known.items() if key != added}
    for content in (older, known | {"colour": "blue"}):
        (run.path / name).write_text(json.dumps(content), encoding="utf-8")
        capsys.readouterr()
        assert main(asked) == 2
        assert capsys.readouterr().err.endswith(said)
    shutil.rmtree(run.path)
    assert main(study_of(words)) == 0
    assert main(asked) == 0


def test_a_store_of_another_format_in_the_cache_is_left_alone(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    recipe = load_plan(small_recipe).recipe
    with monkeypatch.context() as older:
        older.setattr(stores, "_FORMAT_VERSION", 2)
        task_of(recipe).open_store(recipe.data)
    (old,) = (tmp_path / "cache" / "stores").iterdir()
    for file in old.iterdir():
        file.write_bytes(b"of another format")
    store = task_of(recipe).open_store(recipe.data)
    assert np.asarray(store.images).shape == (20, 32, 32, 3)
    assert {file.read_bytes() for file in old.iterdir()} == {b"of another format"}
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 2
