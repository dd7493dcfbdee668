"""The order in which a program is optimized: one page."""

from __future__ import annotations

from passes.combine.chains import CombineChains
from passes.combine.late_division import DivideLate
from passes.combine.shared import MergeShared
from passes.derive.compaction import CompactWindows
from passes.fuse import Fuse
from passes.normalise.compose_movers import ComposeMovers
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.fold_constants import FoldConstants
from passes.normalise.inline_movers import InlineMovers
from passes.plan.lifetimes import lifetimes
from passes.plan.packer import pack
from passes.plan.validator import problems
from passes.select import Select
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Context, Pass, run_passes
from tensoropt.plan_types import Plan

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


def optimize(program: Program, context: Context) -> Program:
    """The program of kernels, rewritten by derivation where that is faster."""
    return run_passes(program, (*NORMALISE, *COMBINE, *REWRITE, *KERNELS), context)


def compile_as_written(program: Program, context: Context) -> Program:
    """The program of kernels without rewriting: the same normalisation, fusion and schedules, the algebra of the model."""
    return run_passes(program, (*NORMALISE, *KERNELS), context)


def plan(program: Program) -> Plan:
    """An arena with an offset for every value, in the order of the program, judged by the validator.

    RuntimeError if the packer is wrong, which is a defect of this program.
    """
    found = lifetimes(program)
    result = pack(found.problem, found.aliases)
    wrong = problems(found.problem, result)
    if wrong:
        raise RuntimeError(f"the packer made an invalid plan: {wrong[0]}")
    return result
