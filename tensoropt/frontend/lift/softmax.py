"""Softmax, LogSoftmax and Hardmax, in the meaning of every opset."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import flatten_index, normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node
from tensoropt.frontend.lift.scalars import apply, where
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Statement
from tensoropt.ir.types import DataType


def _normalised_axes(node: Node) -> tuple[list[Iterator], list[Iterator], list[Iterator]]:
    """All iterators, those that stay, and those that are folded: one axis, before opset 13 the axis and all after it."""
    iterators = list(output_iterators(node.shape))
    if node.opset >= 13:
        axis = normal_axis(int(node.attribute("axis", -1)), len(iterators))
        folded = [iterators[axis]]
    else:
        folded = iterators[normal_axis(int(node.attribute("axis", 1)), len(iterators)) :]
    return iterators, [iterator for iterator in iterators if iterator not in folded], folded


def _extents(iterators: list[Iterator]) -> list[int]:
    return [iterator.extent for iterator in iterators]


def _maximum(
    node: Node, iterators: list[Iterator], kept: list[Iterator], folded: list[Iterator]
) -> tuple[Tensor, Statement]:
    top = node.intermediate("max", node.output.dtype, _extents(kept))
    return top, node.compute(top, kept, node.operand(0).at(iterators), folded, Reducer.MAX)


def lift_softmax(node: Node) -> list[Statement]:
    """Four statements: the maximum, the exponentials, their sum, the division."""
    iterators, kept, folded = _normalised_axes(node)
    dtype = node.output.dtype
    top, first = _maximum(node, iterators, kept, folded)
    powers = node.intermediate("exp", dtype, node.shape)
    total = node.intermediate("sum", dtype, _extents(kept))
    shifted = apply("sub", node.operand(0).at(iterators), Access(top, kept))
    return [
        first,
        node.compute(powers, iterators, apply("exp", shifted)),
        node.compute(total, kept, Access(powers, iterators), folded),
        node.compute(node.output, iterators, apply("div", Access(powers, iterators), Access(total, kept))),
    ]


def lift_log_softmax(node: Node) -> list[Statement]:
    """The maximum, the sum of exponentials, and ``x − max − log sum``."""
    iterators, kept, folded = _normalised_axes(node)
    top, first = _maximum(node, iterators, kept, folded)
    total = node.intermediate("sum", node.output.dtype, _extents(kept))
    shifted = apply("sub", node.operand(0).at(iterators), Access(top, kept))
    return [
        first,
        node.compute(total, kept, apply("exp", shifted), folded),
        node.compute(node.output, iterators, apply("sub", shifted, apply("log", Access(total, kept)))),
    ]


def lift_hardmax(node: Node) -> list[Statement]:
    """One at the first position of the maximum, zero elsewhere."""
    iterators, kept, folded = _normalised_axes(node)
    value = node.operand(0).at(iterators)
    position: Scalar = IndexValue(flatten_index(folded, _extents(folded)))
    top, first = _maximum(node, iterators, kept, folded)
    chosen = node.intermediate("first", DataType.INT64, _extents(kept))
    beyond = Constant((1 << 62), DataType.INT64)
    candidate = where(Apply("eq", value, Access(top, kept)), position, beyond)
    result = where(
        Apply("eq", position, Access(chosen, kept)), Constant(1, node.output.dtype), Constant(0, node.output.dtype)
    )
    return [
        first,
        node.compute(chosen, kept, candidate, folded, Reducer.MIN),
        node.compute(node.output, iterators, result),
    ]
