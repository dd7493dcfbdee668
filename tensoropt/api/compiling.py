"""Compiling a program of kernels: lowered, placed with the scratch memory that the kernels turn out to need, and linked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import Placement
from tensoropt.ir.program import Program

if TYPE_CHECKING:
    from codegen.build import BuiltProgram
    from codegen.targets.cpu import CpuTarget


def compiled(
    program: Program,
    cpu: CpuTarget,
    variants: Mapping[str, Any],
    placement: Placement | None = None,
    progress: Callable[[float, str], None] = lambda share, detail: None,
) -> BuiltProgram:
    """The program linked; in the order of its statements where no ``placement`` is given. ModelError as `compile_program`."""
    from codegen.build import link, lowered, workspaces_of
    from passes.pipeline import plan
    from passes.plan.lifetimes import joined_storage

    if placement is not None:
        return link(program, placement, cpu, lowered(program, placement.idle, cpu, progress, variants), progress)
    storage = joined_storage(program)
    steps = lowered(program, storage.idle, cpu, progress, variants)
    return link(program, plan(program, workspaces_of(steps), storage), cpu, steps, progress)
