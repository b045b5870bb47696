"""Where a run is computed and in which precision, and the versions and hardware it records."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from isthmus.engine.run_result import Environment
from isthmus.engine.task import DeviceName
from isthmus.errors import UserError
from isthmus.recipe.registry import Origin

_PACKAGE = Path(__file__).parents[1]

Precision = Literal["bf16", "float32"]


@dataclass(frozen=True)
class Device:
    """Where a run is computed and in which precision; decided once, recorded with the run."""

    torch_device: torch.device
    precision: Precision

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which networks compute in this precision."""
        return torch.autocast(
            self.torch_device.type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
            cache_enabled=False,
        )

    def draws(self, seed: int) -> torch.Generator:
        """A new generator of random numbers on this device."""
        return torch.Generator(self.torch_device).manual_seed(seed)


@contextmanager
def determinism(*, wanted: bool) -> Iterator[None]:
    """A context with operations whose result is the same every time; it changes nothing if not wanted."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS demands
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


CPU = Device(torch.device("cpu"), "float32")


def device_for(name: DeviceName, precision: Literal["auto", "bf16", "float32"]) -> Device:
    """The device of that name and the precision to train in.

    "auto" is a CUDA GPU if there is one, else the CPU; Apple's GPU (MPS) has to be asked for.
    Precision "auto" is bf16 where the hardware computes in it, else float32: a CPU without bf16
    instructions emulates them, which is many times slower than float32.

    Raises:
        UserError: If there is no such device.
    """
    has_cuda = torch.cuda.is_available()
    chosen = ("cuda" if has_cuda else "cpu") if name == "auto" else name
    if (chosen == "cuda" and not has_cuda) or (
        chosen == "mps" and not torch.backends.mps.is_available()
    ):
        raise UserError(
            f"--device {chosen}: PyTorch finds no such device on this machine; "
            "leave out --device, or use --device cpu"
        )
    if precision == "auto":
        precision = "bf16" if _computes_bf16(chosen) else "float32"
    return Device(torch.device(chosen), precision)


def _computes_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return device == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def environment(
    device: Device, content: str, prepared: Mapping[str, str], parts: Mapping[str, Origin]
) -> Environment:
    """The record of versions, hardware and precision that a run keeps.

    Args:
        device: From ``device_for``.
        content: Hash of the run's images.
        prepared: What ``Task.prepare`` returned.
        parts: From ``parts_from_outside``.
    """
    names = ("isthmus", "torch", "torchvision", "lightning-fabric", "numpy", "pillow")
    return Environment(
        versions={name: version(name) for name in names} | {"python": sys.version.split()[0]},
        commit=_commit(),
        code=_code_hash(),
        platform=platform.platform(),
        processor=str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        vector_instructions=torch.backends.cpu.get_cpu_capability(),
        device=device.torch_device.type,
        gpu=torch.cuda.get_device_name() if device.torch_device.type == "cuda" else "none",
        threads=torch.get_num_threads(),
        precision=device.precision,
        content=content,
        prepared=dict(prepared),
        parts=dict(parts),
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
