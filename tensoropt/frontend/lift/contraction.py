"""Matrix products: MatMul and Gemm."""

from __future__ import annotations

from dataclasses import dataclass

from tensoropt.frontend.lift.axes import output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed, Operand
from tensoropt.frontend.lift.scalars import apply
from tensoropt.ir.expression import Access, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement

_BATCH_NAMES = ("b", "a", "e", "g")


@dataclass(frozen=True, slots=True)
class MatrixAxes:
    """The iterators of a batched matrix product, and the indices at which the operands are read."""

    traversal: list[Iterator]
    rows: list[Iterator]
    columns: list[Iterator]
    depth: Iterator
    left: list[Index]
    right: list[Index]


def matrix_axes(left: Operand, right: Operand, shape: tuple[int, ...]) -> MatrixAxes:
    """The axes of ``left @ right`` as NumPy broadcasts them; an operand of one axis loses its rows or columns."""
    depth = Iterator("k", left.shape[-1])
    rows = [Iterator("m", left.shape[-2])] if left.rank > 1 else []
    columns = [Iterator("n", right.shape[-1])] if right.rank > 1 else []
    batch = shape[: len(shape) - len(rows) - len(columns)]
    names = [_BATCH_NAMES[axis] if axis < len(_BATCH_NAMES) else f"b{axis}" for axis in range(len(batch))]
    leading = [Iterator(name, extent) for name, extent in zip(names, batch, strict=True)]

    def indices(extents: tuple[int, ...], inner: list[Iterator]) -> list[Index]:
        aligned = leading[len(leading) - len(extents) :]
        outer = [Index.of(0 if extent == 1 else found) for extent, found in zip(extents, aligned, strict=True)]
        return [*outer, *(Index.of(iterator) for iterator in inner)]

    return MatrixAxes(
        traversal=[*leading, *rows, *columns],
        rows=rows,
        columns=columns,
        depth=depth,
        left=indices(left.shape[:-2], [*rows, depth]),
        right=indices(right.shape[:-2], [depth, *columns]),
    )


def lift_matmul(node: Node) -> list[Statement]:
    """``L<b.., m, n> Σ<k> A[b.., m, k] · B[b.., k, n]``."""
    left, right = node.operand(0), node.operand(1)
    axes = matrix_axes(left, right, node.shape)
    product = apply("mul", left.read(axes.left), right.read(axes.right))
    return [node.compute(node.output, axes.traversal, product, [axes.depth])]


def lift_gemm(node: Node) -> list[Statement]:
    """``alpha · Σ<k> A[m, k] · B[k, n] + beta · C``, the product and the rest as two statements where there is a rest."""
    left, right = node.operand(0), node.operand(1)
    rows, columns = (Iterator(name, extent) for name, extent in zip("mn", node.shape, strict=True))
    transposed = node.attribute("transA", 0)
    depth = Iterator("k", left.shape[0] if transposed else left.shape[1])
    one = left.read([depth, rows] if transposed else [rows, depth])
    other = right.read([columns, depth] if node.attribute("transB", 0) else [depth, columns])
    product = apply("mul", one, other)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    addend = node.optional(2) if beta != 0.0 else None
    if alpha == 1.0 and addend is None:
        return [node.compute(node.output, [rows, columns], product, [depth])]
    total = node.intermediate("sum", node.output.dtype, node.shape)
    iterators = output_iterators(node.shape)
    value: Scalar = Access(total, iterators)
    if alpha != 1.0:
        value = apply("mul", value, _scale(alpha, value))
    if addend is not None:
        extra = addend.broadcast(iterators)
        value = apply("add", value, extra if beta == 1.0 else apply("mul", extra, _scale(beta, extra)))
    return [node.compute(total, [rows, columns], product, [depth]), node.compute(node.output, iterators, value)]


def _scale(factor: float, like: Scalar) -> float | int:
    if like.dtype.is_float:
        return float(factor)
    if factor != int(factor):
        raise NotExpressed("integers are scaled by a fraction")
    return int(factor)
