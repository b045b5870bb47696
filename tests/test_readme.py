"""What the README and the documentation show works as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import moved
from isthmus.cli import COMMANDS, main
from isthmus.recipe import load_plan

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str = "") -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in found if holding in text)


def test_the_study_it_shows_is_one(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(block("toml", "[study]"), encoding="utf-8")
    plan = load_plan(path)
    assert len(plan.variants) == 6
    assert list(plan.nuisance) == ["train.lr"]


@pytest.mark.trains
def test_own_pictures_train_with_a_recipe_of_under_15_lines(discs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(block("toml", "my-pictures"), encoding="utf-8")
    assert len(block("toml", "my-pictures").splitlines()) < 15
    shutil.copytree(discs, tmp_path / "my-pictures")
    study = tmp_path / "study"
    faster = [
        "--data.size-px",
        "32",
        "--train.epochs",
        "6",
        "--train.batch",
        "2",
        "--model.width",
        "8",
    ]
    assert main(["study", str(recipe), "--out", str(study), *faster]) == 0
    results = pd.read_csv(study / "results.csv")
    assert set(results["variant"]) == {"max-pool", "strided"}
    assert {"iou_background", "iou_leaf"} <= set(results.columns)


@pytest.mark.trains
def test_own_classes_train_and_draw(tmp_path: Path) -> None:
    """Three colours of picture, with the body and the prior that no recipe of ours has.

    The judge is right of all after 10 epochs, and may say one label after 4 (15 runs each).
    """
    recipe, study = tmp_path / "classes.toml", tmp_path / "study"
    recipe.write_text(block("toml", "my-classes"), encoding="utf-8")
    rng = np.random.default_rng(moved(0))
    for channel, name in enumerate(("rose", "leaf", "sky")):
        folder = tmp_path / "my-classes" / name
        folder.mkdir(parents=True)
        for number in range(20):
            picture = rng.integers(0, 80, (70, 68, 3), np.uint8)
            picture[..., channel] += 150
            Image.fromarray(picture).save(folder / f"{number}.png")
    model = "--model.body residual --model.prior per-label --model.width 2 --model.latent 4"
    budget = "--train.epochs 6 --train.batch 8 --measure.judge-width 4 --measure.judge-epochs 10"
    samples = "--measure.judge-batch 8 --measure.importance-samples 4 --measure.nll-pictures 6"
    words = ["study", str(recipe), "--out", str(study), *f"{model} {budget} {samples}".split()]
    assert main(words) == 0
    (run,) = study.glob("runs/*/seed-0")
    drawn = tmp_path / "drawn.png"
    assert main(["generate", str(run), "--labels", "rose,sky", "--out", str(drawn)]) == 0
    assert drawn.is_file()


def test_the_library_example_runs() -> None:
    names: dict[str, object] = {}
    exec(block("python"), names)
    assert tuple(names["logits"].shape) == (1, 2, 120, 90)  # type: ignore[attr-defined]
    assert 0 <= names["loss"].item() <= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`\n?isthmus (\w+)", README))))
def test_every_command_it_names_exists(name: str) -> None:
    assert name in COMMANDS


@pytest.mark.slow
def test_the_seam_of_bilinear_masks_is_as_wide_as_the_page_says(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference-study.md").read_text(encoding="utf-8")
    code, said = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    monkeypatch.setenv("ISTHMUS_DATA", str(data_root))
    exec(code, {})
    assert capsys.readouterr().out == said
