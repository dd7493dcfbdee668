"""What every schedule gets: a kernel's buffers, and a stage from its reduced value to what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.lower.emitter import Emitter, Source
from codegen.lower.stages import Stage, point_mapping
from tensoropt.ir.expression import Access, Scalar, Tensor, accesses, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import row_major_strides


class Buffers(dict[Source, Any]):
    """Buffers by source; remembers which were asked for: a constant that is only read packed is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[Source] = set()

    def __getitem__(self, source: Source) -> Any:
        self.used.add(source)
        return super().__getitem__(source)


@dataclass(frozen=True, slots=True)
class Offer:
    """The ways in which a stage can be cut, those first that are estimated to be cheaper; a variant takes one by its number.

    ``kind`` is the name of the variant's parameter, ``work`` what is cut, as its template recognized it.
    """

    kind: str
    work: Any
    cuts: Sequence[Any]


@dataclass
class Surroundings:
    """The kernel around a stage: ``buffers`` holds every materialised source, ``width`` is the type of indices.

    ``strides`` are those of results that are not row-major where they are written, in elements; ``offers`` tells how stages
    could have been cut.
    """

    buffers: dict[Source, Any]
    constants: frozenset[str]
    width: str
    strides: dict[Source, tuple[int, ...]] = field(default_factory=dict, init=False)
    offers: list[Offer] = field(default_factory=list, init=False)

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
