"""A task is one object: a third one, made here, runs through study, report, forecast and compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pydantic.dataclasses
import pytest
import torch
from torch import Tensor, nn

import isthmus
from isthmus.cli.main import main
from isthmus.data.batches import Batch
from isthmus.data.store import Columns, Store
from isthmus.engine.fit import Trained
from isthmus.engine.run_folder import write_arrays
from isthmus.engine.run_result import Baseline, Evaluation
from isthmus.engine.task import TASKS, Task
from isthmus.engine.task_module import Part, Sums, TaskModule
from isthmus.metrics.metric import Metric
from isthmus.recipe import Recipe
from isthmus.recipe.rules import STRICT, Positive, Share


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class ToyData:
    name: Literal["noise"] = "noise"
    """Data set."""
    folder: Path | None = None
    """Not read."""
    validation: Share = 0.25
    """Fraction of the training images held out to choose the epoch."""
    limit: Positive | None = None
    """Use at most so many training images."""

    @property
    def has_validation(self) -> bool:
        return True


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class ToyModel:
    hidden: Positive = 2
    """Units between image and answer."""


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class ToyRecipe(Recipe):
    task: Literal["toy"] = "toy"
    """Name of the task that the network is trained for."""
    data: ToyData = ToyData()
    model: ToyModel = ToyModel()


@dataclass(frozen=True, kw_only=True)
class ToyStore(Store):
    brightness: np.ndarray

    @property
    def columns(self) -> Columns:
        return {"image": self.images, "brightness": self.brightness.astype(np.float32)}


class ToyModule(TaskModule):
    selection_metric = "error"
    direction = "min"

    def __init__(self, recipe: ToyRecipe, steps: int) -> None:
        hidden = recipe.model.hidden
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, 1))
        super().__init__(network, recipe.train, steps)

    def forward(self, batch: Batch, part: Part) -> tuple[Tensor, Sums]:
        errors = self.network(batch["image"])[:, 0].float() - batch["brightness"]
        loss = errors.square().mean()
        sums = {"loss": loss.detach() * len(errors), "error": errors.detach().abs().sum()}
        return loss, sums

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.zeros(1, 1, 8, 8),)


class ToyTask(Task):
    """How bright an image is."""

    name = "toy"
    recipe = ToyRecipe
    curve = "error"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("error", False, "Mean absolute error of the brightness."),)

    def open_store(self, data: Any, data_root: Any = None, on_progress: Any = None) -> ToyStore:
        images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
        return ToyStore(
            images=images,
            brightness=images.mean(axis=(1, 2, 3)) / 255,
            names=tuple(f"{row:02}" for row in range(60)),
            groups=("all",) * 60,
            parts=("train",) * 48 + ("test",) * 12,
            class_names=(),
            label_scheme="brightness of noise",
            content="noise",
        )

    def augmentation(self, recipe: Any) -> None:
        return None

    def new_module(self, recipe: Any, store: Any, steps: int) -> ToyModule:
        return ToyModule(recipe, steps)

    def evaluate(self, trained: Trained) -> Evaluation:
        rows = trained.split.test
        with trained.evaluating() as network:
            said = torch.cat([network(of["image"])[:, 0].float() for of in trained.batches(rows)])
        errors = np.abs(said.numpy() - trained.store.brightness[rows])
        names = [trained.store.names[row] for row in rows]
        write_arrays(trained.folder.image_metrics, {"names": names, "error": errors})
        return Evaluation(metrics={"error": float(errors.mean())})

    def verdict_metrics(self, recipes: Sequence[Any]) -> tuple[str, ...]:
        return ("error",)

    def baselines(self, recipe: Any, seed: int, store: Any, shared: Path) -> tuple[Baseline, ...]:
        error = float(np.abs(store.brightness - 0.5).mean())
        one = Baseline(name="half", definition="0.5", is_floor=True, metrics={"error": error})
        return (one,)


TOY = """
task = "toy"

[study]
name = "toy"
seeds = 2

[study.factors]
model.hidden = [1, 4]

[train]
epochs = 2
batch = 8
precision = "float32"
"""


@pytest.mark.trains
def test_a_third_task_needs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TASKS, "toy", ToyTask())  # the line
    recipe, study = tmp_path / "toy.toml", tmp_path / "study"
    recipe.write_text(TOY, encoding="utf-8")
    words = ["study", str(recipe), "--out", str(study)]
    assert main([*words, "--dry-run"]) == 0
    assert "toy: 2 variants x 2 seeds" in capsys.readouterr().out
    assert main(words) == 0
    assert "1, seed 0: finished, error 0." in capsys.readouterr().err
    results = pd.read_csv(study / "results.csv")
    assert results["status"].tolist() == ["finished"] * 4
    (factor,) = pd.read_csv(study / "verdicts.csv").query("kind == 'factor'").to_dict("records")
    assert (factor["metric"], factor["factor"], factor["n"]) == ("error", "model.hidden", 2)
    means = results.groupby("model.hidden")["error"].mean()
    assert factor["difference"] == pytest.approx(means[4] - means[1])
    assert main(["report", str(study)]) == 0
    page = (study / "report.html").read_text(encoding="utf-8")
    sections = ["recommendation", "metrics", "verdicts", "curves", "cost", "made"]
    assert re.findall(r'<h2 id="(\w+)"', page) == sections
    assert "brightness of noise" in page
    assert "Mean absolute error of the brightness." in page
    assert "half" in page
    runs = [str(study / "runs" / variant / "seed-0") for variant in ("1", "4")]
    capsys.readouterr()
    assert main(["compare", *runs]) == 0
    assert "error: A - B " in capsys.readouterr().out


ASKS = re.compile(r"isinstance\([^()]*(Recipe|Store)\b|\btask\s*(==|!=)|\.task\s+(not\s+)?in\b")
"""How code asks which task a recipe or a store is of."""


@pytest.mark.parametrize(
    "line",
    [
        'if recipe.task == "generate":',
        'if task != "segment":',
        "if isinstance(recipe, GenerateRecipe):",
        "if not isinstance(store, MaskedStore | LabelledStore):",
        'if recipe.task in ("generate", "classify"):',
        "if plan.recipe.task not in KINDS:",
    ],
)
def test_a_question_which_task_it_is_would_be_found(line: str) -> None:
    assert ASKS.search(line)


def test_nothing_outside_the_tasks_asks_which_task_it_is() -> None:
    root = Path(isthmus.__file__).parent
    files = [file for file in root.rglob("*.py") if file.relative_to(root).parts[0] != "tasks"]
    assert len(files) > 50
    asking = [
        f"{file.relative_to(root)}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if ASKS.search(line)
    ]
    assert asking == []
