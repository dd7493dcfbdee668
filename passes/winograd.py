"""Convolutions by products at points (Winograd): rewritten where that is measured to be faster.

The rewritten statement nests its transforms, so that it is one kernel with whatever fuses behind it; the transformed weights are a
statement of constants. Rounding errors grow with the size of the tiles, so how much larger they may be is limited here, and the
bound of each statement's check counts them (``tensoropt.ir.error_analysis``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, ClassVar

from passes.alternatives import alternative
from passes.combine.outlining import statements_of
from passes.combine.proposal import Proposal, Verdict, compared, record
from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.cost import estimated_seconds
from passes.derive.interpolation import interpolation
from passes.derive.rules import RULES_BY_NAME
from passes.derive.rules.winograd import Winograd
from passes.derive.state import Application
from passes.derive.tasks.task import derivable
from passes.fuse import Fuse, Group
from tensoropt.cost import MARGIN
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Scope, Tensor, replace_sources
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.types import DataType
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import Derivation, ReplayError, derive_along
from tensoropt.rewrite.rule import Refusal, Site

_RULE = Winograd()
_LEAST_WORK = 1 << 20
"""Multiply-adds below which the transforms cost more than they save."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """A convolution with its transforms: the statements of constants, and the one that is left to run."""

    core: Compute
    tile: int
    derivation: Derivation
    constants: tuple[Compute, ...]
    kernel: Compute

    @property
    def statements(self) -> tuple[Compute, ...]:
        """All of them in order."""
        return (*self.constants, self.kernel)

    @property
    def label(self) -> str:
        """A short name for reports."""
        return f"winograd({len(self.derivation.steps)} axes, tiles of {self.tile})"


@dataclass(frozen=True, slots=True)
class FilterByPoints:
    """Chooses by the injected cost model. ``margin`` as for every rewrite; ``error_growth`` is how many times larger than the
    convolution's own the bound of the rounding error may be."""

    name: ClassVar[str] = "winograd"
    margin: float = MARGIN
    error_growth: float = 150.0

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if context.excluded_rules & {"all", _RULE.name}:
            return program
        constants = frozenset(program.constants)
        seen: dict[Any, list[tuple[Certificate | Refusal, Verdict]]] = {}
        replaced: dict[Tensor, Filtered] = {}
        groups = Fuse().groups(program)
        for number, group in enumerate(groups.values()):
            core = derivable(group.values())
            found = [] if core is None else list(filtered(core, constants, self.error_growth))
            if core is None or not found or context.time_is_up():
                continue
            context.progress("winograd", number / len(groups), core.output.name)
            key = tuple(canonical_kernel_key(member.expression)[0] for member in (core, *group.values()))
            if key not in seen:
                seen[key] = self._decided(found, group, constants, context)
            for one, (certificate, verdict) in zip(found, seen[key], strict=True):
                proof = None if isinstance(certificate, Refusal) else certificate
                seconds = estimated_seconds(one.statements, constants)
                record(core, Proposal(one.label, one.statements, one.derivation, proof, seconds), verdict, context)
                if verdict.kept:
                    replaced[core.output] = one
        if not replaced:
            return program
        statements: list[Statement] = []
        for statement in program.statements:
            new = replaced.get(statement.outputs[0])
            statements += (statement,) if new is None else new.statements
            if new is not None:
                context.written_as[statement.outputs[0]] = statement
        return program.with_statements(statements)

    def _decided(
        self, found: list[Filtered], group: Group, constants: frozenset[str], context: Context
    ) -> list[tuple[Certificate | Refusal, Verdict]]:
        """What becomes of each way to filter a convolution: at most one is kept."""
        core, anchor = found[0].core, next(iter(group))
        rest = [member for member in reversed(group.values()) if member is not core]
        certificates = [Checker().check(one.derivation, core, one.statements) for one in found]
        proved = [one for one, proof in zip(found, certificates, strict=True) if not isinstance(proof, Refusal)]
        alternatives = [alternative((core, *rest), (anchor,), constants, "original", context)] + [
            alternative((*one.statements, *rest), (anchor,), constants, one.label, context) for one in proved
        ]
        original, *costs = context.cost_model.compare(alternatives)
        fastest = min(costs, key=lambda cost: cost.seconds, default=original)
        verdicts: list[tuple[Certificate | Refusal, Verdict]] = []
        measured = iter(costs)
        for certificate in certificates:
            if isinstance(certificate, Refusal):
                verdicts.append((certificate, Verdict.unproved(certificate.reason)))
                continue
            cost = next(measured)
            verdict = compared((original, cost), self.margin)
            if verdict.kept and cost is not fastest:
                verdict = Verdict(False, "another size of tiles is faster", cost, original)
            verdicts.append((certificate, verdict))
        return verdicts


