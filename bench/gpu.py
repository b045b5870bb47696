"""Measures isthmus on one GPU in about ten minutes: speed, resuming, and agreement with the CPU.

    python bench/gpu.py                     everything, on the GPU
    python bench/gpu.py --device cpu --toy  the same at toy size, to check this script without a GPU
    python bench/versions.py OLD NEW        two versions of the training loop, interleaved

Prints a table; each line says what was measured, the median and the range of the repetitions.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from isthmus.engine.device import Device, device_for
from isthmus.engine.fit import fit
from isthmus.engine.loaders import TrainingBatches, split_for
from isthmus.engine.run_folder import RunFolder
from isthmus.engine.task_module import optimiser_for
from isthmus.engine.train import train_run
from isthmus.recipe import Recipe
from isthmus.tasks import recipe_from, task_of

REPETITIONS = 3


def unet(width: int, batch: int, size_px: int, count: int) -> Recipe:
    """The recipe of a U-Net on generated scenes."""
    tables = {"data": {"count": count, "size_px": size_px}, "model": {"width": width}}
    return recipe_from(tables | {"train": {"batch": batch, "epochs": 1, "lr": 1e-4}})


def vae(batch: int) -> Recipe:
    """The recipe of a VAE on handwritten digits."""
    return recipe_from({"task": "generate", "train": {"batch": batch, "epochs": 1}})


def finish(device: Device) -> None:
    """Wait for the device."""
    if device.torch_device.type == "cuda":
        torch.cuda.synchronize()


def rate(step: Callable[[], int], seconds: float, device: Device) -> list[float]:
    """Images per second of ``step``, which returns the number of its images, in each repetition."""
    for _ in range(3):
        step()
    rates = []
    for _ in range(REPETITIONS):
        finish(device)
        began, images = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            images += sum(step() for _ in range(4))
        finish(device)
        rates.append(images / (time.monotonic() - began))
    return rates


def speeds(recipe: Recipe, device: Device, seconds: float) -> dict[str, list[float]]:
    """Images per second with input, without it, and of a bare loop of the same network.

    "bare": forward and backward pass on one batch that is on the device, without augmentation, sums,
    schedule or any code of the training loop.
    """
    task = task_of(recipe)
    store = task.open_store(recipe.data)
    torch.manual_seed(0)
    module = task.new_module(recipe, store, 10**6).to(device.torch_device)
    optimiser = optimiser_for(recipe.train, module.parameters())
    batches = TrainingBatches(
        recipe, store, split_for(recipe, store, 0).train, 0, device.torch_device
    )
    epochs: Iterator[Any] = itertools.chain.from_iterable(map(batches.epoch, itertools.count()))
    fixed = next(batches.epoch(0))

    def step(batch: Any) -> int:
        with device.autocast():
            loss, _ = module(batch, "train")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return len(batch["index"])

    image = fixed["image"].contiguous(memory_format=torch.channels_last)
    inputs = (image, *(of.to(device.torch_device) for of in module.example_inputs()[1:]))
    inputs = (image, *(of.expand(len(image), *of.shape[1:]) for of in inputs[1:]))

    def bare() -> int:
        with device.autocast():
            output = module.network(*inputs)
            loss = (output if isinstance(output, torch.Tensor) else output.params).float().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return len(image)

    return {
        "with input": rate(lambda: step(next(epochs)), seconds, device),
        "without": rate(lambda: step(fixed), seconds, device),
        "bare loop": rate(bare, seconds, device),
    }


def matrix_rate(device: Device, size: int) -> float:
    """Floating-point operations per second of a large matrix product in the precision of training."""
    dtype = torch.bfloat16 if device.precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device.torch_device, dtype=dtype)
    products = rate(lambda: (a @ a, 1)[1], 1.0, device)
    return float(np.median(products)) * 2 * size**3


def resumes(recipe: Recipe, device: Device) -> tuple[bool, bool]:
    """Whether a run that is cut after an epoch ends with the same bits; and whether two runs do."""
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, epochs=3))
    store = task_of(recipe).open_store(recipe.data)

    def weights(place: Path, cut_after: int | None) -> dict[str, torch.Tensor]:
        steps = 0

        def cut(done: int, of: int, _: str) -> None:
            nonlocal steps
            steps = done
            if cut_after is not None and done > cut_after * of // 3 + 1:
                raise KeyboardInterrupt

        try:
            trained = fit(store, recipe, 0, RunFolder(place), device, on_progress=cut)
        except KeyboardInterrupt:
            trained = fit(store, recipe, 0, RunFolder(place), device)
        return {key: of.cpu() for key, of in trained.module.state_dict().items()}

    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("whole", "again", "cut")]
        for place in places:
            place.mkdir()
        whole, again = weights(places[0], None), weights(places[1], None)
        cut = weights(places[2], 1)

    def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(a[key], b[key]) for key in a)

    return equal(whole, cut), equal(whole, again)


def waits(recipe: Recipe, device: Device) -> str:
    """Whether a training step waits for the GPU, by torch's own debug mode."""
    if device.torch_device.type != "cuda":
        return "not on a GPU"
    task = task_of(recipe)
    store = task.open_store(recipe.data)
    module = task.new_module(recipe, store, 100).to(device.torch_device)
    optimiser = optimiser_for(recipe.train, module.parameters())
    batches = TrainingBatches(
        recipe, store, split_for(recipe, store, 0).train, 0, device.torch_device
    )
    epoch = batches.epoch(0)
    for number, batch in enumerate(epoch):
        if number == 2:
            torch.cuda.set_sync_debug_mode("error")
        try:
            with device.autocast():
                loss, _ = module(batch, "train")
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        except RuntimeError as error:
            return f"waits: {error}"
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if number == 4:
            break
    return "never waits"


