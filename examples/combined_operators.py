"""Small models of several operators that combine, for the table of derivations: projections, einsums, chains, affine statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.bare_operators import expression
from passes.derive.cost import EstimatedCosts, estimated_seconds
from passes.pipeline import COMBINE, NORMALISE
from tensoropt.frontend import load_program
from tensoropt.ir.expression import scopes
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import is_contraction
from tensoropt.pass_manager import Context, run_passes

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Combined:
    """What the passes made of a model: the programs before and after, what was derived, wall and processor seconds."""

    before: Program
    after: Program
    derivations: tuple[dict[str, Any], ...]
    seconds: tuple[float, float]

    def contractions(self) -> list[Shape]:
        """The extents of every contraction of the result, sorted, those of one element left out."""
        found = []
        for statement in self.after.statements:
            if isinstance(statement, Compute):
                for scope in scopes(statement.expression):
                    if is_contraction(scope):
                        extents = [iterator.extent for iterator in (*scope.traversal, *scope.reduction)]
                        found.append(tuple(sorted(extent for extent in extents if extent > 1)))
        return sorted(found)

    def cost(self, program: Program) -> float:
        """Estimated milliseconds of a program's statements."""
        statements = tuple(statement for statement in program.statements if isinstance(statement, Compute))
        return estimated_seconds(statements, frozenset(program.constants)) * 1e3


def combined(build: Callable[[], Program]) -> Combined:
    """The program through normalisation (not timed) and the passes that combine expressions (timed)."""
    context = Context(EstimatedCosts())
    before = run_passes(build(), NORMALISE, context)
    started, worked = perf_counter(), process_time()
    after = run_passes(before, COMBINE, context)
    seconds = perf_counter() - started, process_time() - worked
    return Combined(before, after, tuple(context.derivations), seconds)


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, Shape], weights: dict[str, Shape], outputs: list[str]
) -> Program:
    """A model with seeded random weights, positive so that they can be variances too."""
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        nodes,
        "combined",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(random.uniform(0.5, 1.5, shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])).program


def projections(rows: int, width: int, count: int) -> Program:
    """``count`` biased linear maps of one input, as queries, keys and values are."""
    nodes, outputs = [], []
    weights: dict[str, Shape] = {}
    for number in range(count):
        weights |= {f"W{number}": (width, width), f"b{number}": (width,)}
        nodes.append(helper.make_node("MatMul", ["X", f"W{number}"], [f"P{number}"]))
        nodes.append(helper.make_node("Add", [f"P{number}", f"b{number}"], [f"O{number}"]))
        outputs.append(f"O{number}")
    return model(nodes, {"X": (1, rows, width)}, weights, outputs)


def einsum(sizes: tuple[int, int, int, int]) -> Program:
    """``ij,jk,kl->il`` of three inputs as one sum of products of three; the importer would have ordered it already."""
    rows, first, second, columns = sizes
    shapes = {"A": (rows, first), "B": (first, second), "C": (second, columns)}
    compute = expression(
        f"L<i:{rows}, l:{columns}> sum<j:{first}, k:{second}> %A[i, j] * %B[j, k] * %C[k, l]", **shapes
    )()
    return Program("einsum", compute.inputs, (compute.output,), {}, (compute,))


def linear_maps(rows: int, widths: Sequence[int]) -> Program:
    """Consecutive MatMuls with constant weights and biases."""
    nodes, value = [], "X"
    weights: dict[str, Shape] = {}
    for number, (before, after) in enumerate(pairwise(widths)):
        weights |= {f"W{number}": (before, after), f"b{number}": (after,)}
        nodes.append(helper.make_node("MatMul", [value, f"W{number}"], [f"P{number}"]))
        nodes.append(helper.make_node("Add", [f"P{number}", f"b{number}"], [f"O{number}"]))
        value = f"O{number}"
    return model(nodes, {"X": (rows, widths[0])}, weights, [value])


def normalised_convolution(channels: int, height: int, filters: int) -> Program:
    """Scale and shift, then Conv3x3 with bias and padding, BatchNormalization, a scalar scale and shift, Relu."""
    per_filter = dict.fromkeys(("b", "scale", "shift", "mean", "variance"), (filters,))
    nodes = [
        helper.make_node("Mul", ["X", "g"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "K", "b"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["convolved", "scale", "shift", "mean", "variance"], ["normalised"]),
        helper.make_node("Mul", ["normalised", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "half"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["O"]),
    ]
    weights = {"g": (1, channels, 1, 1), "K": (filters, channels, 3, 3), "half": (1,), **per_filter}
    return model(nodes, {"X": (1, channels, height, height)}, weights, ["O"])
