"""Static allocation: buffers with lifetimes, which a packer places in one arena, and the offsets that code generators obey.

Buffers of inputs, outputs and constants are the caller's or the artefact's and take no place in the arena.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector of the targets."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from ``start`` on that are live from step ``first`` to step ``last``, inclusive."""

    start: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """A value in the arena: live from step ``first`` (which writes it) to step ``last`` (the last to read it), inclusive.

    ``parts``: what is live of it when, where it is written part by part; what is not yet written may hold others.
    """

    name: str
    bytes: int
    first: int
    last: int
    parts: tuple[Span, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its parts, or the one that it is."""
        return self.parts or (Span(0, self.bytes, self.first, self.last),)

    def meets(self, distance: int, other: Buffer) -> bool:
        """Whether bytes of both are live at once where the other begins so many bytes further."""
        return any(
            min(own.bytes, one.bytes) > 0
            and own.first <= one.last
            and one.first <= own.last
            and own.start < distance + one.start + one.bytes
            and distance + one.start < own.start + own.bytes
            for own in self.spans
            for one in other.spans
        )


@dataclass(frozen=True, slots=True)
class Allocation:
    """Buffers to place."""

    buffers: tuple[Buffer, ...]
    alignment: int = ALIGNMENT

    def live_peak(self) -> int:
        """The largest sum of live bytes over the steps."""
        steps: dict[int, int] = {}
        for span in (span for buffer in self.buffers for span in buffer.spans):
            steps[span.first] = steps.get(span.first, 0) + span.bytes
            steps[span.last + 1] = steps.get(span.last + 1, 0) - span.bytes
        live = peak = 0
        for step in sorted(steps):
            live += steps[step]
            peak = max(peak, live)
        return peak


@dataclass(frozen=True, slots=True)
class Placement:
    """Offsets in bytes by value name, and the arena's size.

    ``aliases`` maps a value that is a view to the value whose bytes it shows, from byte ``starts`` on where it is not the first; a
    view has no offset of its own. ``wholes`` are values that their parts' statements write; parts of an output, which is the
    caller's, have no offset either, and ``inside`` says of which output they are. ``strides`` are those of parts that are not
    contiguous, in elements. ``workspaces`` are offsets of the scratch memory of statements, by the first value that they write;
    others have theirs behind the arena. ``host_bytes`` behind the arena stand for memory of the host, where values lie that are
    copied there and back.
    """

    offsets: Mapping[str, int]
    arena_bytes: int
    peak_bytes: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    workspaces: Mapping[str, int] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)
    wholes: frozenset[str] = frozenset()
    inside: Mapping[str, str] = field(default_factory=dict)
    strides: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    host_bytes: int = 0

    @property
    def idle(self) -> frozenset[str]:
        """The values whose statements do nothing."""
        return self.wholes | self.aliases.keys()

    def start(self, name: str) -> int:
        """The first byte of a value in its storage."""
        total = 0
        while name in self.aliases or name in self.inside:
            total += self.starts.get(name, 0)
            name = self.aliases.get(name) or self.inside[name]
        return total

    def storage(self, name: str) -> str:
        """The value whose bytes a name stands for: itself, what it is a view of, or the output that it is a part of."""
        return shown(name, {**self.inside, **self.aliases})


def shown(name: str, aliases: Mapping[str, str]) -> str:
    """The value whose bytes a name stands for: itself, or what it is a view of."""
    while name in aliases:
        name = aliases[name]
    return name
