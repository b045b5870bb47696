"""Runs the tests that train as other processors would round, and with other draws.

``make test-processors`` runs them under every setting below, ``.ci/run`` a few under one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SETTINGS: dict[str, dict[str, str]] = {
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn-avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "threads-2": {"OMP_NUM_THREADS": "2"},
    "threads-4": {"OMP_NUM_THREADS": "4"},
    "draws-1": {"ISTHMUS_TEST_SEED": "1"},
    "draws-2": {"ISTHMUS_TEST_SEED": "2"},
    "draws-3": {"ISTHMUS_TEST_SEED": "3"},
    "no-avx512": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "no-avx512-threads-2-draws-1": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OMP_NUM_THREADS": "2",
        "ISTHMUS_TEST_SEED": "1",
    },
}
"""One thing at a time, then several: what differs from ``make test``."""

QUICK = ("tests/test_cas.py", "tests/test_generate.py", "tests/test_probe.py")
"""Files whose tests look at learned numbers, in a minute or two."""


def closing_line(setting: str, files: Sequence[str]) -> tuple[int, str]:
    """The exit status of pytest under one setting, and its last line; prints all of it if it fails."""
    changed = SETTINGS[setting]
    workers = max(1, (os.cpu_count() or 1) // int(changed.get("OMP_NUM_THREADS", "1")))
    words = [sys.executable, "-m", "pytest", *files, "-m", "trains and not slow"]
    words += ["--numprocesses", str(min(4, workers)), "--dist", "loadfile"]
    done = subprocess.run(
        words, env=os.environ | changed, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode, (done.stdout.strip() or "pytest said nothing").splitlines()[-1]


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the settings and run nothing")
    parser.add_argument("--quick", action="store_true", help="only the files of QUICK")
    parser.add_argument("--only", metavar="NAME", choices=SETTINGS, help="one setting")
    parser.add_argument("--pick", metavar="HASH", help="one setting, chosen by a commit's hash")
    asked = parser.parse_args(words)
    chosen = list(SETTINGS)
    if asked.pick:
        chosen = [chosen[int(asked.pick, 16) % len(chosen)]]
    if asked.only:
        chosen = [asked.only]
    statuses = []
    for name in chosen:
        about = " ".join(f"{key}={value}" for key, value in SETTINGS[name].items())
        if asked.list:
            print(f"{name}: {about}")
            continue
        status, line = closing_line(name, QUICK if asked.quick else ("tests",))
        statuses.append(status)
        print(f"{name} ({about}): {line}", flush=True)
    return int(any(statuses))


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    sys.exit(main(sys.argv[1:]))
