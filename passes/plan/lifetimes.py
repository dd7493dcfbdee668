"""Lifetimes: which values share bytes, and from which step to which each is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from passes.plan.storage import Storage, storage_of
from tensoropt.allocation import Allocation, Buffer, Span
from tensoropt.ir.program import Program


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The problem of placing a program's values that have bytes of their own.

    ``over``: the buffer of each value that takes over another's bytes.
    """

    problem: Allocation
    over: Mapping[str, str] = field(default_factory=dict)


def workspace_of(name: str) -> str:
    """The buffer of the scratch memory of the statement that writes a value first."""
    return f"workspace of {name}"


def lifetimes(
    program: Program,
    workspaces: Mapping[str, int],
    storage: Storage,
    takeovers: Mapping[str, Sequence[str]] | None = None,
) -> Lifetimes:
    """Buffers for everything that statements assign and that is not the caller's (inputs, outputs), constant, or kept in another.

    And for the scratch memory of statements, in bytes by the first value that they write. ``takeovers``: the values that one may
    take the bytes of; the first of them that nothing reads afterwards is taken.
    """
    outputs = {tensor.name for tensor in program.outputs}
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    sizes: dict[str, int] = {}
    begun: dict[str, list[tuple[str, int]]] = {}
    for step, statement in enumerate(program.statements):
        for tensor in statement.inputs:
            last[storage.owner(tensor.name)] = step
        for tensor in statement.outputs:
            owner = storage.owner(tensor.name)
            if owner not in outputs and tensor.name not in storage.views:
                first.setdefault(owner, step)  # the first part of a whole begins it
                sizes[tensor.name] = tensor.type.bytes
                if tensor.name in storage.parts:
                    begun.setdefault(owner, []).append((tensor.name, step))
    over: dict[str, str] = {}
    ends: dict[str, int] = {}
    for name, step in first.items():
        free = (source for source in (takeovers or {}).get(name, ()) if last[source] == step)
        source = next(free, None)
        owner = name if source is None else over.get(source, source)
        if source is not None:
            over[name] = owner
        ends[owner] = last.get(name, step)
    buffers = tuple(
        Buffer(name, sizes[name], step, ends[name], _spans(begun.get(name, ()), ends[name], storage, sizes))
        for name, step in first.items()
        if name not in over
    )
    steps = {statement.outputs[0].name: step for step, statement in enumerate(program.statements)}
    scratch = tuple(Buffer(workspace_of(name), size, steps[name], steps[name]) for name, size in workspaces.items())
    return Lifetimes(Allocation((*buffers, *scratch)), over)


def _spans(parts: Sequence[tuple[str, int]], last: int, storage: Storage, sizes: Mapping[str, int]) -> tuple[Span, ...]:
    """Each part of a whole from the step that writes it on; wholes that are parts themselves are written by their own.

    Parts that are not contiguous lie between one another: the first of them takes all of their whole.
    """
    wholes = set(storage.parts.values())
    spans: dict[str, Span] = {}
    for name, step in parts:
        if name not in wholes:
            taken = storage.parts[name] if name in storage.strides else name
            spans.setdefault(taken, Span(storage.start(taken), sizes[taken], step, last))
    return tuple(spans.values())


def joined_storage(program: Program) -> Storage:
    """The program's storage with every concatenation that does not make more bytes live at once than there are without it."""
    wholes = dict.fromkeys(storage_of(program, ()).parts.values())
    apart = set(wholes)
    best = storage_of(program)
    least = lifetimes(program, {}, best).problem.live_peak()
    for whole in wholes:
        tried = storage_of(program, apart - {whole})
        peak = lifetimes(program, {}, tried).problem.live_peak()
        if peak <= least:
            best, least, apart = tried, peak, apart - {whole}
    return best
