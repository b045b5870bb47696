"""The command line: its sentences and what they advise, its exit statuses, what it imports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.cli import plans
from isthmus.cli.main import COMMANDS, main
from isthmus.data.folder import Folder
from isthmus.study.plan import StudyPlan

HEAVY = ("torch", "numpy", "pydantic", "tyro", "rich", "lightning_fabric", "matplotlib")


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(words)
    captured = capsys.readouterr()
    return status, captured.err.strip()


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[StudyPlan]:
    """The plans that study and train would run; nothing is run."""
    found: list[StudyPlan] = []
    for command in ("study", "train"):
        monkeypatch.setattr(
            f"isthmus.cli.{command}.run_plan", lambda plan, *_, **__: found.append(plan) or 0
        )
    return found


def test_every_command_is_a_file_and_nothing_else_is_one() -> None:
    files = {path.stem for path in Path(plans.__file__).parent.glob("*.py")}
    assert files == {*COMMANDS, "__init__", "main", "flags", "plans"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main([command, "--help"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert "isthmus " + command in shown.out


def test_help_imports_nothing_heavy_and_names_every_command() -> None:
    code = (
        "import sys; from isthmus.cli.main import main; main(['--help']); "
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


RECIPE_IS_MISSING = "study needs a recipe as its first argument: isthmus study RECIPE.toml"
SEE_HELP = "see isthmus study RECIPE --help"


@pytest.mark.parametrize(
    ("words", "sentence", "mended"),
    [
        ("stduy RECIPE", "stduy: unknown command; did you mean study?", "study RECIPE"),
        ("study", RECIPE_IS_MISSING, "study RECIPE"),
        ("study --seeds 2 RECIPE", RECIPE_IS_MISSING, "study RECIPE --seeds 2"),
        (
            "study RECIPE --model.widht 8",
            "--model.widht: unknown flag; did you mean --model.width?",
            "study RECIPE --model.width 8",
        ),
        (
            "study RECIPE --model.width 7",
            "model.width = 7: Input should be a multiple of 2",
            "study RECIPE --model.width 6",
        ),
        (
            "study RECIPE --train.epochs ten",
            "train.epochs = 'ten': Input should be a valid integer",
            "study RECIPE --train.epochs 10",
        ),
        (
            "study RECIPE --data.limit few",
            "data.limit = 'few': Input should be a valid integer",
            "study RECIPE --data.limit 12",
        ),
        (
            "study RECIPE --data.mask_values 0 one",
            "data.mask_values.1 = 'one': Input should be a valid integer",
            "study RECIPE --data.mask_values 0 1",
        ),
        (
            "study RECIPE --out",
            f"--out: this flag needs a value; {SEE_HELP}",
            "study RECIPE --out a",
        ),
        (
            "study RECIPE more",
            f"more: this argument belongs to no flag; {SEE_HELP}",
            "study RECIPE",
        ),
        (
            "study RECIPE --seeds 0",
            "seeds = 0: Input should be greater than or equal to 1",
            "study RECIPE --seeds 1",
        ),
        (
            "study RECIPE --loss.gamma 3",
            "loss.gamma does nothing for ce+dice: only focal can use it; remove the key",
            "study RECIPE",
        ),
        (
            "study RECIPE --logger wandb",
            "logger = 'wandb': Input should be 'none', 'tensorboard' or 'mlflow'; "
            "known: mlflow, none, tensorboard",
            "study RECIPE --logger none",
        ),
        (
            "train RECIPE",
            "this recipe has 2 variants, and train trains only one: name it with --variant "
            "(max-pool, strided), or use isthmus study",
            "train RECIPE --variant max-pool",
        ),
        (
            "train RECIPE --variant stride",
            "--variant stride: unknown; did you mean strided?",
            "train RECIPE --variant strided",
        ),
    ],
)
def test_a_bad_request_gets_one_sentence_and_what_it_advises_works(
    words: str,
    sentence: str,
    mended: str,
    small_recipe: Path,
    planned: list[StudyPlan],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad, good = (line.replace("RECIPE", str(small_recipe)).split() for line in (words, mended))
    if "RECIPE.toml" not in sentence:
        sentence = sentence.replace(str(small_recipe), "RECIPE")
    assert said(bad, capsys) == (2, f"isthmus: {sentence}")
    assert said(good, capsys) == (0, "")
    assert len(planned) == 1
    if SEE_HELP in sentence:
        with pytest.raises(SystemExit) as end:
            main(["study", str(small_recipe), "--help"])
        assert end.value.code == 0


def test_what_variants_set_is_no_flag_but_can_be_changed_in_the_recipe(
    small_recipe: Path, planned: list[StudyPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(["study", str(small_recipe), "--model.down", "average-pool"], capsys) == (
        2,
        "isthmus: --model.down: the variants of this study set this field, so the flag would have no "
        "effect; change it in the recipe",
    )
    text = small_recipe.read_text(encoding="utf-8").replace("strided", "average-pool")
    small_recipe.write_text(text, encoding="utf-8")
    assert main(["study", str(small_recipe)]) == 0
    assert [variant.name for variant in planned[0].variants] == ["max-pool", "average-pool"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["report"], "report needs the folder of a study: isthmus report studies/NAME"),
        (["compare", "A"], "compare takes two runs or two studies: isthmus compare A B"),
    ],
)
def test_a_command_without_its_folders_says_which_it_takes(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With them, it goes on to look into them, as other tests do."""
    assert said(words, capsys) == (2, f"isthmus: {sentence}")


