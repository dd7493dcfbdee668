"""A stage as a product of matrices, or a batch of them, that cuBLASLt computes.

Iterators play roles by where they occur: those of the output and one operand are rows or columns, of all three the batch, and what
is summed is the depth. Those of a role that lie one after another in every matrix are one (axes of a reshape, pixels of an image);
where others are left, they are a batch too, in which an operand that does not have them is the same matrix again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd

from codegen.libraries.form import Aligned, End, Found, affine, end_of, operands_of
from codegen.libraries.operations import Matrix, Product
from codegen.schedules.context import Epilogue
from tensoropt.ir.expression import Access
from tensoropt.ir.index import Index, Iterator


@dataclass(frozen=True, slots=True)
class _Axis:
    """Iterators that are one: their points, and how far one is from the next in the operands and in the result (the last)."""

    extent: int
    strides: tuple[int, ...]
    iterators: tuple[Iterator, ...]


_POINT = _Axis(1, (0, 0, 0), ())
_RESULT = 2


@dataclass(frozen=True, slots=True)
class _Roles:
    """The axes of a product, and which operand has the rows: the elements that follow one another in the result."""

    left: int
    batch: _Axis
    rows: _Axis
    columns: _Axis
    depth: _Axis

    def matrices(self) -> tuple[Matrix, Matrix, Matrix] | None:
        """A, B and the result, column by column; None where one lies otherwise."""
        right = 1 - self.left
        found = [
            _matrix(first, second, self.batch, place)
            for first, second, place in (
                (self.rows, self.depth, self.left),
                (self.depth, self.columns, right),
                (self.rows, self.columns, _RESULT),
            )
        ]
        if found[0] is None or found[1] is None or found[2] is None or found[2].transposed:
            return None
        return found[0], found[1], found[2]


def product_of_stage(epilogue: Epilogue, aligned: Aligned) -> Found | None:
    """The product that a stage is; None where it is none, or lies as cuBLASLt's matrices cannot."""
    scope = epilogue.stage.scope
    operands, end = operands_of(scope), end_of(epilogue)
    if operands is None or end is None:
        return None
    reads = [affine(access) for access in operands]
    written = epilogue.output_index()
    if reads[0] is None or reads[1] is None or not written.is_affine or written.constant:
        return None
    roles = _roles(scope.traversal, scope.reduction, (reads[0], reads[1], written))
    matrices = None if roles is None else roles.matrices()
    if roles is None or matrices is None or not _is_rows(end, roles, written, epilogue):
        return None
    left, right = operands[roles.left], operands[1 - roles.left]
    starts = reads[roles.left].constant, reads[1 - roles.left].constant  # type: ignore[union-attr]
    product = Product(
        roles.batch.extent,
        roles.rows.extent,
        roles.columns.extent,
        roles.depth.extent,
        _placed(matrices[0], starts[0], left, aligned),
        _placed(matrices[1], starts[1], right, aligned),
        _with(matrices[2], 0, aligned(epilogue.stage.result)),
        left.dtype.value,
        epilogue.stage.result.dtype.value,
        end.bias is not None,
        end.relu,
    )
    bias = () if end.bias is None else (end.bias.source,)
    return Found(product, (left.source, right.source, *bias, epilogue.stage.result))


def _roles(traversal: Sequence[Iterator], reduction: Sequence[Iterator], positions: tuple[Index, ...]) -> _Roles | None:
    """The roles of iterators by their strides; None where there is another kind of iterator, or more axes than a product has."""
    kinds: dict[tuple[bool, bool], list[_Axis]] = {}
    for iterator in traversal:
        if iterator.extent != 1:
            axis = _axis(iterator, positions)
            if min(axis.strides) < 0 or not axis.strides[_RESULT]:
                return None
            kinds.setdefault((axis.strides[0] > 0, axis.strides[1] > 0), []).append(axis)
    summed = _joined([_axis(iterator, positions) for iterator in reduction if iterator.extent != 1], 0)
    if (False, False) in kinds or len(summed) != 1 or min(summed[0].strides[:_RESULT]) <= 0:
        return None
    own = [_joined(kinds.get(kind, []), _RESULT) for kind in ((True, False), (False, True))]
    left = next((side for side in (0, 1) for axis in own[side] if axis.strides[_RESULT] == 1), None)
    if left is None:
        if own[0] or own[1]:
            return None
        left, rows = 0, _POINT
    else:
        rows = own[left].pop()
    others = own[1 - left]
    columns = max(others, key=lambda axis: axis.extent, default=_POINT)
    rest = [axis for axis in (*own[left], *others) if axis is not columns]
    batch = _joined([*kinds.get((True, True), []), *rest], _RESULT)
    if len(batch) > 1:
        return None
    return _Roles(left, batch[0] if batch else _POINT, rows, columns, summed[0])


def _axis(iterator: Iterator, positions: tuple[Index, ...]) -> _Axis:
    return _Axis(iterator.extent, tuple(index.coefficient(iterator) for index in positions), (iterator,))


def _joined(axes: Iterable[_Axis], place: int) -> list[_Axis]:
    """The axes in the order of their strides in one matrix, the longest first; neighbours that are one axis everywhere joined."""
    found: list[_Axis] = []
    for axis in sorted(axes, key=lambda axis: -axis.strides[place]):
        before = found[-1] if found else None
        if before is not None and before.strides == tuple(stride * axis.extent for stride in axis.strides):
            found[-1] = _Axis(before.extent * axis.extent, axis.strides, (*before.iterators, *axis.iterators))
        else:
            found.append(axis)
    return found


def _matrix(first: _Axis, second: _Axis, batch: _Axis, place: int) -> Matrix | None:
    """A matrix of ``first`` by ``second``, or how it is stored transposed; None where neither lies element by element."""
    one, other = first.strides[place], second.strides[place]
    if one == 1 or first.extent == 1:
        leading = other if second.extent != 1 else first.extent
        return Matrix(leading, batch.strides[place]) if leading >= first.extent else None
    if other == 1 or second.extent == 1:
        return Matrix(one, batch.strides[place], transposed=True) if one >= second.extent else None
    return None


def _is_rows(end: End, roles: _Roles, written: Index, epilogue: Epilogue) -> bool:
    """Whether the bias, where there is one, is of the result's type and has one element for each row."""
    if end.bias is None:
        return True
    position = affine(end.bias)
    rows = {iterator: written.coefficient(iterator) for iterator in roles.rows.iterators}
    return (
        position is not None
        and end.bias.dtype is epilogue.stage.result.dtype
        and position.constant == 0
        and dict(position.terms) == rows
    )


def _placed(matrix: Matrix, start: int, access: Access, aligned: Aligned) -> Matrix:
    return _with(matrix, start, gcd(aligned(access.source), start * access.dtype.itemsize))


def _with(matrix: Matrix, start: int, aligned: int) -> Matrix:
    return Matrix(matrix.leading, matrix.batch_stride, matrix.transposed, start, aligned)
