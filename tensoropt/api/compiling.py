"""Compiling a program of kernels: lowered, placed with the scratch memory that the kernels turn out to need, and linked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import Placement
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Compute, Program

if TYPE_CHECKING:
    from codegen.build import BuiltProgram
    from codegen.device.build import BuiltDeviceProgram
    from codegen.targets.cpu import CpuTarget
    from codegen.targets.gpu import GpuTarget


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
        steps = lowered(program, placement.idle, cpu, progress, variants, placement.strides)
        return link(program, placement, cpu, steps, progress)
    storage = joined_storage(program)
    steps = lowered(program, storage.idle, cpu, progress, variants, storage.strides)
    return link(program, plan(program, workspaces_of(steps), storage), cpu, steps, progress)


def compiled_for_device(
    program: Program,
    gpu: GpuTarget,
    progress: Callable[[float, str], None] = lambda share, detail: None,
    variants: Mapping[str, Any] | None = None,
) -> BuiltDeviceProgram:
    """The program as kernels of a GPU, in the order of its statements. ModelError for what is not compiled for GPUs."""
    from codegen.device.build import link, lowered, workspaces_of
    from passes.pipeline import plan
    from passes.plan.lifetimes import joined_storage

    storage = joined_storage(program)
    steps = lowered(program, storage.idle, gpu, progress, variants, storage.strides, storage.start)
    return link(program, plan(program, workspaces_of(steps), storage, gpu.alignment), gpu, steps, progress)


def variants_of(program: Program, tuned: Program, variants: Mapping[str, Any]) -> dict[str, Any]:
    """The variants of a program's kernels among those of the program that was tuned: where they compute the same.

    Another kernel may have the name of a value too, where it was rewritten, and its schedules are others.
    """
    known, now = expressions_of(tuned), expressions_of(program)
    return {
        name: variants[name] for name, expression in now.items() if name in variants and known.get(name) is expression
    }


def expressions_of(program: Program) -> dict[str, Scope]:
    """What each statement of the algebra computes, by its value."""
    return {one.output.name: one.expression for one in program.statements if isinstance(one, Compute)}
