"""Neighbours that one thread handles together, so that it reads and writes up to 16 bytes of them at once.

All of it is proved from the form of the indices: elements of a source are read at once where they lie side by side, where the
first of them is at a multiple of what is read, and where one guard, if any is needed, stands for all. Where one of the reads that
the neighbours do not share is not so, each of them has a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.device.table import ALIGNED
from codegen.lower import scalar, tir
from codegen.lower.emitter import Emitter, Source, Value
from codegen.lower.reads import operations, reads
from codegen.schedules.gpu.context import Context
from tensoropt.ir.expression import Access, Scalar, substitute
from tensoropt.ir.index import Index, Iterator

_WRITTEN_OUT = 256
"""Operations that a thread does one after another: more hide how memory is read."""


@dataclass(frozen=True, slots=True)
class Together:
    """An element of each neighbour, side by side in memory from ``flat`` on: read at once."""

    accesses: tuple[Access, ...]
    flat: Index


@dataclass(frozen=True, slots=True)
class Neighbours:
    """``count`` points of a loop whose ``bodies`` one thread computes, 1 of them where no more can be read at once.

    They are in terms of ``chunk``, which counts such groups. ``loads`` are what is read at once.
    """

    loop: Iterator
    chunk: Iterator
    bodies: tuple[Scalar, ...]
    loads: tuple[Together, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.bodies)

    def places(self, index: Index) -> list[Index]:
        """An index in terms of the loop, of each of them."""
        return each(index, self.loop, self.chunk, self.count)

    def read(self, context: Context, emitter: Emitter) -> None:
        """Reads what is read at once, and tells the emitter."""
        for load in self.loads:
            access = load.accesses[0]
            own = tir.local(tir.stored(access.dtype), self.count, "neighbours")
            condition, _ = emitter.conditions(access)
            at = emitter.bind(emitter.index(emitter.place(load.flat)))
            fetched = tir.load_at_once(own, context.buffers[access.source], at, self.count)
            emitter.statements.append(tir.allocate(own))
            if condition is not None:
                outside = tir.number(access.outside.value, tir.COMPUTED[access.dtype])
                blank = emitter.bind(scalar.to_stored(outside, access.dtype, 1))
                emitter.statements += [tir.store(own, blank, tir.integer(lane)) for lane in range(self.count)]
                fetched = tir.when(condition, fetched)
            emitter.statements.append(fetched)
            for lane, one in enumerate(load.accesses):
                value = scalar.from_stored(tir.load(own, tir.integer(lane)), access.dtype, 1)
                emitter.give(one, Value(emitter.bind(value), True))


def neighbours(
    context: Context, body: Scalar, loop: Iterator, written: int, wanted: Callable[[int, Iterator], bool]
) -> Neighbours:
    """The most points of a loop that read together all that they do not share, where so many of a chunk are wanted.

    The largest type that takes part decides how many 16 bytes hold; what is written has ``written`` bytes each, 0 where that is
    not to decide.
    """
    sizes = [access.dtype.itemsize for access, _ in reads(body, context.buffers.keys()).loads]
    count = ALIGNED // (max([written, *sizes]) or ALIGNED)
    while True:
        if count == 1:
            return alone(body, loop)
        chunk = Iterator(f"{loop.name}_chunk", loop.extent // count)
        if loop.extent % count == 0 and count * operations(body) <= _WRITTEN_OUT and wanted(count, chunk):
            bodies = tuple(substitute(body, {loop: Index.of(chunk) * count + lane}) for lane in range(count))
            loads = _together(context, bodies)
            if loads is not None:
                return Neighbours(loop, chunk, bodies, loads)
        count //= 2


def alone(body: Scalar, loop: Iterator) -> Neighbours:
    """Each point of a loop by itself."""
    chunk = Iterator(f"{loop.name}_chunk", loop.extent)
    return Neighbours(loop, chunk, (substitute(body, {loop: Index.of(chunk)}),), ())


def each(index: Index, loop: Iterator, chunk: Iterator, count: int) -> list[Index]:
    """An index at each of ``count`` neighbours of a loop."""
    return [index.substitute({loop: Index.of(chunk) * count + lane}) for lane in range(count)]


def begin_together(places: Sequence[Index]) -> bool:
    """Whether places lie one after another, from a multiple of their number on."""
    first, count = places[0], len(places)
    return all(place is first + lane for lane, place in enumerate(places)) and first % count is Index.of(0)


def at_once(context: Context, source: Source, places: Sequence[Index]) -> bool:
    """Whether elements of a source can be read or written at once."""
    return begin_together(places) and context.alignments.get(source, 1) % (len(places) * source.dtype.itemsize) == 0


def write(context: Context, emitter: Emitter, source: Source, first: Index, values: Sequence[Any]) -> Any:
    """Everything that has been emitted, and the store of values as they lie in memory, at once where there are several."""
    buffer = context.buffers[source]
    if len(values) == 1:
        return tir.sequence([*emitter.statements, emitter.write(buffer, first, values[0])])
    own = tir.local(tir.stored(source.dtype), len(values), "written")
    kept = [tir.store(own, value, tir.integer(lane)) for lane, value in enumerate(values)]
    at = emitter.bind(emitter.index(emitter.place(first)))
    stored = tir.store_at_once(buffer, at, own, tir.integer(0), len(values))
    return tir.sequence([*emitter.statements, tir.allocate(own), *kept, stored])


def _together(context: Context, bodies: Sequence[Scalar]) -> tuple[Together, ...] | None:
    """What the bodies read, but for what all of them read; None where some of it cannot be read at once."""
    found = [dict(reads(body, context.buffers.keys()).loads) for body in bodies]
    shared = set.intersection(*(set(loads) for loads in found))
    groups = []
    for access, flat in found[0].items():
        if access in shared:
            continue
        members = [access]
        for lane, loads in enumerate(found[1:], 1):
            for other, place in loads.items():
                if (
                    other.source is access.source
                    and place is flat + lane
                    and _guarded_alike(access, other, lane, len(bodies))
                ):
                    members.append(other)
                    break
            else:
                return None
        if not at_once(context, access.source, [flat + lane for lane in range(len(bodies))]):
            return None
        groups.append(Together(tuple(members), flat))
    known = shared.union(*(group.accesses for group in groups))
    return tuple(groups) if all(access in known for loads in found for access in loads) else None


def _guarded_alike(first: Access, other: Access, lane: int, count: int) -> bool:
    """Whether an access is in its box exactly where that of the first neighbour is, and has the same value outside."""
    if first.stays_inside and other.stays_inside:
        return True
    if first.outside is not other.outside:
        return False
    return all(
        index is later
        or (min(index.low, later.low) >= 0 and max(index.high, later.high) < extent)
        or (later is index + lane and index % count is Index.of(0) and extent % count == 0)
        for index, later, extent in zip(first.indices, other.indices, first.source.shape, strict=True)
    )
