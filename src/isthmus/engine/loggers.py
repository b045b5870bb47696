"""Trackers that receive the metrics of every epoch: TensorBoard and MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task import LoggerName


def loggers_of(name: LoggerName, folder: RunFolder) -> tuple[Logger, ...]:
    """The tracker of that name for a run in this folder; empty for "none"."""
    if name == "tensorboard":
        return (TensorBoardLogger(folder.path, name="tensorboard", version=""),)
    return (MLflowLogger(folder),) if name == "mlflow" else ()


@contextmanager
def finalised(loggers: Sequence[Logger]) -> Iterator[None]:
    """A context in which a run is trained; at its end the trackers are told whether it succeeded."""
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


class MLflowLogger(Logger):
    """An MLflow run per training run, in ``mlflow.db`` of the study's folder."""

    name = "mlflow"
    version = None

    def __init__(self, folder: RunFolder) -> None:
        from mlflow import MlflowClient

        study = folder.path.parents[2]
        self._client = MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
        known = self._client.get_experiment_by_name(study.name)
        experiment = known.experiment_id if known else self._client.create_experiment(study.name)
        run_name = "/".join(folder.path.parts[-2:])
        self._run = self._client.create_run(experiment, run_name=run_name).info.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record the metrics of an epoch."""
        for key, value in metrics.items():
            self._client.log_metric(self._run, key, value, step=step)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: ``recipe.toml`` has them."""

    def finalize(self, status: str) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run, "FINISHED" if status == "success" else "FAILED")
