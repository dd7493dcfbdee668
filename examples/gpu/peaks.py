"""What the GPU does at most at this moment, through PyTorch: the rates of large matrix products and of copies. Needs torch."""

from __future__ import annotations

import time
from functools import partial

import torch

from examples.gpu.torch_runs import Call, exact_products, finished

ROUNDS = 5
SIZES = {"cuda": (4096, 8192), "cpu": (256,)}
"""Of the square products; the best of these is the peak."""
COPIED = {"cuda": 1 << 30, "cpu": 1 << 24}
"""Bytes, many times the last cache."""

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def product_peak(dtype: str, device: str) -> float:
    """Floating-point operations a second of cuBLAS's fastest product of random matrices, f32 without TF32."""
    exact_products()
    found = []
    for size in SIZES[device]:
        left, right = (torch.randn(size, size, device=device, dtype=TYPES[dtype]) for _ in range(2))
        found.append(2.0 * size**3 / _seconds(partial(torch.matmul, left, right), device))
    return max(found)


def copy_rate(device: str) -> float:
    """Bytes read and written a second where a large array is copied."""
    source = torch.randint(0, 255, (COPIED[device],), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    moved = 2.0 * int(source.nbytes)
    return moved / _seconds(partial(target.copy_, source), device)


def _seconds(call: Call, device: str) -> float:
    """Of one call among several in a row, the best of some rounds: a peak is what no other work has slowed."""
    several = finished(lambda: [call() for _ in range(4)], device)
    several()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        several()
        times.append((time.perf_counter() - started) / 4)
    return min(times)
