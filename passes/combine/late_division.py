"""Quotients that a product reads, divided after the sum: softmax's division behind the product with the values of attention.

``Σ<j> (e_j / s)·v_j = (Σ<j> e_j·v_j) / s`` divides once for each sum, and the normalised scores are never stored. The sum of the
exponentials is then a pass of its own over them, so it pays where they fit into a cache; it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from passes.alternatives import alternative
from passes.combine.proposal import Proposal, Verdict, compared, record
from passes.derive.certify.certificate import Certificate, Checker, substituted
from passes.derive.cost import estimated_seconds
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import MERGE_RULE, Application
from passes.fuse import Fuse, Group
from tensoropt.cost import MARGIN
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Access, Apply, Reducer, Scalar, Scope, Tensor, accesses, replace_sources
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction, is_mover
from tensoropt.ir.types import DataType
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal, Site

_RULE = "divide_after"

_WIDE = (DataType.FLOAT32, DataType.FLOAT64)
"""Types in which sums of exponentials do not overflow before they are divided; half types would, and round them once more."""


@dataclass(frozen=True, slots=True)
class Late:
    """A product with the quotient that it reads (and movers in between), and the statements that divide after it."""

    members: tuple[Compute, ...]
    whole: Compute
    moves: tuple[Application, ...]
    statements: tuple[Compute, ...]


@dataclass(frozen=True, slots=True)
class DivideLate:
    """Takes divisions out of sums where that is measured to be faster by ``margin``, with what fuses on both sides counted."""

    name: ClassVar[str] = "divide_late"
    margin: float = MARGIN

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if context.excluded_rules & {"all", _RULE, MERGE_RULE}:
            return program
        groups = Fuse().groups(program)
        home = {tensor: group for group in groups.values() for tensor in group}
        seen: dict[Any, tuple[Certificate, Verdict] | None] = {}
        replaced: dict[Tensor, tuple[Compute, ...]] = {}
        for late in late_divisions(program):
            if context.time_is_up():
                break
            context.progress("combine", 0.0, late.whole.output.name)
            own = [home[member.output] for member in late.members]
            key = tuple(canonical_kernel_key(member.expression)[0] for group in own for member in group.values())
            if key not in seen:
                seen[key] = self._decided(late, own, frozenset(program.constants), context)
            known = seen[key]
            if known is None:
                continue
            certificate, verdict = known
            derivation = derive_along(late.whole.expression, list(late.moves), RULES_BY_NAME)
            seconds = estimated_seconds(late.statements, program.constants)
            pattern = "division after the product"
            record(late.whole, Proposal(pattern, late.statements, derivation, certificate, seconds), verdict, context)
            if verdict.kept:
                replaced |= {member.output: () for member in late.members}
                replaced[late.whole.output] = late.statements
        if not replaced:
            return program
        statements: list[Statement] = []
        for statement in program.statements:
            statements += replaced.get(statement.outputs[0], (statement,))
        return program.with_statements(statements)

    def _decided(
        self, late: Late, groups: Sequence[Group], constants: frozenset[str], context: Context
    ) -> tuple[Certificate, Verdict] | None:
        derivation = derive_along(late.whole.expression, list(late.moves), RULES_BY_NAME)
        certificate = Checker().check(derivation, late.whole, late.statements)
        if isinstance(certificate, Refusal):
            return None
        region = {tensor: member for group in groups for tensor, member in reversed(group.items())}
        inner = {member.output for member in late.members[:-1]}
        anchors = tuple(anchor for group in groups if (anchor := next(iter(group))) not in inner)
        gone = {member.output for member in late.members}
        rest = [member for tensor, member in region.items() if tensor not in gone]
        costs = context.cost_model.compare(
            [
                alternative(region.values(), anchors, constants, "original", context),
                alternative((*rest, *late.statements), anchors, constants, "division after the product", context),
            ]
        )
        return certificate, compared(costs, self.margin)


def late_divisions(program: Program) -> list[Late]:
    """The products of a program that read softmax's shares, which nothing else needs, and that divide less often than these."""
    producers, readers = program.producers(), program.consumers()

    def private(access: Access) -> Compute | None:
        source = access.source
        producer = producers.get(source) if isinstance(source, Tensor) else None
        if not isinstance(source, Tensor) or not isinstance(producer, Compute) or source in program.outputs:
            return None
        return producer if len(readers[source]) == 1 else None

    found = []
    for statement in program.statements:
        if not isinstance(statement, Compute) or not is_contraction(statement.expression):
            continue
        for access in accesses(statement.expression.body):
            members = [statement]
            producer = private(access)
            while producer is not None and is_mover(producer.expression):
                members.insert(0, producer)
                (read,) = accesses(producer.expression.body)
                producer = private(read)
            if producer is not None and _is_share(producer, producers) and len(_sources(statement, access)) == 1:
                late = _late((producer, *members))
                if late is not None:
                    found.append(late)
                    break
    return found


def _sources(statement: Compute, access: Access) -> list[Access]:
    return [other for other in accesses(statement.expression.body) if other.source is access.source]


def _is_share(statement: Compute, producers: Mapping[Tensor, Statement]) -> bool:
    """Whether a statement divides exponentials of at most 1: sums of others may overflow unless they are divided first."""
    body = statement.expression.body
    if statement.expression.reduction or not isinstance(body, Apply) or body.operation != "div":
        return False
    power = _assigned(body.arguments[0], producers)
    if power is None or not isinstance(power.body, Apply) or power.body.operation != "exp":
        return False
    shifted = power.body.arguments[0]
    if not isinstance(shifted, Apply) or shifted.operation != "sub":
        return False
    top = _assigned(shifted.arguments[1], producers)
    return top is not None and top.reducer is Reducer.MAX


def _assigned(node: Scalar, producers: Mapping[Tensor, Statement]) -> Scope | None:
    """The expression of what a read reads."""
    source = node.source if isinstance(node, Access) else None
    producer = producers.get(source) if isinstance(source, Tensor) else None
    return producer.expression if isinstance(producer, Compute) else None


def _late(members: tuple[Compute, ...]) -> Late | None:
    """The members with the quotient merged into the product and taken out of its sum; None where a rule refuses."""
    quotient, product = members[0], members[-1]
    if product.output.type.elements >= quotient.output.type.elements or product.output.dtype not in _WIDE:
        return None
    origin = tuple(dict.fromkeys(name for member in reversed(members) for name in member.origin))
    whole = Compute(product.output, substituted(members), origin)
    root, moves = whole.expression, list[Application]()
    while nested := [place for place, read in enumerate(accesses(root.body)) if isinstance(read.source, Scope)]:
        merged = _applied(root, MERGE_RULE, Site.of(access=nested[0]), moves)
        if merged is None:
            return None
        root = merged
    for site in RULES_BY_NAME[_RULE].sites(root):
        divided = _applied(root, _RULE, site, moves)
        if divided is not None:
            (inner,) = [read.source for read in accesses(divided.body) if isinstance(read.source, Scope)]
            total = Tensor(f"{product.output.name}/undivided", inner.type)
            last = replace_sources(divided, {inner: total})
            made = Compute(total, inner, origin), Compute(product.output, last, origin)
            return Late(members, whole, tuple(moves), made)
    return None


def _applied(root: Scope, rule: str, site: Site, moves: list[Application]) -> Scope | None:
    result = RULES_BY_NAME[rule].apply(root, site)
    if isinstance(result, Refusal):
        return None
    moves.append((rule, (), site))
    return result
