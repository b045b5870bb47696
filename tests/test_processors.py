"""A test that trains says so, and is run as other processors round."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import processors

TESTS = """
import pytest
import torch


def step():
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]).step()


@pytest.fixture(scope="module")
def trained():
    step()


def test_unmarked():
    step()


def test_unmarked_with_a_fixture_that_trains(trained):
    pass


def test_unmarked_with_a_fixture_that_has_trained(trained):
    pass


@pytest.mark.trains
def test_marked(trained):
    step()


def test_that_trains_nothing():
    pass
"""


def test_who_steps_an_optimiser_without_the_marker_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = trains", encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider"]
    words += ["--verbose", "-rN"]  # under CI the summary repeats each message whole
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [*words, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 2 passed, 2 errors" in done.stdout
    assert "::test_unmarked FAILED" in done.stdout
    assert done.stdout.count("decorate it with @pytest.mark.trains\n") == 3


def test_every_setting_is_picked_by_some_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert processors.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    for number in range(len(listed)):
        assert processors.main(["--list", "--pick", f"{number:040x}"]) == 0
    assert capsys.readouterr().out.splitlines() == listed
    assert len(listed) == len(set(listed)) > 10


def test_the_quick_files_are_there() -> None:
    assert all((Path(__file__).parents[1] / file).is_file() for file in processors.QUICK)
