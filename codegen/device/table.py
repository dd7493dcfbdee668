"""A program for a device as data: which kernels start in which order, and where each of their pointers points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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


def as_json(starts: tuple[Start, ...]) -> list[dict[str, Any]]:
    """The table as plain data."""
    return [
        {
            "kernel": start.kernel,
            "grid": list(start.grid),
            "block": list(start.block),
            "arguments": [[place.region, place.offset, place.number] for place in start.arguments],
        }
        for start in starts
    ]


def from_json(entries: Iterable[Mapping[str, Any]]) -> tuple[Start, ...]:
    """The table that ``as_json`` wrote. KeyError, TypeError or ValueError where it is damaged."""
    return tuple(
        Start(
            str(entry["kernel"]),
            _three(entry["grid"]),
            _three(entry["block"]),
            tuple(Place(str(region), int(offset), int(number)) for region, offset, number in entry["arguments"]),
        )
        for entry in entries
    )


def _three(extents: Any) -> tuple[int, int, int]:
    x, y, z = map(int, extents)
    return x, y, z
