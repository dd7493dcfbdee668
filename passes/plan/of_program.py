"""A program of kernels as a planning problem."""

from __future__ import annotations

from collections.abc import Callable

from passes.plan.in_place import takeovers
from passes.plan.storage import Storage
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
    program: Program,
    costs: CostModel,
    storage: Storage,
    progress: Callable[[float, str], None] = lambda share, detail: None,
) -> Problem:
    """Statements in their order, with durations in nanoseconds. Inputs and constants take no memory, outputs live to the end.

    A whole is written by the statement of its first part; those of the others read it, write a value of no bytes that stands for
    their part, and run once. ModelError where a kernel fails.
    """
    constants = frozenset(program.constants)
    may_take = takeovers(program, storage)
    outputs = {tensor.name for tensor in program.outputs}
    sizes = {tensor.name: tensor.type.bytes for statement in program.statements for tensor in statement.outputs}
    values: list[Value] = []
    number: dict[str, int] = {}
    steps: list[Step] = []

    def declared(name: str, size: int) -> int:
        number[name] = len(values)
        values.append(Value(name, size, name in outputs))
        return number[name]

    for position, statement in enumerate(program.statements):
        name = statement.outputs[0].name
        if name in storage.idle:
            continue
        progress(position / len(program.statements), name)
        sources = [value for tensor in statement.inputs for value in _values_of(tensor.name, storage)]
        writes = []
        for tensor in statement.outputs:
            owner = storage.owner(tensor.name)
            if owner in number:  # another part of it was written, by an earlier statement or by this one
                sources += [owner] if number[owner] not in writes else []
                writes.append(declared(tensor.name, 0))
            else:
                writes.append(declared(owner, sizes[owner]))
        reads = tuple(dict.fromkeys(number[source] for source in sources if source in number))
        cost = costs.cost(statement, constants)
        if cost.source == "failed":
            raise ModelError(f"{program.name}: the kernel of {name} could not be measured: {cost.reason}")
        duration = round(cost.seconds * 1e9)
        random = isinstance(statement, Opaque) and statement.operator in RANDOM
        again = not random and not any(tensor.name in storage.parts for tensor in statement.outputs)
        over = tuple((number[name], number[source]) for source in may_take.get(name, ()))
        steps.append(Step(name, duration, reads, tuple(writes), cost.workspace_bytes, again, over))
    return Problem(program.name, tuple(values), tuple(steps), dict(storage.views), ALIGNMENT).check()


def _values_of(name: str, storage: Storage) -> list[str]:
    """The values of the problem that a tensor is made of: its owner, and what stands for the parts that it reads."""
    shows = shown(name, storage.views)
    found = [storage.owner(shows)]
    inside = [shows]
    while inside:
        whole = inside.pop()
        own = [part for part, place in storage.parts.items() if place == whole]
        inside += own
        found += own if own else [whole]
    return found
