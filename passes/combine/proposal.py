"""What combining expressions proposes, what it costs, and how that is recorded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from passes.derive.candidate import proof_as_json
from passes.derive.certify.certificate import Certificate
from passes.normalise.fold_constants import FoldConstants
from passes.records import against, milliseconds, place
from tensoropt.cost import KernelCost
from tensoropt.ir.expression import Scope, scopes
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import is_contraction
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import Derivation

Sums = list[tuple[tuple[int, ...], ...]]
"""The axes and the summations of sums, by extent."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Statements that take the place of others, the last assigns the same output; how they are derived and what proves it.

    Without a certificate, because the check refused it, a proposal is only told and never taken.
    """

    pattern: str
    statements: tuple[Compute, ...]
    derivation: Derivation
    certificate: Certificate | None
    estimated_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The same keys as those of a candidate for one contraction."""
        return {
            "pattern": self.pattern,
            **proof_as_json(self.derivation, self.certificate),
            "estimated_seconds": self.estimated_seconds,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a proposal is taken, why, and what it and the original cost where they were measured."""

    kept: bool
    why: str
    cost: KernelCost | None = None
    original: KernelCost | None = None

    @staticmethod
    def unproved(reason: str) -> Verdict:
        """The verdict on a proposal that the check refused."""
        return Verdict(False, f"it failed its check: {reason}")


def sums_of(statements: Sequence[Compute], constants: Collection[str]) -> Sums:
    """The axes and the sorted summations of every sum that is left to run; what constants alone decide is not."""
    known = set(constants)
    found: Sums = []
    for statement in statements:
        if all(tensor.name in known for tensor in statement.inputs):
            known.add(statement.output.name)
        else:
            found += [
                _extents(scope) for scope in scopes(statement.expression) if is_contraction(scope) or _extents(scope)[1]
            ]
    return sorted(found)


def unordered(sums: Sums) -> list[list[tuple[int, ...]]]:
    """The sums whatever the order of their axes: what is to be computed, not how it is laid out."""
    return sorted([tuple(sorted(part)) for part in parts] for parts in sums)


def _extents(scope: Scope) -> tuple[tuple[int, ...], ...]:
    """Without those of one element."""
    axes = tuple(iterator.extent for iterator in scope.traversal if iterator.extent > 1)
    return axes, tuple(sorted(iterator.extent for iterator in scope.reduction if iterator.extent > 1))


def constants_grow(program: Program, old: Sequence[Compute], new: Sequence[Compute], allowance: int) -> str | None:
    """Why the constants of new statements are not worth their memory: they cannot be folded, or are larger than those that go."""
    known = set(program.constants)
    running: list[Compute] = []
    for statement in new:
        if not all(tensor.name in known for tensor in statement.inputs):
            running.append(statement)
        elif FoldConstants().folds(statement, known):
            known.add(statement.output.name)
        else:
            return f"{statement.output.name} is too large to be computed when the model is compiled"
    read = {tensor for statement in running for tensor in statement.inputs if tensor.name in known}
    replaced = {statement.output for statement in old}
    readers = program.consumers()
    needless = {
        tensor
        for statement in old
        for tensor in statement.inputs
        if tensor.name in program.constants
        and tensor not in read
        and all(reader.outputs[0] in replaced for reader in readers[tensor])
    }
    added = sum(tensor.type.bytes for tensor in read if tensor.name not in program.constants)
    freed = sum(tensor.type.bytes for tensor in needless)
    return f"{added} bytes of constants take the place of {freed}" if added > freed + allowance else None


def record(compute: Compute, proposal: Proposal, verdict: Verdict, context: Context) -> None:
    """What ``optimize --json`` and ``inspect --why`` show; what was found and not taken before is not told again."""
    entry = {
        **place(compute),
        "nodes": list(compute.origin),
        **proposal.as_json(),
        "milliseconds": milliseconds(verdict.cost),
        "original_milliseconds": milliseconds(verdict.original),
        "cost_source": verdict.cost.source if verdict.cost is not None else "estimated",
        "cost_terms": {} if verdict.cost is None else dict(verdict.cost.terms),
        "kept": verdict.kept,
        "why": verdict.why,
    }
    known = any(
        all(other[name] == entry[name] for name in ("value", "chain", "kept", "derivation"))
        for other in context.derivations
    )
    if verdict.kept or not known:
        context.derivations.append(entry)


def compared(costs: Sequence[KernelCost], margin: float) -> Verdict:
    """The verdict on the second of two measured alternatives, which must beat the first by a margin."""
    original, cost = costs
    if cost.source == "failed":
        return Verdict(False, f"could not be measured: {cost.reason}", cost, original)
    gain = against(cost, original)
    kept = cost.seconds <= original.seconds * (1 - margin)
    return Verdict(kept, f"{'faster' if kept else 'not faster than the model as written'}: {gain}", cost, original)
