"""Blocks that were scheduled for a device to launches of device functions: loops bound to threads, each with its extents.

TVM's passes lower the blocks; its own split of host and device, and its launches, are left out: every outermost loop nest is bound
to blocks of threads and becomes a launch, buffers between them lie in the kernel's scratch memory.
"""

from __future__ import annotations

from math import prod
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map, structural_walk

from codegen.device.table import ALIGNED
from codegen.lower import tir
from codegen.lower.blocks import UnsafeSchedule, flattening
from codegen.lower.device import DeviceKernel, Launch, Scratch
from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import found_by, replay
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.structure import overwritable

_AXES = "xyz"


def scheduled_kernel(
    output: Tensor, expression: Scope, target: GpuTarget, text: str, strides: tuple[int, ...] | None
) -> DeviceKernel:
    """The kernel that a found schedule makes, its tensors at multiples of ``ALIGNED`` bytes.

    ``strides`` of the output as ``device.lower`` takes them. ScheduleMismatch or UnsafeSchedule where it makes none.
    """
    blocks = schedulable(expression)
    function = replay(blocks, text)
    if strides is not None:
        function = _writing_with(strides, function)
    lowered = lower_to_threads(function, target)
    launches = _Launches(lowered, (*blocks.inputs, output), target, bool(overwritable(expression)))
    return launches.kernel(found_by(text), strides)


def _writing_with(strides: tuple[int, ...], function: Any) -> Any:
    """The function with an output that lies in memory with other strides."""
    *inputs, output = function.params
    placed = tirx.decl_buffer(output.shape, output.dtype, output.name, strides=strides)
    body = structural_map(
        function.body, (tvm.ir.Var, lambda variable: placed if variable.same_as(output) else variable)
    )
    return tirx.PrimFunc([*inputs, placed], body, attrs=function.attrs)


