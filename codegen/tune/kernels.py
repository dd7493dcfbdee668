"""The distinct kernels of a program, those that take most of the time first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from codegen.build import numbered
from codegen.targets.cpu import CpuTarget
from codegen.targets.parsing import Target
from codegen.tune.layout import Layout, layout_of
from codegen.tune.worker import alternative_key
from tensoropt.allocation import Placement
from tensoropt.cost import Alternative
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Tensor, scopes
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import arithmetic, is_contraction

_CYCLES = 2.5e9
"""Cycles a second."""
_BYTES = 1.5e10
"""Bytes a second that all threads together read or write."""
_DEVICE_OPERATIONS = 1e10
"""Operations a second of a multiprocessor of a device of which no rates are known."""


@dataclass(frozen=True, slots=True)
class ProgramKernel:
    """A kernel over numbered tensors, the statements that it computes, and about how many seconds one run takes.

    ``key`` is the same for equal kernels, whatever their tensors and iterators are called. On devices they are equal only where
    ``layout`` is the same too: it is part of their code.
    """

    key: str
    kernel: Compute
    constants: frozenset[str]
    uses: tuple[Compute, ...]
    estimate: float
    layout: Layout = field(default_factory=Layout)

    @property
    def weight(self) -> float:
        """About how many seconds all runs of it take together."""
        return self.estimate * len(self.uses)

    def alternative(self) -> Alternative:
        """The kernel alone, to be measured."""
        return Alternative((self.kernel,), (self.kernel.output,), self.constants)


def distinct_kernels(program: Program, plan: Placement, target: Target) -> list[ProgramKernel]:
    """The kernels that the program runs, each once, the heaviest first. Opaque operators have no schedules."""
    found: dict[str, ProgramKernel] = {}
    uses: dict[str, list[Compute]] = {}
    for statement in program.statements:
        if not isinstance(statement, Compute) or statement.output.name in plan.idle:
            continue
        if not statement.output.type.elements:
            continue
        kernel = program_kernel(statement, program, target, plan)
        uses.setdefault(kernel.key, []).append(statement)
        found[kernel.key] = replace(found.get(kernel.key, kernel), uses=tuple(uses[kernel.key]))
    return sorted(found.values(), key=lambda kernel: -kernel.weight)


def program_kernel(
    statement: Compute, program: Program, target: Target, plan: Placement | None = None
) -> ProgramKernel:
    """The kernel of one statement. ``plan``: where its values lie, for devices."""
    kernel, constants = numbered_kernel(statement, program)
    key = f"kernel: {alternative_key(Alternative((kernel,), (kernel.output,), constants))}"
    layout = Layout()
    if plan is not None and not isinstance(target, CpuTarget):
        layout = layout_of(statement.output.name, numbered(statement.expression)[1], plan)
        key += layout.text((*canonical_kernel_key(kernel.expression)[1], kernel.output))
    return ProgramKernel(key, kernel, constants, (statement,), _estimate(kernel, target), layout)


def numbered_kernel(statement: Compute, program: Program) -> tuple[Compute, frozenset[str]]:
    """The statement's kernel over numbered tensors, and which of these are constants of the program."""
    expression, actual = numbered(statement.expression)
    constants = frozenset(name for name, tensor in actual.items() if tensor.name in program.constants)
    return Compute(Tensor("out", statement.output.type), expression), constants


def _estimate(kernel: Compute, target: Target) -> float:
    """Seconds of a kernel that does what it can: for an order of work, not for a choice."""
    wide, narrow = 0, 0
    for scope in scopes(kernel.expression):
        if is_contraction(scope):
            wide += arithmetic(scope)
        else:
            narrow += arithmetic(scope)
    moved = kernel.output.type.bytes + sum(tensor.type.bytes for tensor in kernel.inputs)
    if not isinstance(target, CpuTarget):
        ceilings = target.ceilings
        operations = ceilings.f32 or _DEVICE_OPERATIONS * target.multiprocessors
        return max((wide + narrow) / operations, moved / (ceilings.bytes_per_second or _BYTES))
    cycles = wide / (2 * target.lanes) + narrow / 4
    return max(cycles / (_CYCLES * target.threads), moved / _BYTES)
