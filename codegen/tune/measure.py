"""The worker's side: build, run, compare and time alternatives. Started by ``codegen.tune.worker`` and by nothing else."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensoropt.check import random_feeds
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.error_analysis import CONFIDENCE, chain_length, unit_roundoff
from tensoropt.ir.expression import Tensor
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute, Program
from tensoropt.ir.structure import view_source
from tensoropt.plan_types import ALIGNMENT, Plan

ROUNDS = 7
SECONDS_A_ROUND = 0.02


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    limit = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not reach the parent
    import tvm  # noqa: F401  (the libraries are in place before memory is limited)

    statm = Path("/proc/self/statm")
    in_use = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (in_use + limit, in_use + limit))
    requests = os.fdopen(0, "rb")
    while head := requests.read(8):
        alternatives, target = pickle.loads(requests.read(int.from_bytes(head, "little")))

        def announce(position: int) -> None:
            _answer(answers, position)

        _answer(answers, measure(alternatives, target, announce))


def _answer(stream: Any, message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def measure(
    alternatives: Sequence[Alternative], target: Any, announce: Any = lambda position: None
) -> list[KernelCost]:
    """Seconds of each alternative, the median over rounds in which all take turns; wrong or unbuildable ones have failed.

    ``announce`` is told the position of each alternative before its code runs for the first time.
    """
    values: dict[str, Array] = {}
    costs: dict[int, KernelCost] = {}
    models: dict[int, tuple[Any, dict[str, Array]]] = {}
    expected: dict[str, Array] | None = None
    for position, alternative in enumerate(alternatives):
        announce(position)
        try:
            built, feeds = _build(alternative, target, values)
            model = built.model()
            outputs = model.run(feeds)
        except Exception as error:  # a candidate may fail in any way; the reason is kept
            costs[position] = KernelCost.failed(f"{type(error).__name__}: {error}"[:300])
            continue
        if position == 0:
            expected = outputs
        if expected is None:
            costs[position] = KernelCost.failed("the original could not be run, so there is nothing to compare with")
            continue
        wrong = _disagreement(alternatives[0], outputs, expected)
        if wrong:
            costs[position] = KernelCost.failed(wrong)
        else:
            models[position] = (model, feeds)
            costs[position] = KernelCost(0.0, built.arena_bytes)
    times: dict[int, list[float]] = {position: [] for position in models}
    for _ in range(ROUNDS):
        for position, (model, feeds) in models.items():
            times[position].append(_time(model, feeds))
    for position, found in times.items():
        costs[position] = KernelCost(sorted(found)[len(found) // 2], costs[position].workspace_bytes)
    return [costs[position] for position in range(len(alternatives))]


def _build(alternative: Alternative, target: Any, values: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The alternative as a program of its own. Equal names get equal random values in every alternative."""
    from codegen.build import compile_program

    produced = {tensor for kernel in alternative.kernels for tensor in kernel.outputs}
    read = dict.fromkeys(tensor for kernel in alternative.kernels for tensor in kernel.inputs if tensor not in produced)
    for tensor in read:
        if tensor.name not in values:
            values |= random_feeds([tensor], sum(tensor.name.encode()))
    constants = {tensor.name: values[tensor.name] for tensor in read if tensor.name in alternative.constants}
    inputs = tuple(tensor for tensor in read if tensor.name not in constants)
    kernels = []
    for kernel in alternative.kernels:  # what constants alone decide is no work of the model
        if isinstance(kernel, Compute) and kernel.inputs and all(tensor.name in constants for tensor in kernel.inputs):
            constants[kernel.output.name] = evaluate(kernel.expression, constants)
        else:
            kernels.append(kernel)
    program = Program("candidate", inputs, alternative.outputs, constants, tuple(kernels))
    offsets: dict[str, int] = {}
    aliases: dict[str, str] = {}
    arena = 0
    for kernel in kernels:
        source = view_source(kernel.expression) if isinstance(kernel, Compute) else None
        for tensor in kernel.outputs:
            if tensor in alternative.outputs:
                continue
            if isinstance(source, Tensor):
                aliases[tensor.name] = source.name
            else:
                offsets[tensor.name] = arena
                arena += -(-tensor.type.bytes // ALIGNMENT) * ALIGNMENT
    built = compile_program(program, Plan(offsets, arena, arena, aliases), target)
    return built, {tensor.name: values[tensor.name] for tensor in inputs}


def _disagreement(original: Alternative, outputs: dict[str, Array], expected: dict[str, Array]) -> str:
    """Why an alternative's outputs are wrong; empty where rounding explains every difference."""
    for tensor in original.outputs:
        difference = np.abs(outputs[tensor.name].astype(np.float64) - expected[tensor.name].astype(np.float64))
        scale = float(np.abs(expected[tensor.name].astype(np.float64)).max(initial=0.0))
        length = sum(chain_length(kernel.expression) for kernel in original.kernels if isinstance(kernel, Compute))
        allowed = 4 * CONFIDENCE * length * unit_roundoff(tensor.dtype) * scale
        if not float(difference.max(initial=0.0)) <= allowed:
            return f"its output {tensor.name} differs by {difference.max():.3g}, rounding explains {allowed:.3g}"
    return ""


def _time(model: Any, feeds: dict[str, Array]) -> float:
    """Seconds of a run, averaged over as many as a round takes."""
    model.run(feeds)
    calls, started = 0, time.perf_counter()
    while True:
        model.run(feeds)
        calls += 1
        elapsed = time.perf_counter() - started
        if elapsed > SECONDS_A_ROUND:
            return elapsed / calls


if __name__ == "__main__":
    main()
