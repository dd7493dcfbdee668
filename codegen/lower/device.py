"""A statement as launches of device functions: one for each stage, or one for attention or for stages that work row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from codegen.device.table import ALIGNED
from codegen.libraries.form import Found
from codegen.libraries.offers import call_of
from codegen.libraries.operations import LibraryCall
from codegen.lower import tir
from codegen.lower.dialect import Cuda, Dialect, OpenCl, written_in
from codegen.lower.stages import Stage, costly_value, split_stages
from codegen.schedules import common_rows
from codegen.schedules.context import Buffers, Epilogue, Offer
from codegen.schedules.gpu import choose, libraries, rows
from codegen.schedules.gpu.attention import emit as attention
from codegen.schedules.gpu.attention.form import recognize
from codegen.schedules.gpu.attention.geometry import candidates
from codegen.schedules.gpu.context import Body, Context
from codegen.strided import spanned
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import ModelError
from tensoropt.ir.expression import Scope, Tensor, scopes, tensors
from tensoropt.ir.structure import overwritable
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class Scratch:
    """Bytes of a kernel's scratch memory, from an offset on."""

    offset: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a device function: ``arguments`` says what each of its pointers is, ``grid`` and ``block`` have three axes."""

    function: Any
    arguments: tuple[Tensor | Scratch, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Call:
    """A library's operation in the place of a device function; ``arguments`` says what each of its pointers is."""

    call: LibraryCall
    arguments: tuple[Tensor | Scratch, ...]


@dataclass(frozen=True, slots=True)
class DeviceKernel:
    """A compiled statement: its launches, and calls of libraries, in order, over tensors and scratch memory of ``workspace_bytes``.

    ``strides`` are the output's in elements, where it is not written row-major. ``alignments``: a tensor's first byte must be at a
    multiple of so many, and the first one of the scratch memory at one of ``ALIGNED``. ``choices`` says how many ways there were to
    schedule it, by the name of a variant's parameter; numbers below that are variants. ``offers`` tells how its stages could have
    been cut.
    """

    entries: tuple[Launch | Call, ...]
    inputs: tuple[Tensor, ...]
    output: Tensor
    workspace_bytes: int
    schedules: tuple[str, ...]
    strides: tuple[int, ...] | None
    alignments: Mapping[Tensor, int]
    choices: Mapping[str, int] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Those of device functions of our own."""
        return tuple(entry for entry in self.entries if isinstance(entry, Launch))


def dialect_of(target: GpuTarget) -> Dialect:
    """The language that a target's kernels are written in."""
    return Cuda() if target.kind == "cuda" else OpenCl()


def lower(
    output: Tensor,
    expression: Scope,
    target: GpuTarget,
    constants: frozenset[str] = frozenset(),
    variant: Mapping[str, Any] | None = None,
    strides: tuple[int, ...] | None = None,
    alignments: Mapping[str, int] | None = None,
) -> DeviceKernel:
    """The kernel of ``output = expression``. ``constants`` are tensors whose values are known when it is compiled.

    ``strides``: how many elements lie from one of the output to the next along each axis, where it is not row-major.
    ``alignments``: of which numbers of bytes the places of tensors are known to be multiples, where that is less than ``ALIGNED``.
    ``variant`` holds parameters of its schedule, or ``{"metaschedule": text}`` for one that ``codegen.tune.metaschedule`` found: it
    is taken where all tensors are aligned. ScheduleMismatch where such a text does not fit the kernel, ModelError where the device
    lacks a type that the expression computes with.
    """
    if not target.double and _doubles(expression):
        raise ModelError(
            f"{output.name}: {target.name} computes no f64, which this value needs; convert the model to f32"
        )
    with written_in(dialect_of(target)):
        narrow = any(multiple < ALIGNED for multiple in (alignments or {}).values())
        if variant and "metaschedule" in variant and not narrow:
            from codegen.lower.device_blocks import scheduled_kernel

            return scheduled_kernel(output, expression, target, str(variant["metaschedule"]), strides)
        return _Lowering(output, expression, target, constants, variant or {}, strides, alignments or {}).kernel()


