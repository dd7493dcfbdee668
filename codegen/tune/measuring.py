"""The measuring process: builds alternatives, runs them on seeded inputs, compares and times them. Started by ``worker``.

Requests and replies are pickled over one connection. Whatever goes wrong here, the process that asked goes on.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from codegen.build import BuiltProgram, compile_program
from codegen.runtime import load_runtime
from codegen.tune.requests import Build, Forget, Time
from tensoropt.cost import Alternative
from tensoropt.ir.constant_values import constant_value
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.structure import view_source
from tensoropt.plan_types import ALIGNMENT, Plan

TOLERANCE = 1e-3
"""Largest difference from the reference alternative, as a share of its maximum: another order of summation, not another result."""


def seeded(tensor: Tensor) -> Array:
    """Reproducible values: standard normal floats, small non-negative integers, coin flips."""
    digest = hashlib.blake2b(f"{tensor.name} {tensor.type}".encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest))
    shape = tuple(int(extent) for extent in tensor.shape)
    if tensor.dtype.is_float:
        return generator.standard_normal(shape, np.float32).astype(tensor.dtype.numpy)
    return generator.integers(0, 2, shape).astype(tensor.dtype.numpy)


def as_program(alternative: Alternative) -> tuple[Program, Plan]:
    """The alternative as a program of its own, every value in a place of its own."""
    made = {output for kernel in alternative.kernels for output in kernel.outputs}
    read = {tensor: None for kernel in alternative.kernels for tensor in kernel.inputs if tensor not in made}
    constants = {tensor.name: seeded(tensor) for tensor in read if tensor.name in alternative.constants}
    inputs = tuple(tensor for tensor in read if tensor.name not in constants)
    kernels: list[Statement] = []
    for kernel in alternative.kernels:  # what constants alone decide is no work of the model
        if isinstance(kernel, Compute) and kernel.inputs and all(tensor.name in constants for tensor in kernel.inputs):
            constants[kernel.output.name] = constant_value(kernel.expression, constants)
        else:
            kernels.append(kernel)
    offsets: dict[str, int] = {}
    aliases: dict[str, str] = {}
    size = 0
    for kernel in kernels:
        source = view_source(kernel.expression) if isinstance(kernel, Compute) else None
        for tensor in kernel.outputs:
            if tensor in alternative.outputs:
                continue
            if isinstance(source, Tensor):
                aliases[tensor.name] = source.name
            else:
                offsets[tensor.name] = size
                size += -(-tensor.type.bytes // ALIGNMENT) * ALIGNMENT
    program = Program("measured", inputs, alternative.outputs, constants, tuple(kernels))
    return program, Plan(offsets, size, size, aliases)


class _Bench:
    """What is built in this process."""

    def __init__(self) -> None:
        self.built: dict[int, tuple[BuiltProgram, dict[str, Array]]] = {}
        self.reference: dict[str, Array] = {}

    def build(self, request: Build) -> tuple[str, Any]:
        program, plan = as_program(request.alternative)
        built = compile_program(program, plan, request.target, variants=request.variants)
        feeds = {tensor.name: seeded(tensor) for tensor in program.inputs}
        results = built.model().run(feeds)
        if request.number == 0:
            self.reference = results
        else:
            for name, expected in self.reference.items():
                wrong = _difference(results.get(name), expected)
                if wrong:
                    return "failed", f"{name} {wrong}"
        self.built[request.number] = built, feeds
        return "built", built.signature.arena_bytes

    def time(self, request: Time) -> tuple[str, Any]:
        runs = [self.built[number] for number in request.numbers]
        times: list[list[float]] = [[] for _ in runs]
        deadline = time.perf_counter() + request.seconds
        for built, feeds in runs:
            built.model().run(feeds)
        while time.perf_counter() < deadline or len(times[0]) < 3:
            for position, (built, feeds) in enumerate(runs):
                for _ in range(2):
                    started = time.perf_counter()
                    built.model().run(feeds)
                    lasted = time.perf_counter() - started
                times[position].append(lasted)
            if len(times[0]) >= 200:
                break
        return "timed", [min(taken) for taken in times]  # on a busy machine only the fastest runs say something

    def serve(self, request: Any) -> tuple[str, Any]:
        match request:
            case Build():
                return self.build(request)
            case Time():
                return self.time(request)
            case Forget():
                self.built.clear()
                self.reference = {}
                return "forgotten", None
            case _:
                return "failed", f"no such request: {request!r}"


def _difference(actual: Array | None, expected: Array) -> str:
    if actual is None or actual.shape != expected.shape:
        return "has another shape"
    ours, theirs = actual.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return "differs in NaN"
    with np.errstate(all="ignore"):
        gap = np.nanmax(np.abs(ours - theirs), initial=0.0)
        scale = np.nanmax(np.abs(theirs), initial=0.0)
    return f"differs by {gap:.3g} of {scale:.3g}" if gap > TOLERANCE * max(scale, 1e-30) else ""


def main(arguments: Iterable[str]) -> None:
    """Serves one connection (a file descriptor) until it closes, within a limit of address space in bytes."""
    descriptor, limit = (int(argument) for argument in arguments)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    load_runtime()
    connection = Connection(descriptor)
    bench = _Bench()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            reply = bench.serve(request)
        except MemoryError:
            reply = "failed", "ran out of memory"
        except Exception as error:  # a candidate that does not compile must not end the process
            reply = (
                "failed",
                f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}",
            )
        connection.send(reply)


if __name__ == "__main__":
    main(sys.argv[1:])
