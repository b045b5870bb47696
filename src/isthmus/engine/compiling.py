"""Whether torch.compile saves time in a run: its warm-up against what it gains in all steps."""

from __future__ import annotations

import copy
import time

import numpy as np

from isthmus.data.batches import Batch
from isthmus.engine.device import Device
from isthmus.engine.task_module import TaskModule

WORTH_MEASURING_S = 120.0
"""Shorter runs are not compiled by "auto": a warm-up takes about a minute."""

_STEPS = 5


def compile_network(module: TaskModule, device: Device) -> None:
    """Let torch.compile translate the module's network when it is first called.

    CUDA graphs replay its kernels on a GPU. The names of its weights stay as they are.
    """
    mode = "reduce-overhead" if device.torch_device.type == "cuda" else None
    module.network.compile(dynamic=False, mode=mode)


def saves_time(module: TaskModule, batch: Batch, steps: int, device: Device) -> tuple[bool, str]:
    """Whether compiling saves time in so many training steps, and the measurement in words.

    Measures copies of the module on one batch. Draws from torch's global generators.
    """
    eager = _seconds(copy.deepcopy(module), batch, device)
    if eager * steps < WORTH_MEASURING_S:
        return False, f"not compiled: {steps} steps of {eager:.3g} s are too few to gain from it"
    compiled = copy.deepcopy(module)
    compile_network(compiled, device)
    began = time.monotonic()
    _step(compiled, batch, device)
    warm_up = time.monotonic() - began
    faster = _seconds(compiled, batch, device)
    gain = (eager - faster) * steps - warm_up
    told = f"a step takes {faster:.3g} s compiled, {eager:.3g} s not, warm-up {warm_up:.0f} s"
    return gain > 0, f"{'compiled' if gain > 0 else 'not compiled'}: {told}"


def _seconds(module: TaskModule, batch: Batch, device: Device) -> float:
    """Median wall time of a step, after one to warm up."""
    seconds = []
    for _ in range(_STEPS):
        began = time.monotonic()
        _step(module, batch, device)
        seconds.append(time.monotonic() - began)
    return float(np.median(seconds[1:]))


def _step(module: TaskModule, batch: Batch, device: Device) -> None:
    """Forward and backward pass, and wait for the device."""
    with device.autocast():
        loss, _ = module(batch, "train")
    loss.backward()
    float(loss.detach())
