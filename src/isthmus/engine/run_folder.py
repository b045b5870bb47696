"""The files of a run. ``result.json`` is written last: a run is finished if this file exists."""

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
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from isthmus.engine.run_result import Environment, Record, RunResult, TuningResult
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
    """A descriptor for a file or folder of fixed name: ``run.weights`` is its path below ``run.path``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Any, _kind: type) -> Path:
        path: Path = folder.path
        return path / self._name


AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: one recipe with one seed."""

    path: Path

    recipe = Entry("recipe.toml")
    """The recipe; written first."""
    environment = Entry("environment.json")
    """Machine, package versions and the hash of the data."""
    epoch_table = Entry("metrics.csv")
    """One line per epoch."""
    log = Entry("log.txt")
    """Events of the run, with times."""
    error = Entry("error.txt")
    """The traceback of the last attempt, if it raised."""
    checkpoints = Entry("checkpoints")
    """The training state; deleted when the run has finished."""
    weights = Entry("model.safetensors")
    """The evaluated weights; the file's metadata hold the recipe and the class names."""
    image_metrics = Entry("scores.npz")
    """Per-image test metrics: one array [n] per metric, and the ``names`` [n] of the images."""
    predictions = Entry("predictions.npz")
    """Segmentation only: predicted class ids ``masks`` [n, h, w] of the test images, and ``names`` [n]."""
    sample_grids = Entry("sample_grids.npz")
    """Generation only: generated images and the labels they were conditioned on."""
    shared = Entry("shared")
    """Auxiliary models such as the judge, if the run is not part of a study, whose runs share them."""
    result_file = Entry("result.json")
    """The result; written last."""

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended with a result, successful or failed."""
        return self.result_file.exists()

    @property
    def is_claimed(self) -> bool:
        """Whether a run was started in this folder."""
        return self.recipe.exists()

    def begun_with(self) -> Environment | None:
        """The environment in which the run was last started or resumed; None if it was never started."""
        if not self.environment.exists():
            return None
        return self._read(Environment, self.environment)

    def write_environment(self, environment: Environment) -> None:
        """Record the environment in which the run is started or resumed, and other code of its epochs."""
        begun = self.begun_with()
        if begun is not None and self.epochs():
            codes = dict.fromkeys((*begun.earlier_code, *begun.sources))
            earlier = tuple(code for code in codes if code not in environment.sources)
            environment = environment.model_copy(update={"earlier_code": earlier})
        write_text(self.environment, environment.model_dump_json(indent=1) + "\n")

    def claim(self, recipe: Recipe, content: str) -> None:
        """Record the recipe; if a run was started here, check that it had the same recipe and data.

        ``data.folder`` may differ, as long as the images in the folder are the same.

        Args:
            recipe: The recipe of the run.
            content: Hash of the images, masks or labels, names and splits.

        Raises:
            UserError: If the recipe or the images differ; the message names the fields that differ.
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
                f"{self.path} holds a run with a different recipe (changed: {', '.join(changed)}): a folder "
                "holds one recipe; choose another folder with --out, or restore these fields"
            )
        begun = self.begun_with()
        if self.epoch_table.exists() and begun is not None and begun.content != content:
            raise UserError(
                f"{self.path} was started with different images: an image that it was trained on may be in "
                "the test set now; restore the data, or choose another folder with --out"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run, so that no other process trains it.

        Raises:
            Busy: If another process has locked it.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.checkpoints / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Busy(
                f"{self.path}: another process is already training this run, and two at once would corrupt "
                "it; wait for that process, or choose another folder with --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def result(self) -> RunResult:
        """The result of a finished run."""
        return self._read(RunResult, self.result_file)

    def tuning_result(self) -> TuningResult:
        """The result of a finished tuning run."""
        return self._read(TuningResult, self.result_file)

    def _read(self, record: type[AnyRecord], file: Path) -> AnyRecord:
        try:
            return record.model_validate_json(file.read_bytes())
        except ValueError:
            raise UserError(
                f"{file}: cannot be read: it is damaged, or another version of isthmus has written it; "
                f"delete {self.path} to train the run again, or use that version"
            ) from None

    def finish(self, result: RunResult | TuningResult) -> None:
        """Write the result, which marks the run as finished."""
        self.error.unlink(missing_ok=True)
        write_text(self.result_file, result.model_dump_json(indent=1) + "\n")

    def add_epoch(self, line: Mapping[str, float]) -> None:
        """Write one epoch to ``metrics.csv``; lines of the same epoch and of later epochs are removed."""
        lines = [old for old in self.epochs() if float(old["epoch"]) < line["epoch"]]

        def write(file: Path) -> None:
            with file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(line))
                writer.writeheader()
                writer.writerows([*lines, {key: f"{value:.6g}" for key, value in line.items()}])

        write_atomically(self.epoch_table, write)

    def train_seconds(self) -> float:
        """Training time of the epochs so far, including validation, in seconds."""
        return sum((float(line["seconds"]) for line in self.epochs()), 0.0)

    def epochs(self) -> list[dict[str, str]]:
        """The lines of ``metrics.csv``."""
        if not self.epoch_table.exists():
            return []
        with self.epoch_table.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
