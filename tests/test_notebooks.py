"""The notebooks run, here in a tiny setting; those committed have been run and name no machine."""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from isthmus.recipe import load_plan

CHECKOUT = Path(__file__).parents[1]
NOTEBOOKS = CHECKOUT / "notebooks"
NAMES = ("cvae_cifar10", "cvae_mnist", "six_unets")

TINY_UNETS = {
    "data.name": "folder",
    "data.size_px": 32,
    "model.width": 8,
    "model.depth": 3,
    "train.epochs": 6,
    "train.batch": 2,
    "train.lr": 1e-2,
}
TINY_VAES = {
    "data.name": "classes",
    "data.size_px": 16,
    "model.width": 8,
    "model.latent": 4,
    "measure.judge_width": 8,
    "measure.judge_epochs": 4,
    "measure.judge_batch": 8,
    "measure.importance_samples": 2,
    "measure.nll_pictures": 6,
    "measure.cas_pictures": None,
    "train.epochs": 10,
    "train.batch": 8,
    "train.lr": 4e-3,
}


def committed(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_of(notebook: Any) -> Any:
    first = code_of(notebook)[0]
    assert first.metadata.tags == ["parameters"]
    return first


def client_of(name: str, settings: dict[str, object], study: Path) -> NotebookClient:
    """The notebook with other parameters, and what runs it where it lies."""
    notebook = committed(name)
    lines = (
        "from pathlib import Path",
        f"SETTINGS = {settings!r}",
        f"STUDY = Path({str(study)!r})",
    )
    parameters_of(notebook).source = "\n".join(lines)
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    return NotebookClient(notebook, timeout=120, resources=where)


async def executed(clients: list[NotebookClient]) -> list[Any]:
    """What fresh kernels leave, side by side; a cell that errs raises once all have ended."""
    runs = [client.async_execute() for client in clients]
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes


def data_of(cell: Any) -> list[dict[str, str]]:
    return [output.data for output in cell.outputs if "data" in output]


def assert_complete(notebook: Any, study: Path) -> None:
    """A row a variant on disk and on the screen, figures, and a report."""
    variants = [variant.name for variant in load_plan(study / "plan.toml").variants]
    assert sorted(pd.read_csv(study / "results.csv")["variant"]) == sorted(variants)
    shown = [data for cell in code_of(notebook) for data in data_of(cell)]
    (table,) = (data["text/html"] for data in shown if "text/html" in data)
    assert all(f"<th>{variant}</th>" in table for variant in variants)
    assert sum("image/png" in data for data in shown) >= 2
    assert data_of(code_of(notebook)[-1])[0]["text/plain"] == f"'{study.name}/report.html'"
    assert (study / "report.html").is_file()


@pytest.mark.trains
def test_every_notebook_runs(discs: Path, strokes: Path, tmp_path: Path) -> None:
    vaes = TINY_VAES | {"data.folder": str(strokes)}
    unets = TINY_UNETS | {"data.folder": str(discs)}
    studies, before = [tmp_path / name for name in NAMES], sorted(NOTEBOOKS.iterdir())
    clients = [client_of(*each) for each in zip(NAMES, (vaes, vaes, unets), studies, strict=True)]
    notebooks = asyncio.run(executed(clients))
    assert sorted(NOTEBOOKS.iterdir()) == before
    for notebook, study in zip(notebooks, studies, strict=True):
        assert_complete(notebook, study)
    results = {study.name: pd.read_csv(study / "results.csv") for study in studies}
    assert len(results["six_unets"]) == 6
    for name in ("cvae_cifar10", "cvae_mnist"):
        protocols = results[name][["swap_encoded_true", "swap_encoded_wrong"]]
        assert protocols.notna().all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_has_been_run(name: str) -> None:
    cells = code_of(committed(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_names_no_machine(name: str) -> None:
    notebook = committed(name)
    for cell in code_of(notebook):
        for data in data_of(cell):
            data.pop("image/png", None)  # base64, which may spell anything
    whole = nbformat.writes(notebook).replace("\\n", "\n")
    assert not re.search(r"(?<![\w<.~-])/\w", whole), "an absolute path"
    here = (f"/{CHECKOUT.parts[1]}/", str(Path.home()), tempfile.gettempdir(), "/home/", "/Users/")
    assert not [place for place in here if place in whole]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_a_notebook_lies_outside_the_checkout(name: str) -> None:
    names: dict[str, Any] = {}
    exec(parameters_of(committed(name)).source, names)
    assert names["STUDY"].is_absolute()
    assert not names["STUDY"].is_relative_to(CHECKOUT)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_no_picture_of_a_data_set(name: str) -> None:
    """Their licences allow no copies here: only what networks make of them is shown."""
    source = "\n".join(cell.source for cell in code_of(committed(name)))
    assert not re.search(r"swap_source|\.image\b|\.truth\b|store_for|\bSHEETS\b|\bsheet\(", source)
