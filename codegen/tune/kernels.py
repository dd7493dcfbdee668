"""The distinct kernels of a program, those that take most of the time first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codegen.build import numbered
from codegen.targets.cpu import CpuTarget
from codegen.tune.worker import alternative_key
from tensoropt.allocation import Placement
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Tensor, scopes
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import arithmetic, is_contraction

_CYCLES = 2.5e9
"""Cycles a second."""
_BYTES = 1.5e10
"""Bytes a second that all threads together read or write."""


@dataclass(frozen=True, slots=True)
class ProgramKernel:
    """A kernel over numbered tensors, the statements that it computes, and about how many seconds one run takes.

    ``key`` is the same for equal kernels, whatever their tensors and iterators are called.
    """

    key: str
    kernel: Compute
    constants: frozenset[str]
    uses: tuple[Compute, ...]
    estimate: float

    @property
    def weight(self) -> float:
        """About how many seconds all runs of it take together."""
        return self.estimate * len(self.uses)

    def alternative(self) -> Alternative:
        """The kernel alone, to be measured."""
        return Alternative((self.kernel,), (self.kernel.output,), self.constants)


def distinct_kernels(program: Program, plan: Placement, target: CpuTarget) -> list[ProgramKernel]:
    """The kernels that the program runs, each once, the heaviest first. Opaque operators have no schedules."""
    found: dict[str, ProgramKernel] = {}
    uses: dict[str, list[Compute]] = {}
    for statement in program.statements:
        if not isinstance(statement, Compute) or statement.output.name in plan.idle:
            continue
        if not statement.output.type.elements:
            continue
        kernel = program_kernel(statement, program, target)
        uses.setdefault(kernel.key, []).append(statement)
        found[kernel.key] = replace(found.get(kernel.key, kernel), uses=tuple(uses[kernel.key]))
    return sorted(found.values(), key=lambda kernel: -kernel.weight)


def program_kernel(statement: Compute, program: Program, target: CpuTarget) -> ProgramKernel:
    """The kernel of one statement."""
    kernel, constants = numbered_kernel(statement, program)
    key = f"kernel: {alternative_key(Alternative((kernel,), (kernel.output,), constants))}"
    return ProgramKernel(key, kernel, constants, (statement,), _estimate(kernel, target))


def numbered_kernel(statement: Compute, program: Program) -> tuple[Compute, frozenset[str]]:
    """The statement's kernel over numbered tensors, and which of these are constants of the program."""
    expression, actual = numbered(statement.expression)
    constants = frozenset(name for name, tensor in actual.items() if tensor.name in program.constants)
    return Compute(Tensor("out", statement.output.type), expression), constants


def _estimate(kernel: Compute, target: CpuTarget) -> float:
    """Seconds of a kernel that does what it can: for an order of work, not for a choice."""
    wide, narrow = 0, 0
    for scope in scopes(kernel.expression):
        if is_contraction(scope):
            wide += arithmetic(scope)
        else:
            narrow += arithmetic(scope)
    moved = kernel.output.type.bytes + sum(tensor.type.bytes for tensor in kernel.inputs)
    cycles = wide / (2 * target.lanes) + narrow / 4
    return max(cycles / (_CYCLES * target.threads), moved / _BYTES)
