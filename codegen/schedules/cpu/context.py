"""What a schedule gets and gives: a stage with its buffers, and statements for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.emitter import Emitter, Source
from codegen.lower.stages import Stage, point_mapping
from codegen.targets.cpu import CpuTarget
from tensoropt.ir.expression import Access, Scalar, Tensor, accesses, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import row_major_strides
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
class Context:
    """The kernel around a stage.

    ``buffers`` holds every materialised source; ``workspace(dtype, elements)`` hands out scratch memory of the kernel;
    ``packed(packing)`` hands out a buffer with a constant as the schedule wants it. ``strides`` are those of results that are
    not row-major where they are written, in elements.
    """

    target: CpuTarget
    buffers: dict[Source, Any]
    constants: frozenset[str]
    width: str
    workspace: Callable[[str, int], Any]
    packed: Callable[[Packing], Any]
    variant: Mapping[str, Any] = field(default_factory=dict)
    strides: dict[Source, tuple[int, ...]] = field(default_factory=dict)

    def emitter(
        self,
        variables: Mapping[Iterator, Any],
        lane: Iterator | None = None,
        lanes: int = 1,
        where: Mapping[Iterator, Index] | None = None,
    ) -> Emitter:
        """An emitter at a point of the loop nest."""
        return Emitter(self.buffers, variables, lane, lanes, self.width, where)

    def is_constant(self, source: Source) -> bool:
        """Whether a source's values are known when the program is compiled."""
        return isinstance(source, Tensor) and source.name in self.constants

    def epilogue(self, stage: Stage) -> Epilogue:
        """The end of a stage, written where its result belongs."""
        return Epilogue(stage, self.strides.get(stage.result))


class Epilogue:
    """The end of a stage: from the reduced value at a point to what is stored there."""

    def __init__(self, stage: Stage, strides: tuple[int, ...] | None = None) -> None:
        self.stage = stage
        self.strides = row_major_strides(stage.result.shape) if strides is None else strides
        self.identity = stage.result is stage.scope
        scope = stage.scope
        self.point = Access(scope, [Index.of(iterator) for iterator in scope.traversal])
        if self.identity:
            self.body: Scalar = self.point
        else:
            access = next(found for found in accesses(stage.result.body) if found.source is scope)
            mapping = point_mapping(stage.result, access)
            assert mapping is not None
            self.mapping: dict[Iterator, Index] = mapping  # type: ignore[assignment]
            self.body = map_scalar(substitute(stage.result.body, self.mapping), self._at_its_point)

    def _at_its_point(self, node: Scalar) -> Scalar:
        """Every read of the reduced value is of the point; what would lie outside does not matter."""
        return self.point if isinstance(node, Access) and node.source is self.stage.scope else node

    def output_index(self) -> Index:
        """The element of the result, in terms of the reduced scope's iterators."""
        total = Index.of(0)
        for iterator, stride in zip(self.stage.result.traversal, self.strides, strict=True):
            where = Index.of(iterator) if self.identity else self.mapping[iterator]
            total = total + where * stride
        return total

    def at(self, mapping: Mapping[Iterator, Index]) -> tuple[Access, Scalar, Index]:
        """The reduced value as an access, the body and the output's element, for iterators given as indices over loops."""
        point = substitute(self.point, mapping)
        assert isinstance(point, Access)
        return point, substitute(self.body, mapping), self.output_index().substitute(mapping)


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
