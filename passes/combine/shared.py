"""Expressions that share an input become one: projections and convolutions of one tensor, their weights side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from passes.alternatives import alternative
from passes.combine.branches import Branch, branches_of, parts_of
from passes.combine.outlining import statements_of
from passes.combine.proposal import Proposal, Verdict, compared, constants_grow, record
from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.cost import fused_seconds
from passes.derive.rules import RULES_BY_NAME
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.inline_movers import InlineMovers
from tensoropt.cost import MARGIN, Alternative
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Scope, Tensor, accesses
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import Derivation, ReplayError, derive_along
from tensoropt.rewrite.rule import Path, Refusal, Site, nested_at

_RULES = {False: frozenset({"stack", "merge"}), True: frozenset({"concatenate", "merge"})}
"""The rules that are needed, by whether the weights lie along an axis."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Branches as one chain of statements, and each branch's value as a range of its result."""

    shared: tuple[Compute, ...]
    ranges: tuple[Compute, ...]
    derivations: tuple[Derivation, ...]

    @property
    def statements(self) -> tuple[Compute, ...]:
        """All of them in order."""
        return (*self.shared, *self.ranges)


@dataclass(frozen=True, slots=True)
class MergeShared:
    """``O_i = Σ X·W_i`` for several i becomes ``O = Σ X·W'`` and ``O_i[x, n] = O[x, n + a_i]``, with what follows each O_i alike.

    Measured together with whatever reads the branches, since those then read ranges of a longer tensor, and kept where it is
    faster by ``margin``; what is estimated dearer than ``promising`` times the original is not measured.
    """

    name: ClassVar[str] = "merge_shared"
    margin: float = MARGIN
    promising: float = 1.05

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if "all" in context.excluded_rules:
            return program
        for group in branches_of(program):
            if context.time_is_up():
                break
            if _RULES[group[0].axis is not None] & context.excluded_rules:
                continue
            if not {member for branch in group for member in branch.members} <= set(program.statements):
                continue  # merged as part of a larger group
            context.progress("combine", 0.0, group[0].output.name)
            program = self._decided(group, program, context)
        return program

    def _decided(self, group: tuple[Branch, ...], program: Program, context: Context) -> Program:
        merged = merged_branches(group, program)
        members = [member for branch in group for member in branch.members]
        if merged is None or constants_grow(program, members, merged.statements, 0) is not None:
            return program
        certificates = _certificates(group, merged)
        unproved = next((found.reason for found in certificates if isinstance(found, Refusal)), None)
        replaced = replaced_branches(program, group, merged)
        constants = frozenset(program.constants)
        alternatives = [
            with_readers(program, program, members, members, context, "original"),
            with_readers(replaced, program, merged.statements, members, context, "merged"),
        ]
        seconds = [fused_seconds(found, constants) for found in alternatives]
        if unproved is not None:
            verdict = Verdict.unproved(unproved)
        elif seconds[1] < seconds[0] * self.promising:
            verdict = compared(context.cost_model.compare(alternatives), self.margin)
        else:
            gain = f"{seconds[1] * 1e3:.3f} ms against {seconds[0] * 1e3:.3f} ms"
            verdict = Verdict(False, f"not measured: estimated dearer than the model as written: {gain}")
        for branch, range_, derivation, certificate in zip(
            group, merged.ranges, merged.derivations, certificates, strict=True
        ):
            proposal = Proposal(
                f"{len(group)} contractions of one input as 1",
                (*merged.shared, range_),
                derivation,
                None if isinstance(certificate, Refusal) else certificate,
                seconds[1],
            )
            record(branch.whole, proposal, verdict, context)
        return replaced if verdict.kept else program


def merged_branches(group: Sequence[Branch], program: Program) -> Merged | None:
    """The branches as one; None where their expressions do not become the same."""
    constants = frozenset(program.constants)
    derivations = []
    for place, branch in enumerate(group):
        try:
            derivations.append(derive_along(branch.whole.expression, _moves(group, place, constants), RULES_BY_NAME))
        except ReplayError:
            return None
    roots = [derivation.result(RULES_BY_NAME) for derivation in derivations]
    nested = [nested_at(root, (0,)) for root in roots]
    if len({canonical_key(scope) for scope in nested if scope is not None}) != 1 or None in nested:
        return None
    taken = {tensor.name for tensor in (*program.inputs, *program.producers())} | set(program.constants)
    origin = tuple(dict.fromkeys(name for branch in group for name in branch.whole.origin))
    first = statements_of(roots[0], group[0].output, constants, taken, origin)
    result = first[-2].output
    ranges = []
    for branch, root in zip(group, roots, strict=True):
        body = root.body
        assert isinstance(body, Access)
        ranges.append(Compute(branch.output, Scope(root.traversal, Access(result, body.indices)), branch.whole.origin))
    return Merged(first[:-1], tuple(ranges), tuple(derivations))


