"""How many runs to train at a time: what the runs so far used, or what a short measurement finds fastest."""

from __future__ import annotations

import os
from collections.abc import Sequence

from isthmus.engine.task import task_of
from isthmus.study.jobs import JobOptions
from isthmus.study.schedule import PlannedRun

WORTH_MEASURING_S = 60.0
"""If all runs together take less, they are trained one after the other: processes take seconds to start."""
LEAST_GAIN = 1.15
"""Several at a time must be faster by this factor, for they need more memory."""


def runs_at_a_time(
    to_do: Sequence[PlannedRun], begun: Sequence[PlannedRun], options: JobOptions
) -> int:
    """How many of these runs to train at a time on this machine.

    Small networks do not keep all threads busy: then several runs with fewer threads each are faster.
    The number of threads changes how sums are rounded, so runs that were trained before decide.

    Args:
        to_do: The runs to be trained, in one study.
        begun: All runs of the study; those that were started tell the number of threads.
        options: Where they will be trained.
    """
    import torch

    from isthmus.engine.device import device_for

    cores = os.cpu_count() or 1
    device = device_for(options.device, to_do[0].recipe.train.precision)
    if device.torch_device.type != "cpu" or cores < 2:
        return 1
    threads = [of.threads for run in begun if (of := run.folder.begun_with()) is not None]
    if threads and max(threads) != torch.get_num_threads():
        return max(1, cores // max(threads))
    return 1 if threads or len(to_do) < 2 else _fastest(to_do, cores, options)


def _fastest(to_do: Sequence[PlannedRun], cores: int, options: JobOptions) -> int:
    """Measure steps of the first run with all threads and with a part of them."""
    import torch

    from isthmus.engine.cost import seconds_per_step
    from isthmus.engine.device import device_for
    from isthmus.engine.loaders import split_for, steps_per_epoch

    run = to_do[0]
    recipe, train = run.recipe, run.recipe.train
    store = task_of(recipe).open_store(recipe.data, options.data_root)
    steps = train.epochs * steps_per_epoch(
        len(split_for(recipe, store, run.seed).train), train.batch
    )
    device, before = device_for("cpu", train.precision), torch.get_num_threads()
    alone = seconds_per_step(recipe, store, device)
    if alone * steps * len(to_do) < WORTH_MEASURING_S:
        return 1
    gains = {1: LEAST_GAIN}
    try:
        for count in (2**power for power in range(1, min(cores, len(to_do)).bit_length())):
            torch.set_num_threads(max(1, cores // count))
            gains[count] = count * alone / seconds_per_step(recipe, store, device)
    finally:
        torch.set_num_threads(before)
    return max(gains, key=lambda count: gains[count])
