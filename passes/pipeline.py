"""The order in which a program is optimized: one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from passes.combine.chains import CombineChains
from passes.combine.late_division import DivideLate
from passes.combine.shared import MergeShared
from passes.derive.compaction import CompactWindows
from passes.fuse import Fuse
from passes.inline_operands import InlineOperands
from passes.join_first import JoinFirst
from passes.join_scores import JoinScores
from passes.normalise.compose_movers import ComposeMovers
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.fold_constants import FoldConstants
from passes.normalise.inline_movers import InlineMovers
from passes.plan.in_place import takeovers
from passes.plan.lifetimes import joined_storage, lifetimes, workspace_of
from passes.plan.packer import pack
from passes.plan.placed import problems
from passes.plan.storage import Storage, placed
from passes.select import Select
from passes.winograd import FilterByPoints
from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Context, Pass, run_passes

NORMALISE: tuple[Pass, ...] = (
    RemoveDeadCode(),
    FoldConstants(),
    ComposeMovers(),
    InlineMovers(),
    RemoveDeadCode(),
)
"""The program as imported, without work that no output needs or that needs no input."""

COMBINE: tuple[Pass, ...] = (
    CombineChains(depth=1),  # what is affine goes into weights
    FoldConstants(),
    CombineChains(depth=6),  # products of many tensors in the best order
    FoldConstants(),
    MergeShared(),  # contractions of one input become one
    FoldConstants(),
    InlineMovers(),
    DivideLate(),  # softmax is divided after the product with the values
    RemoveDeadCode(),
)
"""Statements rewritten together: derivations of several expressions."""

FILTER: tuple[Pass, ...] = (
    FilterByPoints(),  # convolutions by fewer products, before the search and once more for those that it derives
    FoldConstants(),  # their weights, transformed
    RemoveDeadCode(),
)
"""Convolutions get kernels that no library operator stands for."""

REWRITE: tuple[Pass, ...] = (
    Select(),  # derives candidates for every contraction, and takes the fastest cover
    FoldConstants(),  # what derivation computes from weights alone
    ComposeMovers(),
    RemoveDeadCode(),
)

KERNELS: tuple[Pass, ...] = (
    CompactWindows(),  # after selection: derivation starts from the long form
    Fuse(),
)
"""Statements become kernels."""


def device_kernels(in_one_launch: Callable[[Scope], bool]) -> tuple[Pass, ...]:
    """``KERNELS`` of a device that computes some kernels of several contractions in one launch."""
    return (*KERNELS, JoinScores(in_one_launch))


def joined_first(in_one_launch: Callable[[Scope], bool]) -> tuple[Pass, ...]:
    """What such a device computes in one launch and selection would take apart becomes a statement before selection."""
    return (JoinFirst(in_one_launch, REWRITE, KERNELS), RemoveDeadCode())


def optimize(
    program: Program, context: Context, kernels: Sequence[Pass] = KERNELS, first: Sequence[Pass] = ()
) -> Program:
    """The program of kernels, rewritten by derivation where that is faster: after what comes ``first``.

    ``kernels`` makes them of statements.
    """
    program = run_passes(program, (*NORMALISE, *COMBINE, *first, *FILTER, *REWRITE, *FILTER), context)
    return run_passes(program, (*kernels, InlineOperands()), context)


def portable(context: Context) -> Program:
    """The optimized program as other runtimes should get it: statements that only our own kernels profit from are as they were."""
    names = [name for name, _ in context.stages]
    program = context.stages[names.index(KERNELS[0].name) - 1][1]
    statements = [context.written_as.get(statement.outputs[0], statement) for statement in program.statements]
    constants = {**program.constants}
    for _, earlier in context.stages:  # the weights before they were transformed
        constants = {**earlier.constants, **constants}
    return run_passes(
        program.with_statements(statements, constants), (RemoveDeadCode(), *KERNELS), Context(context.cost_model)
    )


def compile_as_written(program: Program, context: Context, kernels: Sequence[Pass] = KERNELS) -> Program:
    """The program of kernels without rewriting: the same normalisation, fusion and schedules, the algebra of the model."""
    return run_passes(program, (*NORMALISE, *kernels), context)


def plan(
    program: Program,
    workspaces: Mapping[str, int] | None = None,
    storage: Storage | None = None,
    alignment: int = ALIGNMENT,
) -> Placement:
    """An arena with an offset for every value, a multiple of ``alignment``, in the order of the program, judged by the validator.

    ``workspaces``: bytes of statements' scratch memory, by the first value that they write, which are placed as well. Element-wise
    statements write over what they read last. RuntimeError if the packer is wrong, which is a defect of this program.
    """
    kept = storage or joined_storage(program)
    found = lifetimes(program, workspaces or {}, kept, takeovers(program, kept))
    problem = replace(found.problem, alignment=alignment)
    result = pack(problem)
    wrong = problems(problem, result)
    if wrong:
        raise RuntimeError(f"the packer made an invalid plan: {wrong[0]}")
    scratch = {name: result.offsets[workspace_of(name)] for name in workspaces or {}}
    values = result.offsets.keys() - {workspace_of(name) for name in scratch}
    offsets = {name: offset for name, offset in result.offsets.items() if name in values}
    offsets |= {name: offsets[owner] for name, owner in found.over.items()}
    return placed(replace(result, offsets=offsets, workspaces=scratch), kept)
