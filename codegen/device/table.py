"""A program for a device as data: which kernels start, and which libraries are called, in which order, and where each of their
pointers points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codegen.libraries import operations
from codegen.libraries.operations import LibraryCall

ALIGNED = 16
"""Every region starts at a multiple of so many bytes, whoever's memory it is: kernels read and write as many at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """A byte of a region: ``input`` and ``output`` (by number), ``arena`` (values and scratch memory) or ``weights``."""

    region: str
    offset: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """One launch of a kernel: blocks, threads of a block, and a place for each of its pointers."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a library in the place of a launch: a place for each of the operation's pointers."""

    call: LibraryCall
    arguments: tuple[Place, ...]


Entry = Start | Called


def as_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The table as plain data."""
    return [
        {**_work(entry), "arguments": [[p.region, p.offset, p.number] for p in entry.arguments]} for entry in entries
    ]


def from_json(entries: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """The table that ``as_json`` wrote. KeyError, TypeError or ValueError where it is damaged."""
    return tuple(_entry(entry) for entry in entries)


def _work(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, Called):
        return {"call": operations.as_json(entry.call)}
    return {"kernel": entry.kernel, "grid": list(entry.grid), "block": list(entry.block)}


def _entry(data: Mapping[str, Any]) -> Entry:
    places = tuple(Place(str(region), int(offset), int(number)) for region, offset, number in data["arguments"])
    if "call" in data:
        return Called(operations.from_json(data["call"]), places)
    return Start(str(data["kernel"]), _three(data["grid"]), _three(data["block"]), places)


def _three(extents: Any) -> tuple[int, int, int]:
    x, y, z = map(int, extents)
    return x, y, z
