"""What a run leaves on disk. ``result.json`` is written last: its presence means finished."""

from __future__ import annotations

import csv
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from isthmus.engine.run_result import Environment, RunResult, TuningResult
from isthmus.errors import UserError
from isthmus.recipe import Recipe, recipe_as_toml, recipe_tables
from isthmus.recipe.parsing import flattened


class Busy(UserError):
    """Another process trains this run."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index, whole or not at all."""
    write_atomically(path, lambda file: table.to_csv(file, index=False))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as one compressed .npz, whole or not at all."""
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


@dataclass(frozen=True)
class RunFolder:
    """One recipe, one seed, one folder."""

    path: Path

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end, good or collapsed."""
        return (self.path / "result.json").exists()

    @property
    def is_claimed(self) -> bool:
        """Whether a recipe has this folder: it is a run's, begun or finished."""
        return (self.path / "recipe.toml").exists()

    @property
    def epoch_table(self) -> Path:
        """A line an epoch."""
        return self.path / "metrics.csv"

    @property
    def weights(self) -> Path:
        """The evaluated weights, with the recipe in the file's metadata."""
        return self.path / "model.safetensors"

    @property
    def predictions(self) -> Path:
        """Class ids of every test image: ``masks`` [n, h, w] and ``names`` [n]."""
        return self.path / "predictions.npz"

    @property
    def sample_grids(self) -> Path:
        """Images that a VAE has made, with the labels that went in: see ``runs/sample grids.py``."""
        return self.path / "sample_grids.npz"

    @property
    def image_metrics(self) -> Path:
        """Metrics of every test image: one array [n] each, and their ``names``."""
        return self.path / "scores.npz"

    @property
    def checkpoints(self) -> Path:
        """Full training state, kept only until the run has finished."""
        return self.path / "checkpoints"

    @property
    def environment(self) -> Path:
        """Machine and packages, and the content of the data."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """What happened, in words."""
        return self.path / "log.txt"

    @property
    def error(self) -> Path:
        """The traceback of the last attempt, if it broke off."""
        return self.path / "error.txt"

    def begun_with(self) -> Environment | None:
        """Where and with what the run was last begun; None before it was."""
        if not self.environment.exists():
            return None
        return Environment.model_validate_json(self.environment.read_bytes())

    def write_environment(self, environment: Environment) -> None:
        """Write down where and with what the run is begun, or resumed."""
        write_text(self.environment, environment.model_dump_json(indent=1) + "\n")

    def claim(self, recipe: Recipe, content: str) -> None:
        """Write the recipe down, or reject another recipe or other data than the folder has.

        Args:
            recipe: Of the run.
            content: Hash of its images, truth, names and parts.

        Raises:
            UserError: Naming the fields that differ.
        """
        written = self.path / "recipe.toml"
        if not self.is_claimed:
            write_text(written, recipe_as_toml(recipe))
            return
        before = dict(flattened(tomllib.loads(written.read_text(encoding="utf-8"))))
        ours = dict(flattened(recipe_tables(recipe)))
        changed = [key for key in before | ours if before.get(key) != ours.get(key)]
        changed = [key for key in changed if key != "data.folder"]
        if changed:  # where the data lie is no matter, if what they hold is the same
            raise UserError(
                f"{self.path} holds a run of another recipe ({', '.join(changed)} differ): a folder "
                "keeps to one recipe; choose another --out, or set the fields back"
            )
        begun = self.begun_with()
        if self.epoch_table.exists() and begun is not None and begun.content != content:
            raise UserError(
                f"{self.path} was begun on other images than the data are now: what has trained it may "
                "lie in the test part today; put the data back, or choose another --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training this run meanwhile.

        Raises:
            Busy: If one does.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.checkpoints / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Busy(
                f"{self.path}: another command trains this run, and two would spoil it; wait for it, or "
                "choose another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def result(self) -> RunResult:
        """What ``finish`` wrote of a run."""
        return RunResult.model_validate_json((self.path / "result.json").read_bytes())

    def tuning_result(self) -> TuningResult:
        """What ``finish`` wrote of a tuning run."""
        return TuningResult.model_validate_json((self.path / "result.json").read_bytes())

    def finish(self, result: RunResult | TuningResult) -> None:
        """Write the result, which marks the run as finished."""
        self.error.unlink(missing_ok=True)
        write_text(self.path / "result.json", result.model_dump_json(indent=1) + "\n")

    def add_epoch(self, line: Mapping[str, float]) -> None:
        """Append one epoch to ``metrics.csv``, in place of any line of the same epoch."""
        lines = [old for old in self.epochs() if float(old["epoch"]) < line["epoch"]]

        def write(file: Path) -> None:
            with file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(line))
                writer.writeheader()
                writer.writerows([*lines, {key: f"{value:.6g}" for key, value in line.items()}])

        write_atomically(self.epoch_table, write)

    def train_seconds(self) -> float:
        """Training time of the epochs so far."""
        return sum((float(line["seconds"]) for line in self.epochs()), 0.0)

    def epochs(self) -> list[dict[str, str]]:
        """The lines of ``metrics.csv``."""
        if not self.epoch_table.exists():
            return []
        with self.epoch_table.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
