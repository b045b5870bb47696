"""Studies that are not of segmentation, trained small: learning curves, and verdicts on VAEs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.cli.main import main
from isthmus.recipe import recipe_as_toml, with_settings
from isthmus.tasks import load_recipe, task_of
from test_verdict_commands import assert_tells, said

SIZES = """
task = "classify"

[study]
name = "sizes"
seeds = 2
[study.factors]
data.limit = [48, 96, 144]

[data]
name = "classes"
folder = "{strokes}"
size_px = 16

[model]
width = 8

[train]
epochs = 8
batch = 8
precision = "float32"
"""


@pytest.mark.trains
def test_a_study_of_several_sizes_ends_with_its_learning_curve(
    strokes: Path, tmp_path: Path
) -> None:
    recipe, study = tmp_path / "sizes.toml", tmp_path / "study"
    recipe.write_text(SIZES.format(strokes=strokes), encoding="utf-8")
    assert main(["study", str(recipe), "--out", str(study)]) == 0
    curve = pd.read_csv(study / "learning_curve.csv")
    assert curve["images"].tolist() == [48, 96, 144, 344]
    assert curve["source"].tolist() == ["measured"] * 3 + ["predicted"]
    results = pd.read_csv(study / "results.csv")
    means = results.groupby("labelled_images")["accuracy"].mean()
    np.testing.assert_allclose(curve["mean"][:3], means)
    sentence = curve["sentence"].iloc[-1]
    assert sentence.startswith("200 more labelled images (144 to 344) would change ")
    assert sentence.endswith(", if the law holds beyond the data; 2 seeds.")


@pytest.mark.trains
def test_a_study_of_vaes_has_verdicts_and_its_runs_compare(
    stroke_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    words = ["study", str(stroke_recipe), "--out", str(study), "--seeds", "2"]
    assert main([*words, "--train.epochs", "8", "--measure.judge-epochs", "4"]) == 0
    line = r"told, seed 1: finished, Swap success, encoded true \d\.\d{3} \(judge accuracy \d\.\d{3}\)\n"
    assert re.search(line, capsys.readouterr().err)
    verdicts = pd.read_csv(study / "verdicts.csv")
    assert set(verdicts["metric"]) == {"swap_encoded_true", "nll_nats"}
    assert (verdicts["n"] == 2).all()
    results = pd.read_csv(study / "results.csv").set_index(["variant", "seed"])
    for metric, of in verdicts[verdicts["kind"] == "pair"].set_index("metric").iterrows():
        difference = (results.loc[of["a"], metric] - results.loc[of["b"], metric]).mean()
        assert of["difference"] == pytest.approx(difference)

    condition, again = (study / "runs" / "told" / f"seed-{seed}" for seed in (0, 1))
    untold = study / "runs" / "not_told" / "seed-0"
    status, text = said(["compare", str(condition), str(untold)], capsys)
    assert status == 0
    assert "different seeds" not in text
    judge = results.loc[("told", 0), "judge_accuracy"]
    assert re.search(rf"\nscored on: .+; judge \S+, accuracy {judge:.3f}\n", text)
    with np.load(condition / "scores.npz") as a, np.load(untold / "scores.npz") as b:
        difference = (a["elbo_nats"].astype(float) - b["elbo_nats"]).mean()
    assert_tells(text, r"ELBO \(nats\)", difference)
    status, text = said(["compare", str(condition), str(again)], capsys)
    assert status == 0
    assert (
        "The runs have different seeds, so they also differ in initial weights, validation images, wrong "
        "labels, binarisations of the test images and the order of training images." in text
    )

    other = tmp_path / "other"
    shutil.copytree(condition, other)
    recipe = load_recipe((other / "recipe.toml").read_text())
    changed = with_settings(recipe, {"measure.nll_images": 6})
    (other / "recipe.toml").write_text(recipe_as_toml(changed))
    assert said(["compare", str(condition), str(other)], capsys) == (
        2,
        f"isthmus: {condition} and {other} differ in measure.nll_images: their metrics were measured "
        "differently; run one of them again with the settings of the other",
    )


def test_seeds_of_a_split_without_validation_part_differ_in_none() -> None:
    recipe = load_recipe(
        'task = "segment"\n[data]\nname = "oxford-pets"\nsplit = "reference"\n[train]\nkeep = "last"'
    )
    drawn = task_of(recipe).drawn_by_seed(recipe)
    assert drawn == ("initial weights", "the order of training images")
