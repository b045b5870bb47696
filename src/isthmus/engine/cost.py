"""Cost of a network: parameters, operations, and seconds per training step on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from isthmus.data.batches import Batches
from isthmus.data.store import Store
from isthmus.engine.device import Device
from isthmus.engine.task import task_of
from isthmus.engine.task_module import TaskModule, optimiser_for
from isthmus.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """Number of parameters, and billions of floating-point operations (forward pass, one image)."""

    parameters: int
    gflop: float


def cost_of(module: TaskModule) -> Cost:
    """The cost of a module's network."""
    network = module.network
    was_training = network.training
    device = next(network.parameters()).device
    inputs = [of.to(device) for of in module.example_inputs()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(*inputs)
    network.train(was_training)
    parameters = sum(weight.numel() for weight in network.parameters())
    return Cost(parameters, counter.get_total_flops() / 1e9)


def seconds_per_step(recipe: Recipe, store: Store, device: Device) -> float:
    """Median wall time of three training steps on this device, after one to warm up."""
    module = task_of(recipe).new_module(recipe, store, steps=4).to(device.torch_device)
    optimiser = optimiser_for(recipe.train, module.parameters())
    rows = np.arange(min(len(store.names), recipe.train.batch))
    batch = next(Batches(store.columns, rows, device.torch_device)(len(rows)))
    seconds = []
    for _ in range(4):
        began = time.monotonic()
        with device.autocast():
            loss, sums = module(batch, "train")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        float(sums["loss"])  # waits for the device
        seconds.append(time.monotonic() - began)
    return float(np.median(seconds[1:]))
