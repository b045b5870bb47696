"""Parts that recipes name: isthmus's own, those of installed packages, and trusted ones."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest

from conftest import error_of
from isthmus.cli.main import main
from isthmus.data.datasets import labelled_set_of
from isthmus.data.labelled_sets import SETS
from isthmus.data.store import Item, _labels, _mask_of
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.run_result import Environment
from isthmus.recipe import LabelledData, settings_of
from isthmus.recipe.registry import (
    DOWN,
    LABELLED_DATASET,
    LIKELIHOOD,
    LOSS,
    MASKED_DATASET,
    UP,
    Registry,
    parts_from_outside,
)
from isthmus.study.plan import load_plan
from isthmus.study.publish import _mixed
from isthmus.study.study_folder import StudyFolder
from isthmus.tasks import recipe_from
from isthmus.tasks.generate.recipe import Objective
from isthmus.tasks.segment.recipe import Data, Loss, Model

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))

FIELDS = [
    (DOWN, Model, "down", "max-pool strided average-pool blur-pool"),
    (UP, Model, "up", "transposed bilinear nearest pixel-shuffle"),
    (LOSS, Loss, "name", "bce ce dice focal tversky"),
    (MASKED_DATASET, Data, "name", "demo-scenes folder oxford-pets"),
    (
        LABELLED_DATASET,
        LabelledData,
        "name",
        "mnist fashion-mnist kmnist cifar10 classes demo-digits",
    ),
    (
        LIKELIHOOD,
        Objective,
        "likelihood",
        "bernoulli-dynamic bernoulli-threshold continuous-bernoulli gaussian discretised-logistic",
    ),
]
"""Registry, and a recipe field that holds its names; what they were before there were registries."""

PACKAGE = '''
"""A part of each kind."""

import numpy as np
import torch
from torch import nn

from isthmus.data.store import MaskedItem
from isthmus.nn.likelihoods import Gaussian


def doubled(make, channels):
    return nn.Sequential(nn.Conv2d(channels, channels // 2, 1), nn.Upsample(scale_factor=2))


class Halved(nn.Conv2d):
    def __init__(self, make, channels):
        super().__init__(channels, channels, 2, stride=2)


def confidence(logits, target, *, smooth=0.0, weight=0.5):
    """Below 0, which no loss of isthmus is."""
    assert smooth == 0.0
    return -weight * torch.log_softmax(logits.float(), 1).exp().amax(1).mean()


class Squares:
    class_names = ("outside", "inside")
    label_scheme = "squares"

    def __init__(self, count):
        self.count = count

    def fingerprint(self):
        return {"source": "squares", "version": 1, "count": self.count}

    def __len__(self):
        return self.count

    def __iter__(self):
        for number in range(self.count):
            rng = np.random.default_rng(number)
            mask = np.zeros((32, 32), np.uint8)
            top, left = rng.integers(0, 16, 2)
            mask[top : top + 16, left : left + 16] = 1
            image = (rng.integers(0, 60, (32, 32, 3)) + 180 * mask[..., None]).astype(np.uint8)
            part = "test" if number % 4 == 0 else "train"
            yield MaskedItem(f"square-{number:02}", "square", part, image, mask)


def squares(data, data_root):
    return Squares(len(data.classes) * 10)


class Sharp(Gaussian):
    def __init__(self):
        super().__init__(-2.0)
'''

ENTRY_POINTS = """
[isthmus.up]
carafe-like = isthmus_squares:doubled
broken = isthmus_squares_missing:doubled
twice = isthmus_squares:doubled
bilinear = isthmus_squares_missing:doubled
[isthmus.loss]
confidence = isthmus_squares:confidence
[isthmus.likelihood]
sharp = isthmus_squares:Sharp
[isthmus.dataset]
squares = isthmus_squares:squares
"""

STUDY = """
[study]
seeds = 2

[[study.variants]]
model.up = "bilinear"

[[study.variants]]
model.up = "carafe-like"

