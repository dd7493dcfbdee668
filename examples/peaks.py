"""What the machine can do at most at this moment, by a C program: multiply-adds from registers, and bytes read and written.

Compiled with the system's C compiler for this processor (``cc -O3 -march=native``, or what ``CC`` says). Each figure is the best of
some rounds on all threads, which the program starts itself.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = r"""
#include <pthread.h>
#include <stddef.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#define SUMS 12  /* independent, so that two multiply-adds a cycle of latency 4 have work */

typedef float vector __attribute__((vector_size(WIDTH)));
typedef struct { long steps; const float *from; size_t reads; float *to; size_t writes; float result; } share;

static void *multiply(void *argument) {
    share *mine = argument;
    vector sums[SUMS], a, b;
    for (int lane = 0; lane < WIDTH / 4; ++lane) { a[lane] = 0.999f; b[lane] = 0.001f * lane; }
    for (int i = 0; i < SUMS; ++i) sums[i] = b + (float)i;
    for (long step = 0; step < mine->steps; ++step)
        for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * a + b;
    mine->result = 0;
    for (int i = 0; i < SUMS; ++i)
        for (int lane = 0; lane < WIDTH / 4; ++lane) mine->result += sums[i][lane];
    return 0;
}

static void *move(void *argument) {
    share *mine = argument;
    const vector *from = (const vector *)mine->from;
    vector *to = (vector *)mine->to;
    size_t reads = mine->reads / WIDTH, writes = mine->writes / WIDTH;
    size_t parts = writes ? writes / 64 + 1 : reads / 64 + 1, read = 0, written = 0;
    vector sums[4] = {{0}};
    for (size_t part = 1; part <= parts; ++part) {  /* reads and writes in proportion, as a kernel has them */
        size_t end = reads * part / parts, stop = writes * part / parts;
        for (; read + 4 <= end; read += 4)
            for (int i = 0; i < 4; ++i) sums[i] += from[read + i];
        for (; written < stop; ++written) to[written] = sums[0];
    }
    sums[0] += sums[1] + sums[2] + sums[3];
    mine->result = sums[0][0];
    return 0;
}

static float run(void *(*work)(void *), share *shares, int threads) {
    pthread_t started[256];
    float result = 0;
    for (int t = 1; t < threads; ++t) pthread_create(&started[t], 0, work, &shares[t]);
    work(&shares[0]);
    for (int t = 1; t < threads; ++t) pthread_join(started[t], 0);
    for (int t = 0; t < threads; ++t) result += shares[t].result;
    return result;
}

int flops_of_a_step(void) { return 2 * SUMS * WIDTH / 4; }

float multiply_on(int threads, long steps) {
    share shares[256];
    for (int t = 0; t < threads; ++t) shares[t].steps = steps;
    return run(multiply, shares, threads);
}

float move_on(int threads, const float *from, size_t reads, float *to, size_t writes) {
    share shares[256];
    size_t in = reads / threads / WIDTH * WIDTH, out = writes / threads / WIDTH * WIDTH;
    for (int t = 0; t < threads; ++t)
        shares[t] = (share){0, from + t * in / 4, in, to + t * out / 4, out, 0};
    return run(move, shares, threads);
}
"""

ROUNDS = 5


def multiply_add_peak(threads: int) -> float:
    """Floating-point operations a second in f32, a multiply-add counting two."""
    library = _library()
    steps = 4_000_000
    seconds = _best(lambda: library.multiply_on(threads, steps))
    return float(library.flops_of_a_step()) * steps * threads / seconds


def moving_seconds(reads: int, writes: int, threads: int) -> float:
    """The least seconds in which so many bytes are read and so many others written, found again where caches hold them."""
    library = _library()
    source, target = (_aligned(size) for size in (reads, writes))
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (source, target)]
    return _best(
        lambda: library.move_on(threads, pointers[0], ctypes.c_size_t(reads), pointers[1], ctypes.c_size_t(writes))
    )


def _aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Zero bytes, all of them in memory, from a cache line on."""
    raw = np.ones(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + size]
    array[:] = 0
    return array


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


@cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="tensoropt-peaks-") as folder:
        source, library = Path(folder) / "peaks.c", Path(folder) / "peaks.so"
        source.write_text(SOURCE)
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-tree-loop-distribute-patterns", "-pthread"]
        command = [os.environ.get("CC", "cc"), *flags, "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True)
        loaded = ctypes.CDLL(str(library))
    loaded.multiply_on.restype = loaded.move_on.restype = ctypes.c_float
    loaded.multiply_on.argtypes = [ctypes.c_int, ctypes.c_long]
    loaded.move_on.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    return loaded
