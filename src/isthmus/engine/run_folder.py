"""What a run writes to disk. ``result.json`` comes last: a folder that has it is finished."""

from __future__ import annotations

import csv
import json
import os
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from isthmus.engine.run_result import Environment, RunResult, TuningResult
from isthmus.errors import UserError
from isthmus.recipe import Recipe, recipe_as_toml, recipe_tables
from isthmus.recipe.parsing import flattened


class Busy(UserError):
    """Another process is training this run."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    A reader finds the complete new file or the old one, never a part.
    """
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
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index, atomically."""
    write_atomically(path, lambda file: table.to_csv(file, index=False))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as one compressed .npz, atomically."""
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


@contextmanager
def array_stream(
    path: Path, name: str, shape: tuple[int, ...], **arrays: Any
) -> Iterator[Callable[[UInt8[np.ndarray, ...]], object]]:
    """Write a compressed .npz whose uint8 array ``name`` arrives in pieces, atomically.

    Args:
        path: The file.
        name: Of the array.
        shape: Of the complete array; the pieces are consecutive along its first axis.
        arrays: Other arrays of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        unfinished = Path(folder) / path.name
        write_arrays(unfinished, arrays)
        with (
            zipfile.ZipFile(unfinished, "a", zipfile.ZIP_DEFLATED) as archive,
            archive.open(f"{name}.npy", "w", force_zip64=True) as stream,
        ):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            yield lambda piece: stream.write(np.ascontiguousarray(piece).data)
        unfinished.rename(path)


class Entry:
    """A file or folder of fixed name in a folder with a ``path``: ``run.weights`` is its path."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Any, _kind: type) -> Path:
        path: Path = folder.path
        return path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one recipe and one seed."""

    path: Path

    recipe = Entry("recipe.toml")
    """Written first."""
    environment = Entry("environment.json")
    """Machine, package versions and the hash of the data."""
    epoch_table = Entry("metrics.csv")
    """One line per epoch."""
    log = Entry("log.txt")
    """What happened, with times."""
    error = Entry("error.txt")
    """The traceback of the last attempt, if it raised."""
    checkpoints = Entry("checkpoints")
    """The training state; deleted when the run has finished."""
    weights = Entry("model.safetensors")
    """The evaluated weights; the file's metadata hold the recipe and the class names."""
    image_metrics = Entry("scores.npz")
    """Metrics of every test image: one array [n] each, and their ``names``."""
    predictions = Entry("predictions.npz")
    """Of a segmentation: class ids of every test image, ``masks`` [n, h, w], and ``names`` [n]."""
    sample_grids = Entry("sample_grids.npz")
    """Of a VAE: images it makes, with the labels they were made with."""
    shared = Entry("shared")
    """What a study would hold for all its runs, such as the judge, where there is no study."""
    result_file = Entry("result.json")
    """Written last."""

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, be its result sound or failed."""
        return self.result_file.exists()

    @property
    def is_claimed(self) -> bool:
        """Whether a run was begun here."""
        return self.recipe.exists()

    def begun_with(self) -> Environment | None:
        """The environment that the run was last begun or resumed in; None before that."""
        if not self.environment.exists():
            return None
        return Environment.model_validate_json(self.environment.read_bytes())

    def write_environment(self, environment: Environment) -> None:
        """Record the environment that the run is begun or resumed in."""
        write_text(self.environment, environment.model_dump_json(indent=1) + "\n")

    def claim(self, recipe: Recipe, content: str) -> None:
        """Record the recipe, or check it and the data against those that the run was begun with.

        ``data.folder`` may differ, as long as the images in it are the same.

        Args:
            recipe: The recipe of the run.
            content: Hash of its images, masks or labels, names and parts.

        Raises:
            UserError: Naming the fields that differ.
        """
        if not self.is_claimed:
            write_text(self.recipe, recipe_as_toml(recipe))
            return
        before = dict(flattened(tomllib.loads(self.recipe.read_text(encoding="utf-8"))))
        now = dict(flattened(recipe_tables(recipe)))
        changed = [key for key in before | now if before.get(key) != now.get(key)]
        changed = [key for key in changed if key != "data.folder"]
        if changed:
            raise UserError(
                f"{self.path} holds a run of another recipe ({', '.join(changed)} differ): a folder "
                "keeps to one recipe; choose another --out, or set the fields back"
            )
        begun = self.begun_with()
        if self.epoch_table.exists() and begun is not None and begun.content != content:
            raise UserError(
                f"{self.path} was begun on other images than the data are now: an image that trained it may "
                "be in the test part now; put the data back, or choose another --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run against other processes that would train it.

        Raises:
            Busy: If another process has locked it.
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
        """The result of a finished run."""
        return RunResult.model_validate_json(self.result_file.read_bytes())

    def tuning_result(self) -> TuningResult:
        """The result of a finished tuning run."""
        return TuningResult.model_validate_json(self.result_file.read_bytes())

    def finish(self, result: RunResult | TuningResult) -> None:
        """Write the result, which marks the run as finished."""
        self.error.unlink(missing_ok=True)
        write_text(self.result_file, result.model_dump_json(indent=1) + "\n")

    def add_epoch(self, line: Mapping[str, float]) -> None:
        """Write one epoch to ``metrics.csv``, replacing lines of the same or later epochs."""
        lines = [old for old in self.epochs() if float(old["epoch"]) < line["epoch"]]

        def write(file: Path) -> None:
            with file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(line))
                writer.writeheader()
                writer.writerows([*lines, {key: f"{value:.6g}" for key, value in line.items()}])

        write_atomically(self.epoch_table, write)

    def train_seconds(self) -> float:
        """Training time of the epochs so far, validation included."""
        return sum((float(line["seconds"]) for line in self.epochs()), 0.0)

    def epochs(self) -> list[dict[str, str]]:
        """The lines of ``metrics.csv``."""
        if not self.epoch_table.exists():
            return []
        with self.epoch_table.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