def _moves(group: Sequence[Branch], place: int, constants: frozenset[str]) -> list[tuple[str, Path, Site]]:
    """The moves that make one branch a range of all: from the contraction outward each statement is widened and read in place."""
    branch = group[place]
    moves: list[tuple[str, Path, Site]] = []
    path = _path_to_first(branch)
    for level in range(len(branch.members)):
        if branch.axis is None:
            moves.append(("stack", path, _layer_site(group, place, level, constants)))
        else:
            moves.append(("concatenate", path, _range_site(group, place, level, branch.axis, constants)))
        if path:
            moves.append(("merge", path[:-1], Site.of(access=path[-1])))
            path = path[:-1]
    return moves


def _range_site(group: Sequence[Branch], place: int, level: int, axis: int, constants: frozenset[str]) -> Site:
    """One statement of a branch as the range of a longer one."""
    member = group[place].members[level]
    widths = [other.width for other in group]
    parts = []
    for position in parts_of(member, axis, constants):
        named = tuple(zip(_sources(group, level, position), widths, strict=True))
        parts.append((position, named[:place], named[place + 1 :]))
    name = member.expression.traversal[axis].name
    before, after = sum(widths[:place]), sum(widths[place + 1 :])
    return Site.of(iterator=name, before=before, after=after, parts=tuple(parts))


def _layer_site(group: Sequence[Branch], place: int, level: int, constants: frozenset[str]) -> Site:
    """One statement of a branch as a layer of all."""
    branch = group[place]
    member = branch.members[level]
    parts = []
    for position in parts_of(member, None, constants):
        named = _sources(group, level, position)
        parts.append((position, (*named[:place], *named[place + 1 :])))
    stacked: tuple[int, ...] = ()
    if level:
        sources = [access.source for access in accesses(member.expression.body)]
        stacked = (sources.index(branch.members[level - 1].output),)
    return Site.of(before=place, after=len(group) - 1 - place, parts=tuple(parts), stacked=stacked)


def _sources(group: Sequence[Branch], level: int, position: int) -> tuple[str, ...]:
    """The names of the tensors that the branches read there."""
    found = [accesses(branch.members[level].expression.body)[position].source for branch in group]
    return tuple(source.name for source in found if isinstance(source, Tensor))


def _path_to_first(branch: Branch) -> Path:
    """From the last statement of a branch to its contraction."""
    path: list[int] = []
    for producer, reader in zip(branch.members, branch.members[1:], strict=False):
        sources = [access.source for access in accesses(reader.expression.body)]
        path.insert(0, sources.index(producer.output))
    return tuple(path)


def _certificates(group: Sequence[Branch], merged: Merged) -> list[Certificate | Refusal]:
    checker = Checker()
    return [
        checker.check(derivation, Compute(branch.output, derivation.start), (*merged.shared, range_))
        for branch, derivation, range_ in zip(group, merged.derivations, merged.ranges, strict=True)
    ]


def replaced_branches(program: Program, group: Sequence[Branch], merged: Merged) -> Program:
    """The program with all branches computed where the first one began, before anything reads them."""
    gone = {member.output for branch in group for member in branch.members}
    first = group[0].members[0]
    statements: list[Statement] = []
    for statement in program.statements:
        if statement is first:
            statements += merged.statements
        if statement.outputs[0] not in gone:
            statements.append(statement)
    return program.with_statements(statements)


def with_readers(
    program: Program,
    original: Program,
    members: Sequence[Compute],
    written: Sequence[Compute],
    context: Context,
    label: str,
) -> Alternative:
    """The kernels of branches and of the expressions that read them, which read ranges without a copy."""
    outputs = {member.output for member in written}
    readers = [
        statement
        for statement in original.statements
        if isinstance(statement, Compute) and set(statement.inputs) & outputs and statement.output not in outputs
    ]
    read_elsewhere = {
        tensor
        for statement in original.statements
        if statement not in readers and statement.outputs[0] not in outputs
        for tensor in statement.inputs
    } | set(original.outputs)
    anchors = tuple(
        dict.fromkeys(
            [reader.output for reader in readers]
            + [member.output for member in written if member.output in read_elsewhere]
        )
    )
    chosen = [*members, *readers]
    produced = {statement.output for statement in chosen}
    inputs = tuple(dict.fromkeys(tensor for found in chosen for tensor in found.inputs if tensor not in produced))
    region = Program("region", inputs, anchors, {}, tuple(chosen))
    region = RemoveDeadCode().run(InlineMovers().run(region, context), context)
    statements = [statement for statement in region.statements if isinstance(statement, Compute)]
    return alternative(statements, anchors, frozenset(program.constants), label, context)
