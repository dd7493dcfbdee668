"""What a schedule for a GPU gets beside the stage, and what it gives: a statement for each thread, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from tvm import tirx

from codegen.lower import tir
from codegen.lower.emitter import Source
from codegen.schedules.context import Surroundings
from codegen.targets.gpu import GpuTarget

Way = TypeVar("Way")


@dataclass
class Context(Surroundings):
    """The kernel around a stage on a GPU. ``buffers`` holds the results of all stages, those in scratch memory too.

    ``alignments``: of which numbers of bytes their places are multiples; nothing is known of one that is not there.
    """

    target: GpuTarget
    variant: Mapping[str, Any] = field(default_factory=dict)
    alignments: Mapping[Source, int] = field(default_factory=dict)
    choices: dict[str, int] = field(default_factory=dict)
    """How many ways there were, by the name of a parameter of the variant, so that the others can be tried."""

    def chosen(self, parameter: str, ways: Sequence[Way]) -> Way:
        """The way that the variant names by its number, or the first; the last where there are fewer."""
        self.choices[parameter] = max(self.choices.get(parameter, 0), len(ways))
        return ways[min(int(self.variant.get(parameter, 0)), len(ways) - 1)]


@dataclass(frozen=True)
class Threads:
    """Blocks of threads, up to three axes each, x first; ``block`` and ``thread`` are the numbers of this one, as i32."""

    grid: tuple[int, ...]
    size: tuple[int, ...]
    resident: int = 0
    """Blocks that a multiprocessor's registers must be enough for; 0 leaves that to the compiler, which may spill for one more."""

    @cached_property
    def block(self) -> tuple[Any, ...]:
        """The number of the block along each axis."""
        return tuple(tirx.Var(f"block_{axis}", "int32") for axis, _ in zip("xyz", self.grid, strict=False))

    @cached_property
    def thread(self) -> tuple[Any, ...]:
        """The number of the thread in its block along each axis."""
        return tuple(tirx.Var(f"thread_{axis}", "int32") for axis, _ in zip("xyz", self.size, strict=False))

    def around(self, body: Any) -> Any:
        """The body with its blocks and threads bound to the device's."""
        for tag, variables, extents in (("threadIdx", self.thread, self.size), ("blockIdx", self.block, self.grid)):
            for axis, variable, extent in zip("xyz", variables, extents, strict=False):
                name = f"{tag}.{axis}"
                bound = tirx.IterVar(None, variable, tirx.IterVar.ThreadIndex, name)
                body = tirx.AttrStmt(bound, "thread_extent", tir.integer(extent), body)
        return body


@dataclass(frozen=True, slots=True)
class Body:
    """What one launch does: the statement of a thread."""

    statement: Any
    threads: Threads


def shared(dtype: str, elements: int, name: str) -> Any:
    """A buffer that the threads of a block share; ``tir.allocate_shared`` makes it."""
    return tirx.decl_buffer((elements,), dtype, name, scope="shared", layout=None)


def allocate(buffer: Any) -> Any:
    """The allocation of a ``shared`` buffer."""
    return tirx.AllocBuffer(buffer)


def barrier() -> Any:
    """Waits for the block's threads; what they wrote, to shared and to global memory, is then seen by all of them.

    A function of the source's prelude: TVM's own barrier is for shared memory alone. Every thread of a block must come to it.
    """
    return tirx.Evaluate(tirx.call_extern("int32", "block_barrier"))


def wide(value: Any, width: str) -> Any:
    """A number of a block or thread in the type of indices."""
    return value if width == "int32" else tirx.Cast(width, value)