def test_a_data_root_that_is_none_is_rejected_and_a_folder_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "recipes/six.toml", "--out", str(tmp_path / "study"), "--data-root"]
    status, sentence = said([*words, "nowhere"], capsys)
    assert (status, sentence.splitlines()[-1]) == (
        2,
        "isthmus: data root nowhere is not a folder: it must be a folder with the data sets; name another "
        "folder with --data-root or ISTHMUS_DATA, or set neither to download data sets",
    )
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path))
    for given in ([*words, str(tmp_path)], words[:-1]):
        status, sentence = said(given, capsys)
        assert status == 2, "the data set is not there"
        assert str(tmp_path) in sentence.splitlines()[-1]


KEYWORDS = ("none", "None", "true", "nan", "1e3", "null")


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_variant_named_like_a_keyword_can_be_trained(
    name: str, tmp_path: Path, planned: list[StudyPlan]
) -> None:
    recipe = tmp_path / "recipe.toml"
    tables = (f'[[study.variants]]\nname = "{of}"\nloss.name = "ce"\n' for of in (name, "other"))
    recipe.write_text("\n".join(tables), encoding="utf-8")
    assert main(["train", str(recipe), "--variant", name]) == 0
    assert [variant.name for variant in planned[0].variants] == [name]


def test_words_named_like_a_keyword_stay_words(
    small_recipe: Path, planned: list[StudyPlan]
) -> None:
    assert main(["study", str(small_recipe), "--data.classes", *KEYWORDS]) == 0
    assert planned[0].recipe.data.classes == KEYWORDS


def test_the_shipped_variant_named_none_can_be_trained(planned: list[StudyPlan]) -> None:
    assert main(["train", "recipes/penalties.toml", "--variant", "none"]) == 0
    assert [variant.name for variant in planned[0].variants] == ["none"]


