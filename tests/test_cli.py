"""The command line: its sentences, its exit statuses, and how fast it answers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.cli import COMMANDS, main

HEAVY = ("torch", "numpy", "pydantic", "tyro", "rich", "lightning", "matplotlib")


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(words)
    captured = capsys.readouterr()
    return status, captured.err.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main([command, "--help"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert "isthmus " + command in shown.out


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    code = (
        "import sys; from isthmus.cli import main; main(['--help']); "
        f"sys.exit(any(name in sys.modules for name in {HEAVY}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "a heavy module was imported for --help"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_every_recipe_field_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["study", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--model.width", "--data.size-px", "--train.lr", "--loss.gamma", "--seeds"):
        assert flag in shown
    assert "Channels of the first level" in shown, "a field's docstring is its help"
    assert "Folder of the study" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stduy"], "stduy: unknown command; did you mean study?"),
        (["study"], "study needs a recipe as its first word: isthmus study RECIPE.toml"),
        (
            ["study", "RECIPE", "--model.widht", "8"],
            "--model.widht: unknown flag; did you mean --model.width?",
        ),
        (
            ["study", "RECIPE", "--model.width", "7"],
            "model.width = 7: Input should be a multiple of 2",
        ),
        (
            ["study", "RECIPE", "--train.epochs", "ten"],
            "train.epochs = 'ten': Input should be a valid integer",
        ),
        (
            ["study", "RECIPE", "--out"],
            "--out: this flag needs a value; see isthmus study RECIPE --help",
        ),
        (
            ["study", "RECIPE", "more"],
            "more: this word belongs to no flag; see isthmus study RECIPE --help",
        ),
        (
            ["study", "RECIPE", "--seeds", "0"],
            "seeds = 0: Input should be greater than or equal to 1",
        ),
        (
            ["study", "RECIPE", "--model.down", "strided"],
            "--model.down: this study's variants set it, so the flag would do nothing; "
            "change it in the recipe",
        ),
        (
            ["study", "RECIPE", "--logger", "wandb"],
            "logger = 'wandb': Input should be 'none', 'tensorboard' or 'mlflow'; "
            "known: mlflow, none, tensorboard",
        ),
        (
            ["train", "RECIPE"],
            "this recipe has 2 variants and train takes one: name it with --variant "
            "(max-pool, strided), or use isthmus study",
        ),
        (
            ["train", "RECIPE", "--variant", "stride"],
            "--variant stride: unknown; did you mean strided?",
        ),
        (["report"], "report takes one word, the folder of a study: isthmus report studies/NAME"),
        (
            ["study", "recipes/six.toml", "--data-root", "nowhere"],
            "data root nowhere is not a folder: it must hold the data sets; "
            "name another with --data-root or ISTHMUS_DATA, or leave it out to download",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_request_gets_one_sentence_and_status_2(
    words: list[str], sentence: str, small_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [str(small_recipe) if word == "RECIPE" else word for word in words]
    assert said(filled, capsys) == (2, f"isthmus: {sentence}")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        *[
            (module, "train")
            for module in ("torch", "jaxtyping", "jinja2", "pyarrow", "statsmodels")
        ],
        ("skimage", "demo"),
        ("mlflow", "track"),
    ],
)
def test_a_missing_extra_is_named(
    module: str,
    extra: str,
    small_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(_words: object) -> int:
        raise ModuleNotFoundError(f"No module named '{module}.inner'", name=f"{module}.inner")

    monkeypatch.setitem(COMMANDS, "study", missing)
    status, sentence = said(["study", str(small_recipe)], capsys)
    assert status == 2
    assert (
        sentence
        == f"isthmus: study needs {module}.inner: install it with pip install 'isthmus[{extra}]'"
    )


def test_work_that_fails_is_status_1_and_debug_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_words: object) -> int:
        raise RuntimeError("the disk is full")

    monkeypatch.setitem(COMMANDS, "study", broken)
    assert said(["study"], capsys) == (
        1,
        "isthmus: study failed: the disk is full (--debug shows where)",
    )
    with pytest.raises(RuntimeError):
        main(["study", "--debug"])


@pytest.mark.trains
def test_a_dry_run_prints_the_runs_and_trains_nothing(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    words = ["study", str(small_recipe), "--out", str(study), "--seeds", "3", "--dry-run"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "2 variants x 3 seeds" in shown
    assert "strided" in shown
    assert "nothing was trained" in shown
    assert not study.exists()


@pytest.mark.trains
def test_a_flag_reaches_the_run_and_the_plan_that_is_written(
    small_recipe: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is relative to where the command is given, and is found again by the same command."""
    monkeypatch.chdir(discs.parent)
    study = tmp_path / "study"
    words = ["train", str(small_recipe), "--variant", "strided", "--out", str(study)]
    words += ["--train.epochs", "1", "--seed", "3", "--data.classes", "ground", "disc"]
    assert main([*words, "--data.folder", discs.name]) == main(
        [*words, "--data.folder", discs.name]
    )
    run = study / "runs" / "strided" / "seed-3"
    assert 'classes = [\n    "ground",\n    "disc",\n]' in (run / "recipe.toml").read_text()
    assert len((run / "metrics.csv").read_text().splitlines()) == 2


@pytest.mark.trains
@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_loggers_follow_a_run(logger: str, small_recipe: Path, tmp_path: Path) -> None:
    """In a process of its own: trackers leave threads and warnings behind."""
    study = tmp_path / "study"
    words = ["train", str(small_recipe), "--variant", "strided", "--out", str(study)]
    command = [
        sys.executable,
        "-m",
        "isthmus.cli",
        *words,
        "--logger",
        logger,
        "--train.epochs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (study / "runs" / "strided" / "seed-0" / "result.json").exists(), done.stderr
    made = [
        path.name
        for path in study.rglob("*")
        if "tfevents" in path.name or path.name == "mlflow.db"
    ]
    assert made