def agreement(recipe: Recipe, device: Device, seeds: int) -> str:
    """The first metric on this device and on the CPU: paired differences over seeds."""
    differences = []
    name = task_of(recipe).verdict_metrics([recipe])[0]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            values = []
            for where in (device.torch_device.type, "cpu"):
                place = RunFolder(Path(folder) / f"{where}-{seed}")
                shared = Path(folder) / f"shared-{where}"
                result = train_run(recipe, seed, place, device=where, shared=shared)  # type: ignore[arg-type]
                values.append(result.metrics[name])
            differences.append(values[0] - values[1])
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    return f"{name}: {mean:+.4f} ± {sd / np.sqrt(seeds):.4f} (standard error, n = {seeds} seeds)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--toy", action="store_true")
    asked = parser.parse_args()
    device = device_for(asked.device, "auto")
    print(f"torch {torch.__version__}, {device}")
    if device.torch_device.type == "cuda":
        print(torch.cuda.get_device_name())
    toy = asked.toy
    seconds, size_px, count = (0.2, 32, 60) if toy else (3.0, 128, 1500)
    flops = matrix_rate(device, 512 if toy else 8192)
    print(f"matrix product: {flops / 1e12:.3g} TFLOP/s in {device.precision}")
    rows = []
    networks = [
        (f"U-Net {w}, batch {b}", unet(w, b, size_px, count))
        for w in (16, 32, 64)
        for b in (8, 64, 512)
    ]
    networks += [(f"VAE, batch {batch}", vae(batch)) for batch in (256, 2048)]
    for name, recipe in networks[:: 4 if toy else 1]:
        measured = speeds(recipe, device, seconds)
        row = {"network": name}
        for kind, rates in measured.items():
            row[kind] = f"{np.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
        with_input, without = (np.median(measured[kind]) for kind in ("with input", "without"))
        rows.append(row | {"input costs": f"{1 - with_input / without:.1%}"})
    print(pd.DataFrame(rows).to_string(index=False))
    small = unet(16, 8, 32 if toy else 64, 60 if toy else 200)
    for recipe in (small, vae(256)):
        print(f"{recipe.task}: a step {waits(recipe, device)}")
        same, twice = resumes(recipe, device)
        print(f"{recipe.task}: resumed run equal to the bit: {same}; two runs: {twice}")
        if not twice:
            train = dataclasses.replace(recipe.train, deterministic=True)
            same, twice = resumes(dataclasses.replace(recipe, train=train), device)
            print(f"{recipe.task}, deterministic = true: resumed run: {same}; two runs: {twice}")
    for recipe in () if toy else (small, vae(256)):
        longer = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, epochs=8))
        print(
            f"{recipe.task}, {device.torch_device.type} against CPU, {agreement(longer, device, 3)}"
        )


if __name__ == "__main__":
    main()
