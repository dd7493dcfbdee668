"""A program of kernels as a planning problem."""

from __future__ import annotations

from collections.abc import Callable

from passes.plan.in_place import takeovers
from passes.plan.lifetimes import views
from tensoropt.allocation import ALIGNMENT, shown
from tensoropt.cost import CostModel
from tensoropt.errors import ModelError
from tensoropt.ir.program import Opaque, Program
from tensoropt.plan_types import Problem, Step, Value

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that give another result the second time."""


def problem_of(
    program: Program, costs: CostModel, progress: Callable[[float, str], None] = lambda share, detail: None
) -> Problem:
    """Statements in their order, with durations in nanoseconds. Inputs and constants take no memory, outputs live to the end.

    ModelError where a kernel fails.
    """
    aliases = views(program)
    constants = frozenset(program.constants)
    may_take = takeovers(program)
    outputs = {tensor.name for tensor in program.outputs}
    values: list[Value] = []
    number: dict[str, int] = {}
    steps: list[Step] = []
    for position, statement in enumerate(program.statements):
        name = statement.outputs[0].name
        if name in aliases:
            continue
        progress(position / len(program.statements), name)
        writes = []
        for tensor in statement.outputs:
            number[tensor.name] = len(values)
            writes.append(len(values))
            values.append(Value(tensor.name, tensor.type.bytes, tensor.name in outputs))
        sources = (shown(tensor.name, aliases) for tensor in statement.inputs)
        reads = tuple(dict.fromkeys(number[source] for source in sources if source in number))
        cost = costs.cost(statement, constants)
        if cost.source == "failed":
            raise ModelError(f"{program.name}: the kernel of {name} could not be measured: {cost.reason}")
        duration = round(cost.seconds * 1e9)
        again = not (isinstance(statement, Opaque) and statement.operator in RANDOM)
        over = tuple((number[name], number[source]) for source in may_take.get(name, ()))
        steps.append(Step(name, duration, reads, tuple(writes), cost.workspace_bytes, again, over))
    return Problem(program.name, tuple(values), tuple(steps), aliases, ALIGNMENT).check()
