"""Local response normalisation across channels."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import output_iterators
from tensoropt.frontend.lift.node import Node
from tensoropt.frontend.lift.scalars import apply, constant_power
from tensoropt.ir.expression import Access
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement


def lift_lrn(node: Node) -> list[Statement]:
    """``x / (bias + alpha/size · Σ<t> x[n, c + t − (size−1)//2, ..]²)^beta``, channels outside counting as zero."""
    size = int(node.attribute("size"))
    iterators = output_iterators(node.shape)
    neighbour = Iterator("t", size)
    near = node.operand(0).at([iterators[0], Index.of(iterators[1]) + neighbour - (size - 1) // 2, *iterators[2:]])
    total = node.intermediate("square_sum", node.output.dtype, node.shape)
    scaled = apply("mul", Access(total, iterators), float(node.attribute("alpha", 1e-4)) / size)
    base = apply("add", scaled, float(node.attribute("bias", 1.0)))
    power = constant_power(base, float(node.attribute("beta", 0.75)))
    return [
        node.compute(total, iterators, apply("mul", near, near), [neighbour]),
        node.compute(node.output, iterators, apply("div", node.operand(0).at(iterators), power)),
    ]
