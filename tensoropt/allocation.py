"""Static allocation: buffers with lifetimes, which a packer places in one arena, and the offsets that code generators obey.

Buffers of inputs, outputs and constants are the caller's or the artefact's and take no place in the arena.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector of the targets."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A value in the arena: live from step ``first`` (which writes it) to step ``last`` (the last to read it), inclusive."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """Buffers to place."""

    buffers: tuple[Buffer, ...]
    alignment: int = ALIGNMENT

    def live_peak(self) -> int:
        """The largest sum of live bytes over the steps."""
        steps: dict[int, int] = {}
        for buffer in self.buffers:
            steps[buffer.first] = steps.get(buffer.first, 0) + buffer.bytes
            steps[buffer.last + 1] = steps.get(buffer.last + 1, 0) - buffer.bytes
        live = peak = 0
        for step in sorted(steps):
            live += steps[step]
            peak = max(peak, live)
        return peak


@dataclass(frozen=True, slots=True)
class Placement:
    """Offsets in bytes by value name, and the arena's size.

    ``aliases`` maps a value that is a view to the value whose bytes it shows; a view has no offset of its own. ``workspaces`` are
    offsets of the scratch memory of statements, by the first value that they write; others have theirs behind the arena.
    """

    offsets: Mapping[str, int]
    arena_bytes: int
    peak_bytes: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    workspaces: Mapping[str, int] = field(default_factory=dict)

    def storage(self, name: str) -> str:
        """The value whose bytes a name stands for: itself, or what it is a view of."""
        return shown(name, self.aliases)


def shown(name: str, aliases: Mapping[str, str]) -> str:
    """The value whose bytes a name stands for: itself, or what it is a view of."""
    while name in aliases:
        name = aliases[name]
    return name
