"""What a schedule for a CPU gets beside the stage: the target, scratch memory, and constants in its own order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from codegen.lower import tir
from codegen.schedules.context import Surroundings
from codegen.targets.cpu import CpuTarget
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class Packing:
    """A constant rearranged when the program is compiled: ``body`` over the box of ``axes`` in row-major order.

    ``mapping`` gives the body's iterators in terms of the axes (those it leaves out are axes themselves). The last axis is
    filled up with zeros to ``padded`` elements.
    """

    body: Scalar
    axes: tuple[Iterator, ...]
    mapping: Mapping[Iterator, Index]
    dtype: DataType
    padded: int

    @property
    def elements(self) -> int:
        """Elements of the packed array."""
        return prod(axis.extent for axis in self.axes[:-1]) * self.padded


@dataclass
class Context(Surroundings):
    """The kernel around a stage on a CPU.

    ``workspace(dtype, elements)`` hands out scratch memory of the kernel; ``packed(packing)`` hands out a buffer with a constant
    as the schedule wants it.
    """

    target: CpuTarget
    workspace: Callable[[str, int], Any]
    packed: Callable[[Packing], Any]
    variant: Mapping[str, Any] = field(default_factory=dict)


def thread_range(extent: int, threads: int, task: Any, width: str) -> tuple[Any, Any]:
    """First iteration and number of iterations of a task, as even as possible."""
    if threads == 1:
        return tir.integer(0, width), tir.integer(extent, width)
    if extent % threads == 0:
        return task * tir.integer(extent // threads, width), tir.integer(extent // threads, width)
    from tvm import tirx

    total, by = tir.integer(extent, width), tir.integer(threads, width)
    first = tirx.truncdiv(task * total, by)
    return first, tirx.truncdiv((task + tir.integer(1, width)) * total, by) - first