[data]
name = "squares"
classes = ["outside", "inside", "and", "two", "more"]
size_px = 32

[model]
width = 4
depth = 2

[loss]
name = "confidence+dice"
smooth = 2.0

[train]
epochs = 6
batch = 4
lr = 2e-2
precision = "float32"
"""


def installed(site: Path, name: str, number: str, entry_points: str) -> None:
    """Write what an installer writes of a package, besides its modules."""
    about = site / f"{name.replace('-', '_')}-{number}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (about / "entry_points.txt").write_text(entry_points)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two installed packages."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "isthmus_squares.py").write_text(PACKAGE, encoding="utf-8")
    installed(folder, "isthmus-squares", "1.2", ENTRY_POINTS)
    installed(folder, "isthmus-other", "3", "[isthmus.up]\ntwice = other:doubled\n")
    return folder


def run(site: Path, *words: str | Path) -> tuple[int, str]:
    """Exit status and output of a command in a process that finds the packages in ``site``."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def isthmus(site: Path, *words: str | Path) -> tuple[int, str]:
    return run(site, "-m", "isthmus.cli.main", *words)


@pytest.fixture(scope="module")
def study(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study whose up-sampler, loss and dataset come from a package."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "recipe.toml").write_text(STUDY, encoding="utf-8")
    status, said = isthmus(site, "study", folder / "recipe.toml", "--out", folder / "study")
    assert status == 0, said
    return folder / "study"


def environment_of(study: Path, variant: str) -> Environment:
    begun = RunFolder(study / "runs" / variant / "seed-0").begun_with()
    assert begun is not None
    return begun


# isthmus's own


@pytest.mark.parametrize(("registry", "table", "field", "before"), FIELDS)
def test_own_names_are_those_of_before_and_the_choices_of_the_field(
    registry: Registry, table: type, field: str, before: str
) -> None:
    assert registry.names == tuple(before.split())
    choices = get_args(get_type_hints(table)[field])
    assert choices[: len(registry.names)] == registry.names
    sums = {f"{name}+dice" for name in ("bce", "ce", "focal", "tversky")}
    assert {*choices[len(registry.names) :]} == (sums if registry is LOSS else set())


@pytest.mark.parametrize(("registry", "table", "field", "before"), FIELDS)
def test_every_own_name_is_imported_and_comes_from_nowhere_else(
    registry: Registry, table: type, field: str, before: str
) -> None:
    for name in registry.names:
        assert callable(registry.load(name))
        assert registry.origin(name) is None
        assert not registry.is_outside(name)


def test_every_name_in_a_shipped_recipe_is_one_of_ours() -> None:
    used: dict[str, set[str]] = {}
    for plan in map(load_plan, RECIPES):
        for recipe in map(plan.recipe_of, plan.variants):
            assert parts_from_outside(recipe) == {}
            for key, value in settings_of(recipe).items():
                used.setdefault(f"{recipe.task}.{key}", set()).add(str(value))
    losses = {term for name in used["segment.loss.name"] for term in name.split("+")}
    assert {"max-pool", "strided"} <= used["segment.model.down"] <= set(DOWN.names)
    assert {"transposed", "bilinear"} <= used["segment.model.up"] <= set(UP.names)
    assert {"bce", "dice"} <= losses <= set(LOSS.names)
    assert {"demo-scenes", "oxford-pets"} <= used["segment.data.name"] <= set(MASKED_DATASET.names)
    assert {"mnist", "cifar10"} <= used["generate.data.name"] <= set(LABELLED_DATASET.names)
    assert used["generate.objective.likelihood"] <= set(LIKELIHOOD.names)


def test_labelled_sets_are_those_of_the_registry() -> None:
    named = {of for of in LABELLED_DATASET.names if LABELLED_DATASET.load(of) is labelled_set_of}
    assert named == set(SETS)


def test_an_unknown_name_is_rejected_with_the_nearest() -> None:
    assert error_of(lambda: UP.load("bilinar")) == (
        "'bilinar': unknown up-sampler; did you mean bilinear?"
    )
    assert error_of(lambda: LIKELIHOOD.load("gausian")) == (
        "'gausian': unknown likelihood; did you mean gaussian?"
    )
    assert error_of(lambda: LOSS.origin("my:loss")) == (
        "my:loss is not trusted: code that a recipe names runs only if you allow it; add --trust my:loss"
    )


# From an installed package


@pytest.mark.trains
def test_a_study_of_outside_parts_has_verdicts(study: Path) -> None:
    verdicts = pd.read_csv(study / "verdicts.csv")
    assert {*verdicts["a"], *verdicts["b"]} == {"bilinear", "carafe-like"}
    assert pd.read_csv(study / "results.csv")["status"].tolist() == ["finished"] * 4
    record = StudyFolder(study).written_record()
    assert record.label_scheme.startswith("squares, ")
    assert record.mixed == ()


@pytest.mark.trains
def test_every_run_records_where_its_parts_come_from(study: Path, site: Path) -> None:
    source = hashlib.sha256((site / "isthmus_squares.py").read_bytes()).hexdigest()[:12]
    run = study / "runs" / "carafe-like" / "seed-0"
    package = {"distribution": "isthmus-squares", "version": "1.2", "source": source}
    written = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert written["parts"] == {
        "data.name": {"name": "squares", **package},
        "model.up": {"name": "carafe-like", **package},
        "loss.name": {"name": "confidence", **package},
    }
    assert list(environment_of(study, "bilinear").parts) == ["data.name", "loss.name"]


@pytest.mark.trains
def test_runs_with_other_versions_of_a_part_are_named(study: Path, tmp_path: Path) -> None:
    plain, with_part = (environment_of(study, name) for name in ("bilinear", "carafe-like"))
    assert _mixed([plain, with_part]) == ()
    up = with_part.parts["model.up"]
    for change in ({"version": "1.3"}, {"source": "0" * 12}):
        parts = with_part.parts | {"model.up": type(up)(**vars(up) | change)}
        changed = with_part.model_copy(update={"parts": parts})
        assert _mixed([plain, with_part, changed]) == ("model.up = carafe-like",)
    other = with_part.parts | {"model.up": type(up)(**vars(up) | {"name": "other", "source": "1"})}
    assert _mixed([with_part, with_part.model_copy(update={"parts": other})]) == ()
    shutil.copytree(study / "runs" / "carafe-like" / "seed-0", tmp_path / "run")
    resumed = RunFolder(tmp_path / "run")
    resumed.write_environment(with_part)
    assert resumed.begun_with() == with_part
    resumed.write_environment(with_part.model_copy(update={"parts": {}}))
    begun = resumed.begun_with()
    assert begun is not None
    assert begun.earlier_code == (up.source,)


def test_the_help_lists_names_of_packages_without_importing_them(site: Path) -> None:
    recipe = site / "help.toml"
    recipe.write_text('[model]\nup = "broken"\n', encoding="utf-8")
    status, said = isthmus(site, "study", recipe, "--help")
    assert status == 0
    names = re.search(r"--model\.up \{(.*?)\}", said, re.DOTALL)
    assert names
    own = "transposed bilinear nearest pixel-shuffle"
    assert names[1].split(",") == [*own.split(), "carafe-like", "broken", "twice"]
    assert "confidence+dice" in said


ERRORS = {
    'model.up = "carafe-lik"': (
        "model.up = 'carafe-lik': Input should be 'transposed', 'bilinear', 'nearest', 'pixel-shuffle', "
        "'carafe-like', 'broken' or 'twice'; did you mean carafe-like?"
    ),
    'model.up = "broken"': (
        "up-sampler broken: isthmus_squares_missing:doubled of isthmus-squares 1.2 cannot be imported "
        "(ModuleNotFoundError: No module named 'isthmus_squares_missing'): a part runs only if Python can "
        "import it; update or reinstall isthmus-squares"
    ),
    'model.up = "twice"': (
        "up-sampler twice is in isthmus-other and isthmus-squares: a name must have one meaning; uninstall "
        "one of the packages"
    ),
    'model.up = "isthmus_squares:doubled"': (
        "model.up = 'isthmus_squares:doubled': isthmus_squares:doubled is not trusted: code that a recipe "
        "names runs only if you allow it; add --trust isthmus_squares:doubled"
    ),
    'loss.name = "isthmus_squares:confidence+dice"': (
        "loss.name = 'isthmus_squares:confidence+dice': isthmus_squares:confidence is not trusted: code "
        "that a recipe names runs only if you allow it; add --trust isthmus_squares:confidence"
    ),
    'loss.name = "confidence"\nloss.smooth = 1.0': (
        "loss.smooth does nothing for confidence: only dice and tversky can use it; remove the key"
    ),
}

EACH_ERROR = """
import sys, tomllib
from isthmus.errors import UserError
from isthmus.tasks import recipe_from
from isthmus.tasks.segment.module import unet_for
for text in sys.argv[1:]:
    try:
        unet_for(recipe_from(tomllib.loads(text)).model, 3, 2)
        print("no error")
    except UserError as error:
        print(error)
"""


def test_errors_name_the_package_the_rule_and_the_remedy(site: Path) -> None:
    status, said = run(site, "-c", EACH_ERROR, *ERRORS, 'model.up = "bilinear"')
    assert status == 0
    lines = said.splitlines()
    lines[2] = lines[2].replace("squares and isthmus-other", "other and isthmus-squares")
    lines[2] = lines[2].replace("isthmus-isthmus-", "isthmus-")
    assert lines == [*ERRORS.values(), "no error"]


def test_a_likelihood_and_a_class_of_a_package_are_used(site: Path) -> None:
    code = """
from isthmus.tasks import recipe_from
from isthmus.tasks.generate.module import vae_for
from isthmus.tasks.segment.module import unet_for
from isthmus.recipe.registry import parts_from_outside
vae = recipe_from({"task": "generate", "objective": {"likelihood": "sharp"}})
print(vae_for(vae, 3).likelihood.log_sigma.item(), parts_from_outside(vae)["objective.likelihood"].version)
unet = recipe_from({"model": {"down": "isthmus_squares:Halved"}})
print(sum(type(of).__name__ == "Halved" for of in unet_for(unet.model, 3, 2).modules()))
print(parts_from_outside(unet)["model.down"].name)
"""
    environment = "import os; os.environ['ISTHMUS_TRUST'] = 'isthmus_squares:Halved'"
    status, said = run(site, "-c", environment + code)
    assert status == 0, said
    assert said.splitlines() == ["-2.0 1.2", "4", "isthmus_squares:Halved"]


# By --trust


@pytest.mark.trains
def test_a_trusted_part_is_trained_by_other_processes_and_recorded(
    site: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(site / "isthmus_squares.py", alone / "my_parts.py")
    text = STUDY.replace("carafe-like", "my_parts:doubled").replace('"squares', '"my_parts:squares')
    text = text.replace("confidence", "my_parts:confidence")
    recipe, study = tmp_path / "recipe.toml", tmp_path / "study"
    recipe.write_text(text, encoding="utf-8")
    words = ["study", recipe, "--out", study, "--jobs", "2"]
    trust = ["--trust=my_parts:doubled", "--trust", "my_parts:squares"]
    status, said = isthmus(alone, *trust, *words)
    assert status == 2
    assert said == (
        f"isthmus: {recipe}: loss.name = 'my_parts:confidence+dice': my_parts:confidence is not trusted: "
        "code that a recipe names runs only if you allow it; add --trust my_parts:confidence\n"
    )
    assert not study.exists()
    trust += ["--trust", "my_parts:confidence"]
    status, said = isthmus(alone, trust[0], *words, *trust[1:])
    assert status == 0, said
    parts = environment_of(study, "my_parts-doubled").parts
    assert [part.name for part in parts.values()] == [
        *("my_parts:squares", "my_parts:doubled", "my_parts:confidence")
    ]
    assert {(part.distribution, part.version, part.source) for part in parts.values()} == {
        ("", "", hashlib.sha256(PACKAGE.encode()).hexdigest()[:12])
    }
    assert len(pd.read_csv(study / "verdicts.csv")) > 0
    record = StudyFolder(study).written_record()
    flags = " ".join(f"--trust my_parts:{name}" for name in ("doubled", "squares", "confidence"))
    assert record.command.endswith(f"--jobs 2 {flags}")
    assert isthmus(alone, "report", *trust, study)[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trust"], "--trust: this flag needs a value; see isthmus --help"),
        (
            ["study", "--trust", "my_parts.py", "recipe.toml"],
            "--trust my_parts.py: must be the import string of code that the recipe names; write it as "
            "--trust package.module:name",
        ),
    ],
)
def test_what_is_no_import_string_is_not_trusted(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"isthmus: {sentence}\n"


def test_a_trusted_part_that_is_not_found_is_named(site: Path) -> None:
    code = "from isthmus.recipe.registry import UP; UP.load('nowhere:part')"
    environment = "import os; os.environ['ISTHMUS_TRUST'] = 'nowhere:part';"
    status, said = run(site, "-c", environment + code)
    assert status == 1
    assert said.splitlines()[-1].endswith(
        "up-sampler nowhere:part: nowhere:part cannot be imported (ModuleNotFoundError: No module named "
        "'nowhere'): a part runs only if Python can import it; correct it, or add its folder to PYTHONPATH"
    )


# Datasets that do not fit


def test_images_without_masks_and_groups_that_are_no_class_are_rejected() -> None:
    item = Item("scene-1", "cat", "train", np.zeros((2, 2, 3), np.uint8))
    assert error_of(lambda: _mask_of(item)) == (
        "scene-1: this image has no mask: segmentation needs a dataset of MaskedItem; choose another "
        "data.name"
    )
    assert error_of(lambda: _labels(["cat", "dog"], ["cat"])) == (
        "group dog is not a class of this dataset: the group of a labelled image is its class name; choose "
        "another data.name"
    )


def test_a_field_that_only_another_dataset_uses_is_still_rejected() -> None:
    assert "data.classes has no effect" in error_of(
        lambda: recipe_from({"data": {"classes": ["a"]}})
    )


# docs/extending.md


@pytest.mark.trains
def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    project, recipe, line = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    about = tomllib.loads(project)["project"]
    site = tmp_path / "site"
    points = [
        f"[{group}]\n" + "".join(f"{name} = {of}\n" for name, of in named.items())
        for group, named in about["entry-points"].items()
    ]
    installed(site, about["name"], about["version"], "\n".join(points))
    (site / "isthmus_bicubic.py").write_text(code, encoding="utf-8")
    (tmp_path / "bicubic.toml").write_text(recipe, encoding="utf-8")
    small = "--data.size-px 32 --data.count 20 --model.width 4 --model.depth 2 --train.epochs 1"
    out = ["--out", tmp_path / "study", "--seeds", "2", *small.split()]
    status, said = isthmus(site, "study", tmp_path / "bicubic.toml", *out)
    assert status in (0, 1), said  # after one epoch, predictions may be all one class
    assert len(pd.read_csv(tmp_path / "study" / "results.csv")) == 4
    parts = json.loads(
        (tmp_path / "study/runs/bicubic/seed-0/environment.json").read_text(encoding="utf-8")
    )["parts"]
    (shown,) = re.findall(r'^"parts": (.*)$', page, re.MULTILINE)
    assert json.loads(shown.replace("...", parts["model.up"]["source"])) == parts
    (tmp_path / "mine.toml").write_text(line, encoding="utf-8")
    trust = ["--trust", "isthmus_bicubic:bicubic"]
    status, said = isthmus(site, "study", tmp_path / "mine.toml", *trust, "--help")
    assert status == 0
    assert "isthmus_bicubic:bicubic" in said
