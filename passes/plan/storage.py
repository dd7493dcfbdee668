"""Where values are kept: which have bytes of their own, and which lie in another's.

A **view** shows bytes of another value (a reshape, a contiguous slice), so that its statement does nothing. A **part** is written
into its place in a **whole** (a concatenation), whose statement does nothing then. A part that is not contiguous there can only be
written: it is one where nothing but the concatenation reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tensoropt.allocation import Placement
from tensoropt.ir.expression import Tensor
from tensoropt.ir.parts import parts_of, range_of
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import view_source


@dataclass(frozen=True, slots=True)
class Storage:
    """``views``: what each view shows; ``parts``: the whole that each part lies in; ``starts``: the first byte there of either,
    where it is not the first; ``strides``: of parts that are not contiguous, in elements, which they have in their owners too."""

    views: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)
    strides: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def idle(self) -> frozenset[str]:
        """The values whose statements do nothing."""
        return frozenset(self.views) | frozenset(self.parts.values())

    def owner(self, name: str) -> str:
        """The value whose bytes hold a value: itself, what it is a view of, or what that is a part of."""
        while name in self.views or name in self.parts:
            name = self.views.get(name) or self.parts[name]
        return name

    def start(self, name: str) -> int:
        """The first byte of a value in its owner."""
        total = 0
        while name in self.views or name in self.parts:
            total += self.starts.get(name, 0)
            name = self.views.get(name) or self.parts[name]
        return total


def storage_of(program: Program, apart: Collection[str] | None = None) -> Storage:
    """How a program keeps its values. Outputs belong to the caller and are written; nothing is joined where ``apart`` is None.

    A value is a part of one whole at the most, the first that reads it and is not to be kept ``apart`` from its parts. Inputs,
    constants, views and outputs are none. What several statements read, an operator outside the algebra writes or others are
    parts of is contiguous.
    """
    outputs = {tensor.name for tensor in program.outputs}
    views: dict[str, str] = {}
    starts: dict[str, int] = {}
    for statement in program.statements:
        if not isinstance(statement, Compute) or statement.output.name in outputs:
            continue
        source, shows = view_source(statement.expression), range_of(statement.expression)
        if isinstance(source, Tensor):
            views[statement.output.name] = source.name
        elif shows is not None:
            views[statement.output.name] = shows.tensor.name
            starts[statement.output.name] = shows.start * shows.tensor.dtype.itemsize
    parts: dict[str, str] = {}
    strides: dict[str, tuple[int, ...]] = {}
    readers, producers = program.consumers(), program.producers()
    stored = {tensor.name for statement in program.statements for tensor in statement.outputs}
    stored -= outputs | views.keys()
    for statement in program.statements if apart is not None else ():
        if not isinstance(statement, Compute) or statement.output.name not in (stored | outputs) - set(apart or ()):
            continue
        found = parts_of(statement.expression)
        wholes = set(parts.values())
        if found and all(
            part.tensor.name in stored - parts.keys()
            and (
                part.strides is None
                or (
                    readers[part.tensor] == [statement]
                    and isinstance(producers[part.tensor], Compute)
                    and part.tensor.name not in wholes
                )
            )
            for part in found
        ):
            for part in found:
                parts[part.tensor.name] = statement.output.name
                starts[part.tensor.name] = part.start * part.tensor.dtype.itemsize
                if part.strides is not None:
                    strides[part.tensor.name] = part.strides
    return Storage(views, parts, starts, strides)


def placed(placement: Placement, storage: Storage) -> Placement:
    """The placement of all values, given that of those that have bytes of their own."""
    offsets = dict(placement.offsets)
    starts = {name: start for name, start in storage.starts.items() if name in storage.views}
    inside: dict[str, str] = {}
    for part in storage.parts:
        owner = storage.owner(part)
        if owner in offsets:
            offsets[part] = offsets[owner] + storage.start(part)
        else:
            inside[part] = owner
            starts[part] = storage.start(part)
    wholes = frozenset(storage.parts.values())
    return replace(
        placement,
        offsets=offsets,
        aliases=dict(storage.views),
        starts=starts,
        wholes=wholes,
        inside=inside,
        strides=dict(storage.strides),
    )
