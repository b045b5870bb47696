"""A run to be trained, in a form that another process can be given, and what came of it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isthmus.data.store import Store
from isthmus.engine.run_folder import Busy, RunFolder, write_text
from isthmus.engine.run_result import RunResult, TuningResult
from isthmus.engine.task import DeviceName, LoggerName, ProgressCallback
from isthmus.errors import UserError
from isthmus.recipe import Recipe

Result = RunResult | TuningResult


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What all jobs of a study have in common."""

    device: DeviceName
    data_root: Path | None
    logger: LoggerName
    shared: Path
    """Folder of what the runs share, such as the judge."""


@dataclass(frozen=True)
class Job:
    """One run to be trained."""

    name: str
    """Variant and seed, or setting, in words."""
    kind: Literal["run", "tuning", "prepare"]
    """"prepare": make what the runs share, such as the judge, and train nothing else."""
    recipe: Recipe
    seed: int
    folder: RunFolder
    options: JobOptions
    alike: Mapping[str, str]
    """What the other runs of the study recorded as shared; this run must use the same."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    job: Job
    result: Result | None = None
    """None if training stopped with an error, or if another process is training the run."""
    message: str = ""
    """Why there is no result."""


def run_job(job: Job, on_progress: ProgressCallback, store: Store | None = None) -> Outcome:
    """Do a job, unless its run has finished or another process is training it.

    An exception becomes the message; its traceback is written to ``error.txt``.

    Args:
        job: The run.
        on_progress: Called after each step.
        store: The images, if they are open already.

    Raises:
        UserError: If the request is wrong, since it is then wrong for every run.
    """
    from isthmus.engine.train import RunOptions, prepare, train_run, tune_run  # slow to import

    train = tune_run if job.kind == "tuning" else train_run
    options = RunOptions(
        store=store,
        data_root=job.options.data_root,
        device=job.options.device,
        logger=job.options.logger,
        on_progress=on_progress,
        shared=job.options.shared,
        alike=job.alike,
    )
    try:
        if job.kind == "prepare":
            prepare(job.recipe, **options)
            return Outcome(job)
        with job.folder.held():
            if job.folder.is_finished:
                return Outcome(job)
            return Outcome(job, train(job.recipe, job.seed, job.folder, **options))
    except Busy:
        return Outcome(job, message="another process is training this run")
    except UserError:
        raise
    except Exception as error:  # the other runs of the study go on
        write_text(job.folder.error, traceback.format_exc())
        return Outcome(job, message=f"stopped with an error: {error}")
