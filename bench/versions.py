"""Compares the training speed of two versions of isthmus: images per second of whole epochs, interleaved.

    python bench/versions.py OLD/src NEW/src --repetitions 3
    python bench/versions.py OLD/src NEW/src --toy        to check this script

Each version trains the same recipe by ``isthmus train``, in turns; the time of an epoch is what its
``metrics.csv`` says (training with input and metrics, and validation), without the first epoch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

UNET = """
data = {{ name = "demo-scenes", count = {count}, size_px = {size} }}
model = {{ width = 16 }}
train = {{ epochs = {epochs}, batch = {batch} }}
"""
VAE = """
task = "generate"
data = {{ name = "{digits}", limit = {count} }}
train = {{ epochs = {epochs}, batch = 256 }}
measure = {{ judge_epochs = 1, judge_width = 4, importance_samples = 1 }}
"""


def seconds_per_epoch(source: Path, recipe: Path, out: Path) -> float:
    """Median time of the epochs after the first, of a run by the version in this src folder."""
    command = [sys.executable, "-m", "isthmus.cli.main"]
    if not (source / "isthmus/cli/main.py").exists():  # the first round
        command = [
            sys.executable,
            "-c",
            "import sys; from isthmus.cli import main; sys.exit(main())",
        ]
    words = ["train", str(recipe), "--out", str(out)]
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "ISTHMUS_CACHE": str(out.parent / "cache"),
    }
    done = subprocess.run(
        [*command, *words], env=environment, capture_output=True, text=True, check=False
    )
    table = next(out.glob("runs/*/seed-0/metrics.csv"), None)
    if table is None:
        sys.exit(f"{source}: {done.stderr}")
    return float(pd.read_csv(table)["seconds"].iloc[1:].median())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--digits", default="demo-digits", help="mnist, with ISTHMUS_DATA set")
    asked = parser.parse_args()
    count, size, epochs = (40, 32, 2) if asked.toy else (160, 128, 3)
    images = 400 if asked.toy else 12_000
    recipes = {
        f"U-Net, batch {batch}": UNET.format(count=count, size=size, epochs=epochs, batch=batch)
        for batch in (8, 32)
    }
    recipes["VAE, batch 256"] = VAE.format(digits=asked.digits, count=images, epochs=epochs)
    for name, text in recipes.items():
        ratios, times = [], []
        for _ in range(asked.repetitions):
            with tempfile.TemporaryDirectory() as folder:
                recipe = Path(folder) / "recipe.toml"
                recipe.write_text(text, encoding="utf-8")
                pair = [
                    seconds_per_epoch(source.resolve(), recipe, Path(folder) / str(place))
                    for place, source in enumerate((asked.old, asked.new))
                ]
            ratios.append(pair[0] / pair[1])
            times.append(pair)
        old, new = np.median(times, axis=0)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}"
        print(
            f"{name}: epoch {old:.2f} s and {new:.2f} s, speed x {np.median(ratios):.3f} ({spread})",
            flush=True,
        )


if __name__ == "__main__":
    main()
