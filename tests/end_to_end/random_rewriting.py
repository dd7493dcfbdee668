"""Random graphs through the whole pipeline: `python -m tests.end_to_end.random_rewriting [--graphs N] [--seed S]`.

Every candidate that derivation finds may be taken: costs are random numbers, so graphs are really rewritten, whatever pays. The
program of kernels is run by the interpreter and compared with ``onnx.reference``; some graphs are compiled for real too. Where
``onnx.reference`` fails or ONNX Runtime contradicts it (both happen for transposed convolutions with groups), ONNX Runtime decides,
and that is counted. Graph number n of seed S is the same on every run: `--graph n` runs it alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

import tensoropt
from passes import pipeline
from passes.combine import chains, shared
from passes.derive.candidate import SearchLimits
from passes.select import EFFORTS, Effort
from tensoropt.cost import Alternative, KernelCost
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Statement
from tensoropt.pass_manager import Context
from tests.strategies.random_graphs import Feeds, random_model

Arrays = list[np.ndarray[Any, Any]]

_STATES = 40
_TOLERANCE = 2e-4


class RandomCosts:
    """A cost model that knows nothing: what is taken is left to chance. What was written first is seldom the cheapest."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """Any number."""
        return KernelCost(1e-3 * (1 + self._random.random()))

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """Any numbers, the first one's mostly high."""
        costs = [self._random.random() for _ in alternatives]
        costs[0] += self._random.choice((0.0, 1.0, 1.0))
        return [KernelCost(1e-3 * (1 + cost)) for cost in costs]


@dataclass(slots=True)
class Tally:
    """What was done, and what went wrong."""

    graphs: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0
    derivations: int = 0
    patterns: Counter[str] = field(default_factory=Counter)
    compiled: int = 0
    reference_failed: int = 0
    reference_contradicted: int = 0
    problems: list[str] = field(default_factory=list)


def run_graph(seed: int, number: int, tally: Tally, compiled: bool = False) -> None:
    """One graph, and for real too where ``compiled``."""
    name = f"{seed}/{number}"
    model, feeds = random_model(name)
    tally.graphs += 1
    tally.nodes.update(node.op_type for node in model.graph.node)
    wanted = expected(model, feeds, tally)
    try:
        found = rewritten(model, feeds, Random(name), tally)
        _compare(f"graph {name}, rewritten", model, found, wanted, tally)
        if compiled:
            tally.compiled += 1
            _compare(f"graph {name}, compiled", model, _compiled(model, feeds), wanted, tally)
    except Exception as error:  # a crash is a problem of this graph, the others go on
        tally.problems.append(f"graph {name}: {type(error).__name__}: {error}")


def expected(model: onnx.ModelProto, feeds: Feeds, tally: Tally) -> Arrays:
    """What the outputs should be."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    measured: Arrays = session.run(None, feeds)
    try:
        defined = [np.asarray(found) for found in ReferenceEvaluator(model).run(None, feeds)]
    except (ValueError, IndexError, NotImplementedError, RuntimeError, TypeError):
        tally.reference_failed += 1
        return measured
    if all(_is_near(one, other) for one, other in zip(defined, measured, strict=True)):
        return defined
    tally.reference_contradicted += 1
    return measured


def rewritten(model: onnx.ModelProto, feeds: Feeds, random: Random, tally: Tally) -> Arrays:
    """The outputs of the program of kernels after rewriting at random, by the interpreter."""
    program = load_program(model).program
    context = Context(RandomCosts(random), tune="off", quiet=Context(RandomCosts(random)).quiet)

    def seconds(*_: Any) -> float:
        return 1e-3 * (1 + random.random())

    with (
        mock.patch.dict(EFFORTS, {"off": Effort(4, float("inf"))}),
        mock.patch("passes.select.SearchLimits", return_value=SearchLimits(_STATES, 6, 4, float("inf"))),
        mock.patch.object(chains, "fused_seconds", seconds),
        mock.patch.object(shared, "fused_seconds", seconds),
    ):
        kernels = pipeline.optimize(program, context)
    assert all(isinstance(statement, Compute) for statement in kernels.statements)
    kept = [entry for entry in context.derivations if entry.get("kept")]
    tally.derivations += len(kept)
    tally.rewritten += bool(kept)
    tally.patterns.update(str(entry.get("pattern", "")).partition("(")[0] for entry in kept)
    values = run_program(kernels, feeds)
    return [values[tensor.name] for tensor in kernels.outputs]


def _compiled(model: onnx.ModelProto, feeds: Feeds) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        results = tensoropt.optimize(path, tune="off").run(feeds)
    return [results[output.name] for output in model.graph.output]


def _is_near(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(np.abs(other).max(initial=0.0)))
    return bool(np.all(np.abs(one.astype(np.float64) - other.astype(np.float64)) <= _TOLERANCE * scale))


def _compare(what: str, model: onnx.ModelProto, found: Arrays, wanted: Arrays, tally: Tally) -> None:
    for output, one, other in zip(model.graph.output, found, wanted, strict=True):
        if not _is_near(one, other):
            nodes = [node.op_type for node in model.graph.node]
            error = np.abs(one - other).max() if one.shape == other.shape else f"{one.shape} for {other.shape}"
            tally.problems.append(f"{what}: {output.name} differs by {error} ({', '.join(nodes)})")


def report(tally: Tally, seconds: float) -> str:
    """The counts as text."""
    return "\n".join(
        [
            f"nodes: {dict(tally.nodes.most_common())}",
            f"derived: {dict(tally.patterns.most_common())}",
            f"{tally.graphs} graphs, {tally.rewritten} rewritten with {tally.derivations} derivations, {tally.compiled} compiled; "
            f"onnx.reference failed on {tally.reference_failed} and was contradicted on {tally.reference_contradicted}; "
            f"{len(tally.problems)} problems; {seconds:.0f} s",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 1 where a result differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.random_rewriting", description=__doc__)
    parser.add_argument("--graphs", type=int, default=2000, metavar="N", help="how many graphs")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of all random numbers")
    parser.add_argument("--compiled-every", type=int, default=50, metavar="K", help="compile each Kth graph for real")
    parser.add_argument("--graph", type=int, metavar="n", help="run this graph alone, compiled too")
    options = parser.parse_args(arguments)
    tally = Tally()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, {"TENSOROPT_CACHE_DIR": cache}):
        numbers = range(options.graphs) if options.graph is None else [options.graph]
        for number in numbers:
            run_graph(options.seed, number, tally, options.graph is not None or number % options.compiled_every == 0)
            for problem in tally.problems:
                print(problem, flush=True)
            failed, tally.problems = tally.problems, []
            _FAILED.extend(failed)
    tally.problems = _FAILED
    print(report(tally, time.monotonic() - started))
    print(f"seed {options.seed}")
    return 1 if tally.problems else 0


_FAILED: list[str] = []


if __name__ == "__main__":
    sys.exit(main())
