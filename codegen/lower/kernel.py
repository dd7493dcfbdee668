"""A statement as one private TIR function: stages, scratch memory, and the constants as its schedules want them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.stages import Stage, costly_value, split_stages
from codegen.schedules.context import Buffers, Offer
from codegen.schedules.cpu import choose, rows
from codegen.schedules.cpu.context import Context, Packing
from codegen.schedules.cpu.filtering import emit as filtering
from codegen.strided import spanned
from codegen.targets.cpu import CpuTarget
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.expression import Scope, Tensor, scopes, tensors
from tensoropt.ir.program import Array
from tensoropt.ir.structure import overwritable


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled statement in TIR.

    The function takes pointers: ``inputs`` (tensors as they are), ``packings`` (constants rearranged), ``arrays`` (values that
    came with the operator), ``outputs``, and scratch memory of ``workspace_bytes`` where that is not zero. It calls ``helpers``.
    A ``checked`` kernel takes one pointer more and sets it to 1 where a run-time index is out of range, else to 0. ``offers``
    tells how its stages could have been cut.
    """

    function: Any
    inputs: tuple[Tensor, ...]
    packings: tuple[Packing, ...]
    outputs: tuple[Tensor, ...]
    workspace_bytes: int
    schedules: tuple[str, ...] = ()
    arrays: tuple[Array, ...] = ()
    helpers: Mapping[Any, Any] = field(default_factory=dict)
    checked: bool = False
    offers: tuple[Offer, ...] = ()


