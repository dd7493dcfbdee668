"""Chains of linear algebra: what follows from weights alone goes into the weights, and products are taken in the best order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from passes.alternatives import alternative
from passes.combine.expansion import Rewriting, expand
from passes.combine.grouping import regrouped
from passes.combine.outlining import statements_of
from passes.combine.proposal import (
    Proposal,
    Sums,
    Verdict,
    compared,
    constants_grow,
    record,
    sums_of,
    unordered,
)
from passes.combine.regions import Region, Regions
from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.cost import fused_seconds
from passes.derive.rules import RULES_BY_NAME
from tensoropt.cost import MARGIN
from tensoropt.ir.expression import Scope, Tensor, replace_sources, tensors
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was decided for a region of this form: its moves, what proves them, and the verdict; None where nothing is better."""

    rewriting: Rewriting
    certificate: Certificate | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to compute a region, its estimate, and what stands against it whatever it costs."""

    rewriting: Rewriting
    statements: tuple[Compute, ...]
    seconds: float
    objection: str | None


@dataclass(frozen=True, slots=True)
class CombineChains:
    """Substitutes statements that are sums of products into one another, and takes the cheapest way to compute the polynomial.

    With a depth of 1 a contraction meets what is affine before and after it (BatchNormalization, biases, scales): constants are
    multiplied into its weights. That removes work and never adds any, so it is taken on the estimate alone. With a larger depth
    contractions meet one another (three-operand einsums, matrix chains, two linear maps): another order is another computation, so
    it is measured and must be faster by ``margin``. ``allowance`` is how many bytes the constants may grow by.
    """

    name: ClassVar[str] = "combine_chains"
    depth: int = 1
    margin: float = MARGIN
    allowance: int = 1 << 16

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if "all" in context.excluded_rules:
            return program
        seen: dict[Any, Remembered | None] = {}
        replaced: dict[Tensor, tuple[Compute, ...]] = {}
        gone: set[Tensor] = set()
        taken = {tensor.name for tensor in (*program.inputs, *program.producers())} | set(program.constants)
        regions = Regions(program, self.depth)
        for place, statement in enumerate(reversed(program.statements)):
            region = regions.grown(statement)
            if region is None or context.time_is_up():
                continue
            context.progress("combine", place / len(program.statements), region.root.output.name)
            statements = self._rewritten(region, program, taken, seen, context)
            if statements:
                regions.take(region)
                replaced[region.root.output] = statements
                gone.update(member.output for member in region.members)
                taken.update(statement.output.name for statement in statements)
        if not replaced:
            return program
        kept: list[Statement] = []
        for statement in program.statements:
            if statement.outputs[0] in replaced:
                kept += replaced[statement.outputs[0]]
            elif statement.outputs[0] not in gone:
                kept.append(statement)
        return program.with_statements(kept)

    def _rewritten(
        self, region: Region, program: Program, taken: set[str], seen: dict[Any, Remembered | None], context: Context
    ) -> tuple[Compute, ...]:
        whole = region.whole
        constants = frozenset(program.constants)
        key = _form(whole.expression, constants)
        if key not in seen:
            seen[key] = self._decided(region, whole, program, taken, context)
        known = seen[key]
        if known is None:
            return ()
        derivation = derive_along(whole.expression, known.rewriting.moves, RULES_BY_NAME)
        root = derivation.result(RULES_BY_NAME)
        statements = statements_of(root, whole.output, constants, taken, whole.origin)
        kept = known.verdict.kept
        if kept and constants_grow(program, region.members, statements, self.allowance) is not None:
            return ()
        seconds = fused_seconds(alternative(statements, (whole.output,), constants, "combined", context), constants)
        pattern = _pattern(region.members, statements, constants)
        record(whole, Proposal(pattern, statements, derivation, known.certificate, seconds), known.verdict, context)
        return statements if kept else ()

    def _decided(
        self, region: Region, whole: Compute, program: Program, taken: set[str], context: Context
    ) -> Remembered | None:
        constants = frozenset(program.constants)
        written = alternative(region.members, (whole.output,), constants, "original", context)
        original = fused_seconds(written, constants)
        ways = self._ways(region, whole, program, taken, context)
        cheaper = [way for way in ways if way.objection is None and way.seconds < original]
        if not cheaper:
            return self._nearest(ways, sums_of(region.members, constants), original, constants)
        way = min(cheaper, key=lambda found: found.seconds)
        derivation = derive_along(whole.expression, way.rewriting.moves, RULES_BY_NAME)
        certificate = Checker().check(derivation, whole, way.statements)
        if isinstance(certificate, Refusal):
            return Remembered(way.rewriting, None, Verdict.unproved(certificate.reason))
        if sums_of(region.members, constants) == sums_of(way.statements, constants):
            verdict = Verdict(True, "less work and nothing added: affine statements go into weights and biases")
        else:
            other = alternative(way.statements, (whole.output,), constants, "combined", context)
            verdict = compared(context.cost_model.compare([written, other]), self.margin)
        return Remembered(way.rewriting, certificate, verdict)

    @staticmethod
    def _nearest(ways: Sequence[_Way], written: Sums, seconds: float, constants: frozenset[str]) -> Remembered | None:
        """The cheapest way that computes something else than the model does, and what stands against it."""
        others = [way for way in ways if unordered(sums_of(way.statements, constants)) != unordered(written)]
        if not others:
            return None
        way = min(others, key=lambda found: found.seconds)
        gain = f"{way.seconds * 1e3:.3f} ms against {seconds * 1e3:.3f} ms"
        objection = way.objection or f"estimated no cheaper than the model as written: {gain}"
        return Remembered(way.rewriting, None, Verdict(False, f"not checked: {objection}"))

    def _ways(self, region: Region, whole: Compute, program: Program, taken: set[str], context: Context) -> list[_Way]:
        constants = frozenset(program.constants)
        expanded = Rewriting(whole.expression, constants, context.excluded_rules)
        expand(expanded)
        ways = []
        for way in regrouped(expanded):
            if way.root is not whole.expression:
                statements = statements_of(way.root, whole.output, constants, taken, whole.origin)
                objection = constants_grow(program, region.members, statements, self.allowance)
                kernels = alternative(statements, (whole.output,), constants, "combined", context)
                ways.append(_Way(way, statements, fused_seconds(kernels, constants), objection))
        return ways


def _form(expression: Scope, constants: frozenset[str]) -> Any:
    """The expression with its tensors numbered, and which of them are constants: equal forms have equal rewritings."""
    read = tensors(expression)
    numbered: dict[Tensor | Scope, Tensor | Scope] = {
        tensor: Tensor(f"t{place}", tensor.type) for place, tensor in enumerate(read)
    }
    return replace_sources(expression, numbered), tuple(tensor.name in constants for tensor in read)


def _pattern(old: Sequence[Compute], new: Sequence[Compute], constants: frozenset[str]) -> str:
    before, after = sums_of(old, constants), sums_of(new, constants)
    if before == after:
        known = any(statement.inputs and constants.issuperset(t.name for t in statement.inputs) for statement in new)
        return "constants folded into weights" if known else "affine statements joined"
    if len(after) < len(before):
        return f"{len(before)} sums of products as {len(after)}"
    return "products in another order"
