"""What a network costs: parameters, operations, and seconds a step on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from isthmus import build
from isthmus.data.pictures import Pictures
from isthmus.data.store import Store
from isthmus.recipe import Recipe
from isthmus.runs.machine import precision_here
from isthmus.runs.segmenter import Segmenter


@dataclass(frozen=True)
class Cost:
    """What a network costs."""

    parameters: int
    gflop: float
    """Billions of floating-point operations of one forward pass of one picture."""


def cost_of(network: nn.Module, size_px: int) -> Cost:
    """The cost of a network on one RGB picture of this height and width."""
    was_training = network.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, size_px, size_px))
    network.train(was_training)
    parameters = sum(weight.numel() for weight in network.parameters())
    return Cost(parameters, counter.get_total_flops() / 1e9)


def seconds_per_step(recipe: Recipe, store: Store) -> float:
    """The median wall time of a training step, from three steps after a first one."""
    pictures = Pictures(store, np.arange(len(store.names)), None, 0)
    num_classes = len(store.class_names)
    network = build.network_for(recipe.model, 3, num_classes)
    module = Segmenter(network.to(memory_format=torch.channels_last), recipe, num_classes, steps=4)
    module.on_train_epoch_start()
    optimiser = build.optimiser_for(recipe.train, network.parameters())
    precision = precision_here(recipe.train.precision)
    batch = next(iter(DataLoader(pictures, recipe.train.batch)))
    seconds = []
    for _ in range(4):
        began = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = module.training_step(batch, 0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.monotonic() - began)
    return float(np.median(seconds[1:]))
