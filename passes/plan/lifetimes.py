"""Lifetimes: which values share bytes, and from which step to which each is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensoropt.allocation import Allocation, Buffer, shown
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import view_source


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The problem of placing a program's values, with the views that need no place of their own.

    ``over``: the buffer of each value that takes over another's bytes.
    """

    problem: Allocation
    aliases: Mapping[str, str]
    over: Mapping[str, str] = field(default_factory=dict)


def views(program: Program) -> dict[str, str]:
    """The values that are other values' bytes in another shape, and what they show.

    A reshape of any value is a view, unless it is an output of the program, which belongs to the caller and is written.
    """
    outputs = {tensor.name for tensor in program.outputs}
    found: dict[str, str] = {}
    for statement in program.statements:
        if isinstance(statement, Compute) and statement.output.name not in outputs:
            source = view_source(statement.expression)
            if isinstance(source, Tensor):
                found[statement.output.name] = source.name
    return found


def workspace_of(name: str) -> str:
    """The buffer of the scratch memory of the statement that writes a value first."""
    return f"workspace of {name}"


def lifetimes(
    program: Program, workspaces: Mapping[str, int], takeovers: Mapping[str, Sequence[str]] | None = None
) -> Lifetimes:
    """Buffers for everything that statements assign and that is not the caller's (inputs, outputs), constant, or a view.

    And for the scratch memory of statements, in bytes by the first value that they write. ``takeovers``: the values that one may
    take the bytes of; the first of them that nothing reads afterwards is taken.
    """
    outputs = {tensor.name for tensor in program.outputs}
    aliases = views(program)
    last: dict[str, int] = {}
    first: dict[str, tuple[int, Tensor]] = {}
    for step, statement in enumerate(program.statements):
        for tensor in statement.inputs:
            last[shown(tensor.name, aliases)] = step
        for tensor in statement.outputs:
            if tensor.name not in outputs and tensor.name not in aliases:
                first[tensor.name] = (step, tensor)
    over: dict[str, str] = {}
    ends: dict[str, int] = {}
    for name, (step, _) in first.items():
        free = (source for source in (takeovers or {}).get(name, ()) if last[source] == step)
        source = next(free, None)
        owner = name if source is None else over.get(source, source)
        if source is not None:
            over[name] = owner
        ends[owner] = last.get(name, step)
    buffers = tuple(
        Buffer(name, tensor.type.bytes, step, ends[name]) for name, (step, tensor) in first.items() if name not in over
    )
    steps = {statement.outputs[0].name: step for step, statement in enumerate(program.statements)}
    scratch = tuple(Buffer(workspace_of(name), size, steps[name], steps[name]) for name, size in workspaces.items())
    return Lifetimes(Allocation((*buffers, *scratch)), aliases, over)
