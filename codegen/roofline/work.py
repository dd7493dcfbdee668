"""A kernel as launches, and what each does: products, other operations, bytes, threads. Counted from the expression alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from codegen.lower.reads import operations
from codegen.lower.stages import Stage, costly_value, split_stages
from codegen.schedules import common_rows
from codegen.schedules.context import Epilogue, Surroundings
from codegen.schedules.gpu.attention.form import Attention, recognize
from tensoropt.ir.expression import Access, Scope, Tensor, accesses, tensors
from tensoropt.ir.program import Opaque
from tensoropt.ir.structure import is_contraction, product_extents, view_source
from tensoropt.ir.types import DataType

_PARTNERS = 256
"""Threads that share one sum at the most: a block."""
_ATTENDING = 32
"""Rows of a block of attention, which goes past the keys of all of them."""
_WEIGHING = 20
"""Operations that make a weight of a score: the largest, the exponential, the sum."""


@dataclass(frozen=True, slots=True)
class Products:
    """A contraction as ``batch`` matrix products of ``rows`` x ``depth`` by ``depth`` x ``columns``, of operands of a type."""

    batch: int
    rows: int
    columns: int
    depth: int
    dtype: DataType
    most_parts: int = 32
    """Into how many launches' worth of parts the depth may be cut."""
    tensor: bool = True
    """Whether the schedule has tensor cores multiply what they take."""

    @property
    def multiply_adds(self) -> int:
        """Of all products together."""
        return self.batch * self.rows * self.columns * self.depth


@dataclass(frozen=True, slots=True)
class Launch:
    """What one launch does. ``reads`` are bytes by tensor or intermediate result, each counted once however often it is read."""

    form: str
    products: tuple[Products, ...]
    operations: float
    double: bool
    threads: int
    serial: int
    """Additions of a thread that wait for one another."""
    reads: Mapping[Tensor | Scope, int]
    written_bytes: int


def launches_of(expression: Scope) -> list[Launch]:
    """The launches of a kernel, in order: for each stage, or for attention or stages that go row by row; none for a view."""
    if view_source(expression) is not None or not expression.type.elements:
        return []
    attention = recognize(expression)
    if attention is not None:
        return [_attention(attention)]
    stages = [stage for stage in split_stages(expression) if stage.result.type.elements]
    rows = _rows(expression, stages) if len(stages) > 1 else None
    groups = [list(rows)] if rows is not None else [[stage] for stage in stages]
    results: set[Scope] = {stage.result for group in groups for stage in group}
    return [_launch(group, results, "rows" if rows is not None else _form(group[0])) for group in groups]


def launch_of_operator(statement: Opaque) -> Launch:
    """An operator that the algebra does not express: its bytes, and an operation for each element."""
    elements = max((output.type.elements for output in statement.outputs), default=1)
    written = sum(output.type.bytes for output in statement.outputs)
    reads: dict[Tensor | Scope, int] = {tensor: tensor.type.bytes for tensor in statement.inputs}
    return Launch(statement.operator, (), float(elements), False, max(elements, 1), 0, reads, written)


def _attention(found: Attention) -> Launch:
    """Both products, with the scores between them where they are computed. Nothing is multiplied on tensor cores."""
    batch, rows, keys = found.sums.batches, found.rows, found.passed(_ATTENDING)
    scores, values = found.scores, found.values
    own = {scores.scope, scores.result, values.scope, values.result}
    reads: dict[Tensor | Scope, int] = {}
    for scope in own:
        for access in accesses(scope.body):
            if isinstance(access.source, Tensor):
                touched = _touched(access, scope) * access.dtype.itemsize
                reads[access.source] = max(reads.get(access.source, 0), touched)
    double = DataType.FLOAT64 in (scores.scope.dtype, values.scope.dtype)
    dtype = DataType.FLOAT64 if double else DataType.FLOAT32
    products = (
        Products(batch, rows, keys, found.products.depth, dtype, most_parts=1, tensor=False),
        Products(batch, rows, found.columns, keys, dtype, most_parts=1, tensor=False),
    )
    done = batch * rows * (keys * (operations(scores.result.body) + _WEIGHING) + found.columns)
    if values.result is not values.scope:
        done += values.result.type.elements * operations(values.result.body)
    threads = batch * rows * max(keys, found.columns)
    return Launch("attention", products, float(done), double, threads, 0, reads, values.result.type.bytes)


def _form(stage: Stage) -> str:
    if stage.scope.reducer is None:
        return "element-wise"
    return "products" if is_contraction(stage.scope) else "fold"


def _rows(expression: Scope, stages: list[Stage]) -> tuple[Stage, ...] | None:
    """Stages that one launch computes row by row, as the schedules for it find them."""
    around = Surroundings(dict.fromkeys(tensors(expression)), frozenset(), "int64")
    value = costly_value(expression)
    for split in (*([] if value is None else [split_stages(expression, value)]), stages):
        found = common_rows.recognize(around, [Epilogue(stage) for stage in split])
        if found is not None:
            return tuple(one.stage for one in found.stages)
    return None


def _launch(group: list[Stage], results: set[Scope], form: str) -> Launch:
    own = {stage.result for stage in group}
    reads: dict[Tensor | Scope, int] = {}
    products: list[Products] = []
    done, double, threads, serial = 0.0, False, 0, 0
    for stage in group:
        outputs, folded = stage.scope.type.elements, prod(iterator.extent for iterator in stage.scope.reduction)
        bodies = [stage.scope] if stage.scope is stage.result else [stage.scope, stage.result]
        for scope in bodies:
            done += _counted(scope, stage, results, reads)
        if is_contraction(stage.scope):
            products.append(_as_products(stage.scope))
            threads = max(threads, outputs)
        else:
            threads = max(threads, outputs * min(folded, _PARTNERS))
            serial += -(-folded // _PARTNERS) if stage.scope.reduction else 0
        double = double or DataType.FLOAT64 in (stage.scope.dtype, stage.result.dtype)
    outside = {source: size for source, size in reads.items() if source not in own}
    written = sum(stage.result.type.bytes for stage in group)
    return Launch(form, tuple(products), done, double, threads, serial, outside, written)


def _counted(scope: Scope, stage: Stage, results: set[Scope], reads: dict[Tensor | Scope, int]) -> float:
    """The scalar operations of a scope, products of a contraction not counted, with those of scopes that it computes in place."""
    points = scope.type.elements * prod(iterator.extent for iterator in scope.reduction)
    if scope is stage.scope and is_contraction(scope):
        done = 0.0
    else:
        done = float(points * max(1, operations(scope.body) + (1 if scope.reduction else 0)))
    for access in accesses(scope.body):
        source = access.source
        if source is stage.scope:
            continue
        if isinstance(source, Tensor) or source in results:
            touched = _touched(access, scope) * source.dtype.itemsize
            reads[source] = max(reads.get(source, 0), touched)
        else:
            done += _counted(source, stage, results, reads)
    return done


def _touched(access: Access, scope: Scope) -> int:
    """How many elements of its source an access reads, over the box of its scope: those that its iterators reach, axis by axis."""
    touched = 1
    for index, extent in zip(access.indices, access.source.shape, strict=True):
        touched *= min(int(extent), prod(iterator.extent for iterator in index.iterators()))
    points = scope.type.elements * prod(iterator.extent for iterator in scope.reduction)
    return min(touched, points)


def _as_products(scope: Scope) -> Products:
    """Axes that one operand alone has are rows or columns; those that all have, each product's number."""
    batch, rows, columns = product_extents(scope)
    depth = prod(iterator.extent for iterator in scope.reduction)
    widest = max((access.source.dtype for access in accesses(scope.body)), key=lambda dtype: dtype.itemsize)
    return Products(batch, min(rows, columns), max(rows, columns), depth, widest)