@dataclass
class _Scratch:
    """Hands out views of one scratch pointer; every stage's scratch lives as long as the kernel runs."""

    pointer: Any
    used: int = 0
    declarations: list[Any] = field(default_factory=list)

    def take(self, dtype: str, elements: int) -> Any:
        from tvm import DataType as TvmType
        from tvm import tirx

        size = TvmType(dtype).bits // 8 * elements
        address = tir.at_offset(self.pointer, self.used)
        variable = tir.pointer(dtype, f"scratch{len(self.declarations)}")
        buffer = tir.view(variable, dtype, elements, f"scratch{len(self.declarations)}")
        self.declarations += [
            tirx.Bind(variable, tirx.reinterpret(variable.ty, address)),
            tir.declare(buffer, variable),
        ]
        self.used += -(-size // ALIGNMENT) * ALIGNMENT
        return buffer


def lower(
    output: Tensor,
    expression: Scope,
    target: CpuTarget,
    constants: frozenset[str] = frozenset(),
    variant: Mapping[str, Any] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Kernel:
    """The kernel of ``output = expression``. ``constants`` are tensors whose values are known when it is compiled.

    ``strides``: how many elements lie from one of the output to the next along each axis, where it is not row-major.
    ``variant`` holds parameters of its schedule: ``{"contraction": 3}``, or ``{"metaschedule": text}`` for a schedule that
    was found by ``codegen.tune.metaschedule``. ScheduleMismatch where such a text does not fit the kernel.
    """
    if variant and "metaschedule" in variant and strides is None:
        return _found(output, expression, str(variant["metaschedule"]))
    elements = output.type.elements if strides is None else spanned(tuple(output.shape), strides)
    width = "int32" if _fits(expression, target.threads, elements) else "int64"
    pointers: dict[Tensor, Any] = {}
    buffers = Buffers()
    for number, tensor in enumerate(tensors(expression)):
        stored = tir.STORED[tensor.dtype]
        pointers[tensor] = tir.pointer(stored, f"in{number}")
        buffers[tensor] = tir.view(pointers[tensor], stored, tensor.type.elements, f"in{number}")
    scratch = _Scratch(tir.pointer("uint8", "scratch"))
    packings: list[Packing] = []
    packed_pointers: list[Any] = []
    packed_buffers: list[Any] = []

    def packed(packing: Packing) -> Any:
        stored = tir.STORED[packing.dtype]
        packed_pointers.append(tir.pointer(stored, f"packed{len(packings)}"))
        packed_buffers.append(tir.view(packed_pointers[-1], stored, packing.elements, f"packed{len(packings)}"))
        packings.append(packing)
        return packed_buffers[-1]

    result_pointer = tir.pointer(tir.STORED[output.dtype], "out")
    result = tir.view(result_pointer, tir.STORED[output.dtype], elements, "out")
    context = Context(buffers, constants, width, target, scratch.take, packed, variant or {})
    bodies, names = _scheduled(context, expression, result, strides)
    used = tuple(tensor for tensor in pointers if tensor in buffers.used)
    declarations = [tir.declare(buffers[tensor], pointers[tensor]) for tensor in used]
    declarations += [tir.declare(view, at) for view, at in zip(packed_buffers, packed_pointers, strict=True)]
    declarations.append(tir.declare(result, result_pointer))
    parameters = [*(pointers[tensor] for tensor in used), *packed_pointers, result_pointer]
    if scratch.used:
        parameters.append(scratch.pointer)
    body = tir.sequence([*declarations, *scratch.declarations, *bodies])
    make = tir.overwriting_function if overwritable(expression) else tir.function
    return Kernel(
        make(parameters, body),
        used,
        tuple(packings),
        (output,),
        scratch.used,
        tuple(names),
        offers=tuple(context.offers),
    )


def _found(output: Tensor, expression: Scope, text: str) -> Kernel:
    """The kernel that a found schedule makes. Constants are inputs like others."""
    from codegen.lower.schedulable import schedulable
    from codegen.lower.scheduled import lower_scheduled, replay

    blocks = schedulable(expression)
    made = lower_scheduled(replay(blocks, text))
    function = made.function.without_attr("tirx.noalias") if overwritable(expression) else made.function
    return Kernel(function, blocks.inputs, (), (output,), made.workspace_bytes, ("metaschedule",))


def _scheduled(
    context: Context, expression: Scope, result: Any, strides: tuple[int, ...] | None
) -> tuple[list[Any], list[str]]:
    """The statements of all stages, the last of which writes the buffer ``result``, and the names of their schedules."""
    stages = split_stages(expression)
    if len(stages) > 1:
        value = costly_value(expression)
        for split in (*([] if value is None else [split_stages(expression, value)]), stages):
            if strides is not None:
                context.strides[split[-1].result] = strides
            found = rows.recognize(context, [context.epilogue(stage) for stage in split])
            if found is not None:
                own = [split[-1].result, *([] if found.in_place is None else [found.in_place])]
                context.buffers.update(dict.fromkeys(own, result))
                _place(context, split)
                where = "" if found.in_place is None else " in place"
                return [rows.schedule(context, found)], [f"rows of {len(split)} stages{where}"]
    context.buffers[stages[-1].result] = result
    if strides is not None:
        context.strides[stages[-1].result] = strides
    stages = [stage for stage in stages if stage.result.type.elements]
    filtered = filtering.schedule(context, stages) if len(stages) > 2 else None
    if filtered is not None:
        return [filtered[1]], [filtered[0]]
    _place(context, stages)
    chosen = [choose.schedule(context, context.epilogue(stage)) for stage in stages]
    return [body for _, body in chosen], [name for name, _ in chosen]


def _place(context: Context, stages: list[Stage]) -> None:
    """Gives scratch memory to the results of stages that have no buffer yet."""
    for stage in stages:
        if stage.result not in context.buffers:
            memory = context.workspace(tir.STORED[stage.result.dtype], stage.result.type.elements)
            context.buffers[stage.result] = memory


def _fits(expression: Scope, threads: int, written: int) -> bool:
    """Whether 32 bits hold every element index and every count of iterations, multiplied by the number of threads."""
    largest = max((tensor.type.elements for tensor in tensors(expression)), default=0)
    largest = max(largest, written)
    for scope in scopes(expression):
        reduced = prod(iterator.extent for iterator in scope.reduction)
        largest = max(largest, scope.type.elements, reduced)
    return largest * max(4, threads) < 1 << 31
