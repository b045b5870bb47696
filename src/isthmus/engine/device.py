"""What this machine can do, decided once and written down."""

from __future__ import annotations

import platform
import sys
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Literal

import torch

Precision = Literal["bf16", "float32"]


def precision_here(wanted: Literal["auto", "bf16", "float32"]) -> Precision:
    """The precision that training uses: "auto" takes bf16 only where the hardware has it.

    A processor without bf16 instructions emulates them and is then many times slower.
    """
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def autocast(precision: Precision) -> AbstractContextManager[object]:
    """A context in which networks on the processor compute in this precision.

    Where a GPU trains, the processor still metrics and times, and does so in float32.
    """
    is_wanted = precision == "bf16" and not torch.cuda.is_available()
    return torch.autocast("cpu", torch.bfloat16, enabled=is_wanted)


def environment(precision: Precision) -> dict[str, str | int]:
    """Versions, hardware and precision, as a run writes them down."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    packages = ("isthmus", "torch", "torchvision", "lightning", "numpy")
    return {
        **{package: version(package) for package in packages},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }
