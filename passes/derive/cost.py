"""What a candidate costs, estimated: arithmetic, bytes and launches. Only the order of candidates depends on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from passes.derive.components import components
from tensoropt.cost import Alternative, KernelCost
from tensoropt.features import Coefficients, Features, of_expression
from tensoropt.ir.expression import Access, Scope, accesses, free_iterators, scopes
from tensoropt.ir.program import Compute, Statement
from tensoropt.ir.structure import arithmetic, is_contraction, product_extents, view_source

SMALL_CPU = Coefficients(multiply_adds=1 / 150e9, operations=1 / 4e9, far_bytes=1 / 25e9, starts=2e-6)
"""Seconds of what a statement is counted as: arithmetic in packed products, other operations, bytes of its tensors, launches."""
_BAND_STRAIN = 2.5
"""What a band costs more than a dense product: each of its rows meets other rows, so nothing is used twice from registers."""
_VECTOR = 16
_ROWS = 8


def estimated_seconds(statements: tuple[Compute, ...], constants: Collection[str]) -> float:
    """Seconds of a chain of statements on a small CPU. What is computed from constants alone is free."""
    known = set(constants)
    total = 0.0
    for statement in statements:
        if all(tensor.name in known for tensor in statement.inputs):
            known.add(statement.output.name)
        elif view_source(statement.expression) is None:
            total += SMALL_CPU.cost(features(statement.expression))
    return total


def fused_seconds(found: Alternative, constants: Collection[str]) -> float:
    """What the fused kernels of an alternative are estimated to take."""
    kernels = tuple(kernel for kernel in found.kernels if isinstance(kernel, Compute))
    return estimated_seconds(kernels, constants)


class EstimatedCosts:
    """``tensoropt.cost.CostModel`` by the estimate that ranks candidates, where nothing is to be compiled."""

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        return self.compare([Alternative((kernel,), kernel.outputs, constants)])[0]

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [KernelCost(fused_seconds(found, found.constants), source="predicted") for found in alternatives]


def least_seconds(core: Scope) -> float:
    """What the arithmetic of a core takes at least."""
    return SMALL_CPU.cost(Features(multiply_adds=arithmetic(core)))


def features(expression: Scope) -> Features:
    """The counts of a statement. Work is counted with what its form adds to it: axes filled up, bands, reads one by one."""
    multiply_adds = operations = 0.0
    for scope in scopes(expression):
        if is_contraction(scope):
            sides = _sides(scope)
            padding = min(_padding(one, _VECTOR) * _padding(other, _ROWS) for one, other in (sides, sides[::-1]))
            multiply_adds += arithmetic(scope) * padding * _band_strain(scope)
        else:
            operations += arithmetic(scope) * _strain(scope)
    return of_expression(expression, multiply_adds, operations)


def _sides(scope: Scope) -> tuple[int, int]:
    """The rows and columns of a product: traversals of one read alone, and the others; those of all count on the smaller side."""
    both, rows, columns = product_extents(scope)
    return min(rows, columns) * both, max(rows, columns)


def _band_strain(scope: Scope) -> float:
    """More where an iterator that every operand has stands beside another in one index."""
    reads = accesses(scope.body)
    shared = frozenset.intersection(*map(free_iterators, reads)) & set(scope.traversal)
    mixed = {
        atom
        for access in reads
        for index in access.indices
        for terms in components(index)
        if len(terms) > 1
        for atom, _ in terms
    }
    return _BAND_STRAIN if mixed & shared else 1.0


def _padding(extent: int, step: int) -> float:
    """What rounding an axis up to whole vectors or register rows multiplies the work by."""
    return -(-extent // step) * step / extent if extent else 1.0


def _strain(scope: Scope) -> float:
    """More for reads that do not follow the innermost axis: they are gathered one by one."""
    if not scope.traversal:
        return 1.0
    inner = scope.traversal[-1]

    def gathers(access: Access) -> bool:
        last = [index for index, extent in zip(access.indices, access.source.shape, strict=True) if extent != 1][-1:]
        return not any(inner in index.iterators() for index in last)

    return 2.0 if any(gathers(access) for access in accesses(scope.body)) else 1.0
