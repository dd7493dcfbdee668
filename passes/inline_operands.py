"""Operands computed while they are packed: element-wise statements that feed one contraction are not stored.

The schedules of contractions copy an operand to a panel before they multiply, and may as well compute it there. It is computed as
often as it is packed, so it is inlined where the contraction reads each element by one combination of its own iterators, and where
that is measured not to be slower. An operand of several large values is not: all of them would have to live until the contraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tensoropt.cost import Alternative
from tensoropt.ir.expression import (
    Access,
    Apply,
    Scalar,
    Scope,
    Tensor,
    accesses,
    map_scalar,
    replace_sources,
    scopes,
    substitute,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import element_wise, is_contraction
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class InlineOperands:
    """Kernels in, kernels out. ``least_bytes``: smaller values are stored in the cache anyway."""

    name: ClassVar[str] = "inline_operands"
    least_bytes: int = 1 << 19

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if "all" in context.excluded_rules:
            return program
        producers, readers = program.producers(), program.consumers()
        constants = frozenset(program.constants)
        replaced: dict[Tensor, Compute] = {}
        gone: set[Tensor] = set()
        for statement in program.statements:
            if not isinstance(statement, Compute) or context.time_is_up():
                continue
            found = operand_of(statement, program, producers, readers)
            if found is None or found.output.type.bytes < self.least_bytes:
                continue
            merged = inlined(statement, found)
            known = frozenset(tensor.name for tensor in merged.inputs if tensor.name in constants)
            stored, computed = context.cost_model.compare(
                [
                    Alternative((found, statement), (statement.output,), known, "stored"),
                    Alternative((merged,), (statement.output,), known, "computed while packed"),
                ]
            )
            if computed.seconds <= stored.seconds:
                replaced[statement.output] = merged
                gone.add(found.output)
        if not replaced:
            return program
        return program.with_statements(
            replaced.get(statement.outputs[0], statement)
            for statement in program.statements
            if statement.outputs[0] not in gone
        )


def operand_of(
    statement: Compute,
    program: Program,
    producers: Mapping[Tensor, Statement],
    readers: Mapping[Tensor, Sequence[Statement]],
) -> Compute | None:
    """The element-wise statement whose value a contraction alone reads, each element by its own iterators; None without."""
    for access in _operand_reads(statement):
        producer = producers.get(access.source) if isinstance(access.source, Tensor) else None
        if (
            isinstance(producer, Compute)
            and producer.output not in program.outputs
            and len(readers[producer.output]) == 1
            and _may_be_an_operand(producer.expression)
            and _large_inputs(producer, program) == 1
            and _reads_once(access)
            and _reads_of(statement, producer.output) == 1
        ):
            return producer
    return None


def without_operand(program: Program, name: str) -> Program | None:
    """The program with the operand of the statement that writes a value inlined, whatever that costs; None where it has none."""
    producers, readers = program.producers(), program.consumers()
    statement = next((one for one in program.statements if one.outputs[0].name == name), None)
    found = operand_of(statement, program, producers, readers) if isinstance(statement, Compute) else None
    if found is None or not isinstance(statement, Compute):
        return None
    merged = inlined(statement, found)
    return program.with_statements(
        merged if one is statement else one for one in program.statements if one is not found
    )


def inlined(statement: Compute, operand: Compute) -> Compute:
    """The statement computing the operand where its contraction reads it."""
    own = element_wise(operand.expression)
    assert own is not None

    def leaf(node: Scalar) -> Scalar:
        if isinstance(node, Access) and node.source is operand.output:
            return substitute(own.body, dict(zip(own.traversal, node.indices, strict=True)))
        return node

    changed: dict[Tensor | Scope, Tensor | Scope] = {}
    for scope in scopes(statement.expression):
        body = map_scalar(scope.body, leaf)
        if body is not scope.body:
            changed[scope] = Scope(scope.traversal, body, scope.reduction, scope.reducer)
    expression = changed.get(statement.expression) or replace_sources(statement.expression, changed)
    assert isinstance(expression, Scope)
    return Compute(statement.output, expression, tuple(dict.fromkeys((*operand.origin, *statement.origin))))


def _operand_reads(statement: Compute) -> list[Access]:
    """What the contractions of a kernel read."""
    return [
        access for scope in scopes(statement.expression) if is_contraction(scope) for access in accesses(scope.body)
    ]


def _may_be_an_operand(scope: Scope) -> bool:
    """Arithmetic without a fold, and no product, whose factors would join those of the contraction."""
    flat = element_wise(scope)
    return flat is not None and isinstance(flat.body, Apply) and flat.body.operation != "mul"


def _large_inputs(statement: Compute, program: Program) -> int:
    """Inputs that are not constant and no small share of the value, as one factor for each channel is."""
    least = statement.output.type.bytes / 16
    return sum(tensor.name not in program.constants and tensor.type.bytes > least for tensor in statement.inputs)


def _reads_once(access: Access) -> bool:
    """Whether each index is an iterator of its own over the whole axis."""
    iterators = [
        next((one for one in index.iterators() if index is Index.of(one) and one.extent == extent), None)
        for index, extent in zip(access.indices, access.source.shape, strict=True)
        if extent != 1
    ]
    found = [one for one in iterators if isinstance(one, Iterator)]
    return len(found) == len(iterators) == len(set(found)) and access.stays_inside


def _reads_of(statement: Compute, tensor: Tensor) -> int:
    return sum(access.source is tensor for scope in scopes(statement.expression) for access in accesses(scope.body))
