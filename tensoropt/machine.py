"""The machine that figures come from: what it is, and how many whole cores it gives at this moment.

On a shared machine two processors may be two cores now and two halves of one core a minute later, and engines differ in how much
they suffer from it. So a benchmark says beside each figure what it had.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

DISTRIBUTIONS = {"tvm": "apache-tvm", "onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "torch"}
"""What versions are told of, where it is installed."""

ELEMENTS = 1 << 16
"""Of f32: 256 KiB in and out, which second-level caches hold."""

REPEATS = 1000


def describe() -> dict[str, str | int]:
    """The processor, its cores as this process may use them, and the versions that matter."""
    model = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {name: installed for name in DISTRIBUTIONS if (installed := installed_version(DISTRIBUTIONS[name]))}
    return {
        "processor": model,
        "cores": usable,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def whole_cores(threads: int, rounds: int = 3) -> float:
    """The throughput of so many threads of vector arithmetic over that of one: ``threads`` on as many whole cores, 1 on one."""
    time.sleep(0.1)  # engines' threads spin for a while after a call
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_work, range(threads)))
        found = []
        for _ in range(rounds):
            alone = _work(0)
            together = max(pool.map(_work, range(threads)))
            found.append(threads * alone / together)
    return statistics.median(found)


def _work(seed: int) -> float:
    values = np.linspace(0.1, 0.9, ELEMENTS, dtype=np.float32)
    result = np.empty_like(values)
    started = time.perf_counter()
    for _ in range(REPEATS):
        np.exp(values, out=result)
    return time.perf_counter() - started