@pytest.mark.parametrize(("word", "value"), [("none", None), ("None", None), ("false", False)])
def test_a_field_can_be_set_to_what_toml_and_the_help_call_it(
    word: str, value: object, tmp_path: Path, planned: list[StudyPlan]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[loss]\nsoftmax = true\n", encoding="utf-8")
    assert main(["study", str(recipe), "--loss.softmax", word]) == 0
    assert planned[0].recipe.loss.softmax is value


def test_a_recipe_with_a_byte_order_mark_is_read(
    small_recipe: Path, planned: list[StudyPlan]
) -> None:
    small_recipe.write_text(small_recipe.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert small_recipe.read_bytes().startswith(b"\xef\xbb\xbf")
    assert main(["study", str(small_recipe)]) == 0
    assert len(planned) == 1


@pytest.mark.parametrize(
    ("shown", "settings", "sentence", "mended"),
    [
        (
            [0, 7, 26],
            {},
            "PATH: has the value 7: class indices run from 0 to 2 without a gap, and 255 is ignored, "
            "but the masks have 0, 7, 26; set data.mask_values = [0, 7, 26]",
            {"mask_values": [0, 7, 26]},
        ),
        (
            [0, 7, 26],
            {"classes": ["a", "b"]},
            "PATH: has the value 7: class indices run from 0 to 1 without a gap, and 255 is ignored, "
            "but the masks have 0, 7, 26; set data.mask_values = [0, 7, 26] and name 3 classes",
            {"mask_values": [0, 7, 26], "classes": ["a", "b", "c"]},
        ),
        (
            [0, 7, 26],
            {"mask_values": [0, 7], "classes": ["a", "b"]},
            "PATH: has the value 26: data.mask_values allows only 0, 7; add the value and its class "
            "there, or correct the mask",
            {"mask_values": [0, 7, 26], "classes": ["a", "b", "c"]},
        ),
        (
            [0, 7],
            {"mask_values": [7]},
            "data.mask_values has 1 entries: there must be 2 to 255 classes; list them all, including "
            "the background",
            {"mask_values": [0, 7]},
        ),
        (
            [0, 7],
            {"mask_values": [0, 7, 7]},
            "data.mask_values has 7 twice: each entry must be unique; remove one",
            {"mask_values": [0, 7]},
        ),
        (
            [0, 7, 26],
            {"mask_values": [0, 7, 26], "classes": ["a", "b"]},
            "data.classes has 2 entries but data.mask_values has 3: each class has one mask value; make "
            "the two lists equally long",
            {"mask_values": [0, 7, 26], "classes": ["a", "b", "c"]},
        ),
    ],
)
def test_what_is_advised_of_mask_values_works_as_key_and_as_flag(
    shown: list[int],
    settings: dict[str, list[object]],
    sentence: str,
    mended: dict[str, list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(5):
        mask = np.resize(np.array(shown, np.uint8), (8, 8))
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "images" / f"{number}.png")
    schemes: list[str] = []

    def open_folder(plan: StudyPlan, *_: object, **__: object) -> int:
        data = plan.recipe.data
        folder = Folder(data.folder, data.classes, data.mask_values, data.test)
        schemes.append(folder.label_scheme)
        return 0

    monkeypatch.setattr("isthmus.cli.study.run_plan", open_folder)
    recipe = tmp_path / "recipe.toml"

    def with_keys(keys: dict[str, list[object]]) -> list[str]:
        lines = [f"{key} = {value}" for key, value in keys.items()]
        text = "\n".join(['[data]\nname = "folder"\nfolder = "."', *lines])
        recipe.write_text(text, encoding="utf-8")
        return ["study", str(recipe)]

    expected = f"isthmus: {sentence}".replace("PATH", str(tmp_path / "masks" / "0.png"))
    assert said(with_keys(settings), capsys) == (2, expected)
    assert said(with_keys(mended), capsys) == (0, "")
    flags = [word for key, of in mended.items() for word in (f"--data.{key}", *map(str, of))]
    assert said([*with_keys({}), *flags], capsys) == (0, "")
    assert schemes[0] == schemes[1]
    assert [f"{value}=" in schemes[0] for value in shown] == [True] * len(shown)


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

    monkeypatch.setattr("isthmus.cli.study.study", missing)
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

    monkeypatch.setattr("isthmus.cli.study.study", broken)
    assert said(["study"], capsys) == (
        1,
        "isthmus: study failed: the disk is full (--debug prints the traceback)",
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
        "isthmus.cli.main",
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
