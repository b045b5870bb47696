"""Precision and hardware of this machine, and the versions of what runs on it."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from isthmus.engine.run_result import Environment

_PACKAGE = Path(__file__).parents[1]

Precision = Literal["bf16", "float32"]


def precision_here(wanted: Literal["auto", "bf16", "float32"]) -> Precision:
    """The precision to train in: "auto" means bf16 where the hardware supports it, else float32.

    A CPU without bf16 instructions emulates them, which is many times slower than float32.
    """
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def autocast(precision: Precision) -> AbstractContextManager[object]:
    """A context in which networks on the CPU compute in this precision.

    On a machine with a GPU the CPU evaluates and times networks, always in float32.
    """
    is_wanted = precision == "bf16" and not torch.cuda.is_available()
    return torch.autocast("cpu", torch.bfloat16, enabled=is_wanted)


def environment(precision: Precision, content: str, prepared: Mapping[str, str]) -> Environment:
    """The record of versions, hardware and precision that a run keeps.

    Args:
        precision: Of training, from ``precision_here``.
        content: Hash of the run's images.
        prepared: What ``Task.prepare`` returned.
    """
    names = ("isthmus", "torch", "torchvision", "lightning", "numpy", "pillow")
    return Environment(
        versions={name: version(name) for name in names} | {"python": sys.version.split()[0]},
        commit=_commit(),
        code=_code_hash(),
        platform=platform.platform(),
        processor=str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        vector_instructions=torch.backends.cpu.get_cpu_capability(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        threads=torch.get_num_threads(),
        precision=precision,
        content=content,
        prepared=dict(prepared),
    )


@functools.cache
def _commit() -> str:
    """The git commit of the checkout that isthmus runs from; empty if it is installed."""
    git = ("git", "-C", str(_PACKAGE), "rev-parse", "HEAD")
    try:
        if not (_PACKAGE.parents[1] / ".git").exists():
            return ""
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@functools.cache
def _code_hash() -> str:
    """Hash of isthmus's source files, twelve hex digits."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.relative_to(_PACKAGE).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]