class _Lowering:
    """The buffers of one kernel, and the launches over them."""

    def __init__(
        self,
        output: Tensor,
        expression: Scope,
        target: GpuTarget,
        constants: frozenset[str],
        variant: Mapping[str, Any],
        strides: tuple[int, ...] | None,
        alignments: Mapping[str, int],
    ) -> None:
        self.strides, self.known = strides, alignments
        self.elements = output.type.elements if strides is None else spanned(tuple(output.shape), strides)
        self.output, self.expression, self.target = output, expression, target
        self.scratch = 0
        self.pointers: dict[Tensor | Scope, Any] = {}
        self.arguments: dict[Tensor | Scope, Tensor | Scratch] = {}
        self.alignments: dict[Tensor | Scope, int] = {}
        self.buffers = Buffers()
        for number, tensor in enumerate(tensors(expression)):
            self._buffer(tensor, tensor, tensor.dtype, tensor.type.elements, f"in{number}")
        width = "int32" if _fits(expression, self.elements) else "int64"
        self.context = Context(self.buffers, constants, width, target, variant, self.alignments)

    def kernel(self) -> DeviceKernel:
        """All stages lowered."""
        named = self._bodies() if self.output.type.elements else []
        entries = tuple(
            self._call(body) if isinstance(body, Found) else self._launch(body, used) for _, body, used in named
        )
        read = {argument for entry in entries for argument in entry.arguments}
        inputs = tuple(tensor for tensor in tensors(self.expression) if tensor in read)
        names = tuple(name for name, _, _ in named)
        known = {tensor: self._alignment(tensor) for tensor in (*inputs, self.output)}
        return DeviceKernel(
            entries,
            inputs,
            self.output,
            self.scratch,
            names,
            self.strides,
            known,
            self.context.choices,
            tuple(self.context.offers),
        )

    def _bodies(self) -> list[tuple[str, Body | Found, set[Tensor | Scope]]]:
        """The name, the body and the sources of every launch, and every library's operation."""
        attending = None if libraries.is_wanted(self.context) else self._attention()
        if attending is not None and not self.context.chosen("stages", (False, True)):
            return [*attending()]
        stages = split_stages(self.expression)
        whole = len(stages) > 1 and attending is None and not libraries.is_wanted(self.context)
        found = self._rows(stages) if whole else None
        if found is not None and not self.context.chosen("stages", (False, True)):
            own = {found.stages[-1].stage.result, *([] if found.in_place is None else [found.in_place])}
            self._place([one.stage for one in found.stages], own)
            (name, body), used = self._used(lambda: rows.schedule(self.context, found))
            return [(name, body, used)]
        steps = [step for stage in stages if stage.result.type.elements for step in self._steps(stage, stages[-1])]
        self._written([step.stage for step in steps])
        self._place([step.stage for step in steps], {steps[-1].stage.result})
        bodies: list[tuple[str, Body | Found, set[Tensor | Scope]]] = []
        for step in steps:
            if step.library is not None:
                bodies.append((call_of(step.library.operation, self.context.variant).label(), step.library, set()))
                continue
            if step.stands_for is not None:
                self._share(step.stands_for, step.stage.result)
            (name, body), used = self._used(lambda step=step: choose.schedule(self.context, step))
            bodies.append((name, body, used))
        return bodies

    def _steps(self, stage: Stage, last: Stage) -> list[choose.Step]:
        """The launches of a stage."""

        def aligned(source: Tensor | Scope) -> int:
            return self._alignment(self.output) if source is last.result else self.alignments.get(source, ALIGNED)

        epilogue = Epilogue(stage, self.strides if stage is last else None)
        return libraries.steps(self.context, epilogue, aligned) or choose.steps(self.context, stage)

    def _attention(self) -> Callable[[], list[tuple[str, Body, set[Tensor | Scope]]]] | None:
        """Makes the one launch of attention; None for another form, and where no block of it fits the device."""
        found = recognize(self.expression)
        cuts = candidates(found, self.target) if found is not None else []
        if found is None or not cuts:
            return None

        def launch() -> list[tuple[str, Body, set[Tensor | Scope]]]:
            self.context.offers.append(Offer("attention", found, cuts))
            cut = self.context.chosen("attention", cuts)
            self._written([found.values])
            self._place([found.values], {found.values.result})
            (name, body), used = self._used(lambda: attention.schedule(self.context, found, cut))
            return [(name, body, used)]

        return launch

    def _rows(self, stages: list[Stage]) -> common_rows.Rows | None:
        value = costly_value(self.expression)
        for split in (*([] if value is None else [split_stages(self.expression, value)]), stages):
            self._written(split)
            found = common_rows.recognize(self.context, [self.context.epilogue(stage) for stage in split])
            if found is not None:
                return found
        return None

    def _written(self, stages: list[Stage]) -> None:
        """Says how the last stage's result lies."""
        if self.strides is not None:
            self.context.strides[stages[-1].result] = self.strides

    def _used(self, schedule: Any) -> tuple[Any, set[Tensor | Scope]]:
        self.buffers.used.clear()
        return schedule(), set(self.buffers.used)

    def _place(self, stages: list[Stage], final: set[Scope]) -> None:
        """Gives the stages' results memory: that of the output, or scratch."""
        for number, stage in enumerate(stages):
            result = stage.result
            if result in final:
                if self.output not in self.buffers:
                    self._buffer(self.output, self.output, self.output.dtype, self.elements, "out")
                self._share(result, self.output)
            else:
                self._buffer(result, Scratch(self.scratch), result.dtype, result.type.elements, f"stage{number}")
                size = result.type.bytes
                self.scratch += -(-size // self.target.alignment) * self.target.alignment

    def _share(self, source: Scope, other: Tensor | Scope) -> None:
        """Gives a source the memory that another has."""
        self.pointers[source], self.arguments[source] = self.pointers[other], self.arguments[other]
        self.alignments[source] = self.alignments[other]
        self.buffers[source] = dict.__getitem__(self.buffers, other)

    def _buffer(
        self, source: Tensor | Scope, argument: Tensor | Scratch, dtype: DataType, elements: int, name: str
    ) -> None:
        stored = tir.stored(dtype)
        self.pointers[source] = tir.global_pointer(stored, name)
        self.arguments[source] = argument
        self.alignments[source] = self._alignment(argument)
        self.buffers[source] = tir.view(self.pointers[source], stored, elements, name)

    def _alignment(self, argument: Tensor | Scratch) -> int:
        return self.known.get(argument.name, ALIGNED) if isinstance(argument, Tensor) else ALIGNED

    def _launch(self, body: Body, used: set[Tensor | Scope]) -> Launch:
        """The device function of a body. A source that several names stand for is one parameter."""
        sources: dict[Any, Tensor | Scope] = {}
        for source in self.pointers:
            if source in used:
                sources.setdefault(self.pointers[source], source)
        declared = [tir.declare(dict.__getitem__(self.buffers, source), pointer) for pointer, source in sources.items()]
        function = tir.device_function(
            list(sources), body.threads.around(tir.sequence([*declared, body.statement])), self.target.tvm(),
            bool(overwritable(self.expression)), body.threads.resident,
        )  # fmt: skip
        arguments = tuple(self.arguments[source] for source in sources.values())
        return Launch(function, arguments, _three(body.threads.grid), _three(body.threads.size))

    def _call(self, found: Found) -> Call:
        """A library's operation, with scratch memory behind that of the stages."""
        call = call_of(found.operation, self.context.variant)
        scratch = Scratch(self.scratch)
        self.scratch += call.workspace_bytes
        return Call(call, (*(self.arguments[source] for source in found.sources), scratch))


def _three(extents: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*extents, 1, 1, 1)[:3]
    return x, y, z


def _doubles(expression: Scope) -> bool:
    types = [*(tensor.type for tensor in tensors(expression)), *(scope.type for scope in scopes(expression))]
    return any(one.dtype is DataType.FLOAT64 for one in types)


def _fits(expression: Scope, written: int) -> bool:
    """Whether 32 bits hold every element index and every count of iterations, filled up to whole blocks."""
    largest = max((tensor.type.elements for tensor in tensors(expression)), default=0)
    largest = max(largest, written)
    for scope in scopes(expression):
        reduced = prod(iterator.extent for iterator in scope.reduction)
        largest = max(largest, scope.type.elements, reduced)
    return largest * 4 < 1 << 31
