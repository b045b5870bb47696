"""What pyproject.toml promises: versions that are tested, and every package that a command needs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *(of for extra in EXTRAS.values() for of in extra)]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def modules_imported() -> set[str]:
    """Packages of others that some file of ours imports, by the name of the module."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"isthmus"}


def test_the_lowest_versions_that_are_promised_are_those_that_are_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {normal(name): pin for name, _, pin in (line.partition("==") for line in lines)}
    promised = dict(of.split(">=") for of in REQUIREMENTS if not of.startswith("isthmus["))
    assert promised == {name: pins[normal(name)] for name in promised}


def test_what_the_package_imports_comes_without_what_tests_install() -> None:
    extras = [of for name in ("train", "demo", "track", "cluster") for of in EXTRAS[name]]
    installed = [*PROJECT["dependencies"], *extras]
    names = {normal(of.partition(">=")[0]) for of in installed}
    homes = packages_distributions()
    modules = modules_imported()
    assert "torch" in modules
    assert [of for of in modules if names.isdisjoint(map(normal, homes[of]))] == []


def test_the_demo_installs_its_own_needs_and_tests_add_theirs(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def extras(target: str) -> list[str]:
        words = ["make", "--dry-run", target]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        return re.findall(r"'\.\[(\w+)\]'", done.stdout)

    assert extras("demo") == ["demo"]
    assert extras("test") == ["demo", "dev"]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "demo-installed").touch()
    assert extras("demo") == []
    assert extras("test") == ["dev"]