def lower_to_threads(function: Any, target: GpuTarget) -> Any:
    """The function with flat buffers and loops over bound threads, by the passes of TVM's own pipeline up to its split.

    Common parts of indices get no names: TVM's generators read several elements at once only where they see that an index is a
    multiple of their number. The device's compiler finds what is common. Loops are unrolled last: TVM fails on two copies of what
    threads reduce together.
    """
    blocks, plain = s_tir.transform, tirx.transform
    module = tvm.ir.IRModule({tvm.ir.GlobalVar("kernel"): function.with_attr("target", target.tvm())})
    for lowering in (
        blocks.CanonicalizeLoop(),
        blocks.LowerCrossThreadReduction(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.LiftThreadBinding(),
        blocks.CompactBufferAllocation(),
        blocks.LowerAutoCopy(),
        blocks.UnifyThreadBinding(),
        *flattening(),
        blocks.InjectVirtualThread(),
        _share_memory,
        blocks.HoistIfThenElse(),
        blocks.ThreadSync("shared"),
        blocks.LowerThreadAllreduce(),
        plain.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        blocks.InferFragment(),
    ):
        module = lowering(module)
    (lowered,) = module.functions.values()
    return lowered


def _share_memory(module: Any) -> Any:
    """Allocates where a launch begins, and gives buffers that are not needed at the same time one memory.

    Not beside tensor cores: their instructions want the type of the memory that they are given.
    """
    allocated: list[Any] = []
    for function in module.functions.values():
        structural_walk(function.body, (tirx.AllocBuffer, allocated.append))
    if not any(str(statement.buffer.scope()).startswith("wmma") for statement in allocated):
        return tirx.transform.StorageRewrite()(module)
    ((name, function),) = module.functions.items()
    body = structural_map(function.body, (tirx.AllocBuffer, _nothing_of_a_block))
    nests = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    placed = [_allocating_first(nest, allocated) if isinstance(nest, tirx.AttrStmt) else nest for nest in nests]
    return tvm.ir.IRModule({name: tirx.PrimFunc(function.params, tir.sequence(placed), attrs=function.attrs)})


def _nothing_of_a_block(statement: Any) -> Any:
    return tirx.Evaluate(tir.integer(0)) if statement.buffer.scope() == "shared" else statement


def _allocating_first(nest: Any, allocated: list[Any]) -> Any:
    """A launch whose threads allocate what they share before anything else, so that unrolling makes no copies of it."""
    if isinstance(nest.body, tirx.AttrStmt):
        inner = _allocating_first(nest.body, allocated)
        return tirx.AttrStmt(nest.node, nest.attr_key, nest.value, inner)
    used: set[Any] = set()
    structural_walk(nest, (tvm.ir.Var, used.add))
    first = [statement for statement in allocated if statement.buffer.scope() == "shared" and statement.buffer in used]
    return tirx.AttrStmt(nest.node, nest.attr_key, nest.value, tir.sequence([*first, nest.body]))


class _Launches:
    """The launches of a lowered function whose parameters are the buffers of ``tensors``."""

    def __init__(self, function: Any, tensors: tuple[Tensor, ...], target: GpuTarget, aliased: bool) -> None:
        self._tensors, self._target, self._aliased = tensors, target, aliased
        self._buffers: list[tuple[Any, Any, Tensor | Scratch]] = []
        """Of each buffer that a launch may use: itself, the pointer that it is made of, and what lies there."""
        self._scratch = 0
        for number, (parameter, tensor) in enumerate(zip(function.params, tensors, strict=True)):
            self._add(parameter, f"p{number}", tensor)
        body = function.body
        self._nests: list[Any] = []
        for statement in list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]:
            match statement:
                case tirx.DeclBuffer():
                    self._add_view(statement)
                case tirx.AllocBuffer():
                    self._allocate(statement.buffer)
                case tirx.Evaluate():
                    continue  # what a pass has left in the place of something
                case _:
                    self._nests.append(statement)

    def kernel(self, name: str, strides: tuple[int, ...] | None) -> DeviceKernel:
        """The kernel of all launches, whose schedules are called ``name``."""
        launches = tuple(self._launch(nest) for nest in self._nests)
        read = {argument for launch in launches for argument in launch.arguments}
        *inputs, output = self._tensors
        used = tuple(tensor for tensor in inputs if tensor in read)
        aligned = dict.fromkeys((*used, output), ALIGNED)
        return DeviceKernel(launches, used, output, self._scratch, (name,) * len(launches), strides, aligned)

    def _add(self, buffer: Any, name: str, argument: Tensor | Scratch) -> None:
        self._buffers.append((buffer, tir.global_pointer(str(buffer.dtype), name), argument))

    def _add_view(self, statement: Any) -> None:
        """Another form of a buffer. One of another type is a buffer of another launch, in its memory, by a pointer of its own."""
        (whole,) = statement.data.args
        pointer, argument = next(entry[1:] for entry in self._buffers if entry[0].same_as(whole))
        if str(statement.buffer.dtype) == str(whole.dtype):
            self._buffers.append((statement.buffer, pointer, argument))
        else:
            self._add(statement.buffer, f"{pointer.name}_{len(self._buffers)}", argument)

    def _allocate(self, buffer: Any) -> None:
        """Gives a buffer between launches its part of the scratch memory."""
        if buffer.scope() != "global":
            raise UnsafeSchedule(f"{buffer.name} belongs to no launch")
        size = tir.itemsize(str(buffer.dtype)) * prod(int(extent) for extent in buffer.shape)
        self._add(buffer, f"scratch{self._scratch}", Scratch(self._scratch))
        self._scratch += -(-size // self._target.alignment) * self._target.alignment

    def _launch(self, nest: Any) -> Launch:
        extents = _extents(nest)
        used: set[Any] = set()
        structural_walk(nest, (tvm.ir.Var, used.add))
        found = [entry for entry in self._buffers if entry[0] in used]
        arguments: dict[Any, Tensor | Scratch] = {pointer: argument for _, pointer, argument in found}
        declared = [tir.declare(buffer, pointer) for buffer, pointer, _ in found]
        function = tir.device_function(
            list(arguments), tir.sequence([*declared, nest]), self._target.tvm(), self._aliased
        )
        grid, block = (tuple(extents.get(f"{tag}.{axis}", 1) for axis in _AXES) for tag in ("blockIdx", "threadIdx"))
        return Launch(function, tuple(arguments.values()), grid, block)  # type: ignore[arg-type]


def _extents(nest: Any) -> dict[str, int]:
    """How many blocks and threads there are, by axis. UnsafeSchedule for a nest that is not a device's."""
    allocated: list[Any] = []  # an exception would lose its type on its way through TVM
    bound: list[Any] = []
    structural_walk(nest, [(tirx.AllocBuffer, allocated.append), (tirx.AttrStmt, bound.append)])
    found: dict[str, int] = {}
    for attribute in bound:
        if attribute.attr_key == "thread_extent":
            axis, extent = attribute.node.thread_tag, int(attribute.value)
            if found.setdefault(axis, extent) != extent:
                raise UnsafeSchedule(f"{axis} has {found[axis]} and {extent} iterations")
    if not isinstance(nest, tirx.AttrStmt) or not found:
        raise UnsafeSchedule("a block is bound to no threads")
    if any(statement.buffer.scope() == "global" for statement in allocated):
        raise UnsafeSchedule("a thread allocates the device's memory")
    return found