def filtered(core: Compute, constants: Collection[str], error_growth: float) -> Iterator[Filtered]:
    """The ways to compute a convolution by products at points that keep the growth of errors within a limit."""
    scope = core.expression
    work = scope.type.elements * prod(iterator.extent for iterator in scope.reduction)
    if scope.dtype is not DataType.FLOAT32 or work < _LEAST_WORK:
        return
    sites = sorted(_RULE.sites(scope), key=lambda site: -site.integer("factor"))
    for factor, same in groupby(sites, key=lambda site: site.integer("factor")):
        moves = _moves(scope, list(same))
        taps = {iterator.name: iterator.extent for iterator in scope.reduction}
        growth = prod(_growth(factor, taps[site.text("tap")]) for _, _, site in moves)
        if growth > error_growth:
            continue
        made = _filtered(core, factor, moves, constants)
        if made is not None:
            yield made


def _moves(scope: Scope, sites: list[Site]) -> list[Application]:
    """One application for each axis of the window, the innermost axis last: each inside the one before."""
    order = [iterator.name for iterator in scope.traversal]
    moves: list[Application] = []
    used: set[str] = set()
    for site in sorted(sites, key=lambda site: order.index(site.text("iterator"))):
        names = {site.text("iterator"), site.text("tap")}
        if not names & used:
            used |= names
            moves.append((_RULE.name, (0,) * len(moves), site))
    return moves


def _filtered(core: Compute, tile: int, moves: list[Application], constants: Collection[str]) -> Filtered | None:
    try:
        derivation = derive_along(core.expression, moves, RULES_BY_NAME)
    except ReplayError:  # a site is what the form suggests, and the rule may still refuse it
        return None
    taken = {core.output.name, *(tensor.name for tensor in core.inputs)}
    result = derivation.result(RULES_BY_NAME)
    statements = statements_of(result, core.output, constants, taken, core.origin)
    known: list[Compute] = []
    mapping: dict[Tensor | Scope, Tensor | Scope] = {}
    names = set(constants)
    for statement in statements:
        if statement.inputs and all(tensor.name in names for tensor in statement.inputs):
            known += statements_of(statement.expression, statement.output, (), taken | names, core.origin)
            names |= {one.output.name for one in known}
        else:
            mapping[statement.output] = replace_sources(statement.expression, mapping)
    kernel = mapping[core.output]
    if not known or not isinstance(kernel, Scope):
        return None  # weights that are no constants would be transformed in every run
    return Filtered(core, tile, derivation, tuple(known), Compute(core.output, kernel, core.origin))


def _growth(tile: int, taps: int) -> float:
    """How many times larger the bound of the rounding error becomes: ``Σ |A|·(Σ |G|)·(Σ |B|)`` against the number of taps."""
    tables = interpolation(tile, taps)
    return max(
        float(
            sum(
                abs(entry) * sum(map(abs, weights)) * sum(map(abs, inputs))
                for entry, weights, inputs in zip(line, tables.weights, tables.inputs, strict=True)
            )
            / taps
        )
        for line in tables.outputs
    )
