"""Attention without stored scores: a product, the softmax of it, and the product that it weights become one kernel.

Fusion keeps two contractions apart, since a kernel that stores what lies between them gains nothing. A device may have a schedule
that stores none of it, and says so of the nested expression; whether that is faster is for the cost model. The nested expression is
exactly the composition of the statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from passes.records import join_record
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Scope, Tensor, replace_sources, scopes
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction, view_source
from tensoropt.pass_manager import Context

_LONGEST = 6
"""Statements of a chain: two contractions, the normalisation, and movers between them."""


@dataclass(frozen=True, slots=True)
class JoinScores:
    """Kernels in, kernels out. ``in_one_launch`` says of a nested expression whether a schedule takes it and stores nothing."""

    in_one_launch: Callable[[Scope], bool]
    name: ClassVar[str] = "join_scores"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        constants = frozenset(program.constants)
        replaced: dict[Tensor, Compute] = {}
        gone: set[Tensor] = set()
        for chain, joined in joinable(program, self.in_one_launch):
            if any(member.output in gone or member.output in replaced for member in chain):
                continue
            known = frozenset(tensor.name for tensor in joined.inputs if tensor.name in constants)
            stored, one = context.cost_model.compare(
                [
                    Alternative(tuple(chain), (joined.output,), known, "stored"),
                    Alternative((joined,), (joined.output,), known, "in one launch"),
                ]
            )
            pays = one.seconds <= stored.seconds
            context.joins.append(join_record(chain, stored, one, pays))
            if pays:
                replaced[joined.output] = joined
                gone |= {member.output for member in chain[:-1]}
        if not replaced:
            return program
        return program.with_statements(
            replaced.get(statement.outputs[0], statement)
            for statement in program.statements
            if statement.outputs[0] not in gone
        )


def joinable(program: Program, in_one_launch: Callable[[Scope], bool]) -> list[tuple[list[Compute], Compute]]:
    """The chains that one launch could compute, each with its last statement that has the others nested in it."""
    producers, readers = program.producers(), program.consumers()
    return [
        (chain, joined)
        for statement in program.statements
        if isinstance(statement, Compute) and _multiplies(statement)
        for chain in _chains(statement, program, producers, readers)
        if in_one_launch((joined := nested(chain)).expression)
    ]


def nested(chain: Sequence[Compute]) -> Compute:
    """The last statement of a chain with the others, in their order, nested in it."""
    inside: dict[Tensor | Scope, Tensor | Scope] = {}
    for member in chain:
        inside[member.output] = replace_sources(member.expression, inside)
    expression = inside[chain[-1].output]
    assert isinstance(expression, Scope)
    origin = dict.fromkeys(name for member in chain for name in member.origin)
    return Compute(chain[-1].output, expression, tuple(origin))


def _chains(
    last: Compute,
    program: Program,
    producers: Mapping[Tensor, Statement],
    readers: Mapping[Tensor, Sequence[Statement]],
) -> Iterator[list[Compute]]:
    """Every way back from a contraction to another, over values that only the next statement of the chain reads."""
    pending = [[last]]
    while pending:
        chain = pending.pop()
        for tensor in chain[0].inputs:
            producer = producers.get(tensor)
            if (
                not isinstance(producer, Compute)
                or tensor in program.outputs
                or len(readers[tensor]) != 1
                or len(chain) == _LONGEST
            ):
                continue
            longer = [producer, *chain]
            if _multiplies(producer):
                yield longer
            else:
                pending.append(longer)


def _multiplies(statement: Compute) -> bool:
    return view_source(statement.expression) is None and any(
        is_contraction(scope) for scope in scopes(statement.expression)
    )
