"""TIR with blocks (what ``te`` and TVM's importer make, scheduled or not) to plain loops over pointers, as kernels are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_walk

from codegen.lower import tir
from tensoropt.allocation import ALIGNMENT


class UnsafeSchedule(ValueError):
    """A schedule that TVM lowers to something else than it says, or not at all."""


def lower_blocks(functions: Mapping[str, Any]) -> dict[str, Any]:
    """The functions with loops and flat buffers instead of blocks, by the passes of TVM's own pipeline that matter on a CPU."""
    blocks, plain = s_tir.transform, tirx.transform
    module = tvm.ir.IRModule({tvm.ir.GlobalVar(name): function for name, function in functions.items()})
    for lowering in (
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        *flattening(),
        plain.StorageRewrite(),
        blocks.HoistIfThenElse(),
        plain.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        plain.CommonSubexprElim(),
    ):
        module = lowering(module)
    return {variable.name_hint: function for variable, function in module.functions.items()}


def flattening() -> tuple[Callable[[Any], Any], ...]:
    """The passes that make of blocks with their own buffers loops over flat ones, wherever they run."""
    blocks, plain = s_tir.transform, tirx.transform
    return (
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.LowerOpaqueBlock(),
        plain.FlattenBuffer(),
        plain.NarrowDataType(32),
        blocks.LoopPartition(),
        _check_loops,
        plain.VectorizeLoop(True),
    )


def _check_loops(module: Any) -> Any:
    """UnsafeSchedule where a vectorised loop allocates (TVM gives its iterations one memory), or parallel loops are nested."""
    allocations: list[Any] = []  # an exception would lose its type on its way through TVM
    nested: list[Any] = []

    def parallel(loop: Any) -> None:
        if loop.kind == tirx.ForKind.PARALLEL:
            nested.append(loop)

    def look(loop: Any) -> None:
        if loop.kind == tirx.ForKind.VECTORIZED:
            structural_walk(loop.body, (tirx.AllocBuffer, allocations.append))
        elif loop.kind == tirx.ForKind.PARALLEL:
            structural_walk(loop.body, (tirx.For, parallel))

    for function in module.functions.values():
        structural_walk(function.body, (tirx.For, look))
    if allocations:
        raise UnsafeSchedule("a vectorised loop allocates memory")
    if nested:
        raise UnsafeSchedule("a parallel loop is inside a parallel loop")
    return module


def over_pointers(function: Any) -> Any:
    """A lowered function with a pointer for each buffer parameter, which returns 0."""
    parameters, declarations = _pointers(function)
    body = tir.sequence([*declarations, tir.on_cpu(function.body), tirx.Return(tir.integer(0))])
    return tirx.PrimFunc(parameters, body, ret_type=tvm.ir.PrimType("int32"))


@dataclass(frozen=True, slots=True)
class WithWorkspace:
    """A function over pointers whose last parameter is scratch memory of ``workspace_bytes``, where that is not 0."""

    function: Any
    workspace_bytes: int


def with_workspace(function: Any) -> WithWorkspace:
    """A lowered function over pointers; buffers that it allocates outside all loops lie in its workspace."""
    parameters, declarations = _pointers(function)
    scratch = tir.pointer("uint8", "scratch")
    statements = list(function.body.seq) if isinstance(function.body, tirx.SeqStmt) else [function.body]
    used = 0
    for place, statement in enumerate(statements):
        if not isinstance(statement, tirx.AllocBuffer):
            continue
        buffer = statement.buffer
        size = tvm.DataType(str(buffer.dtype)).bits // 8
        for extent in buffer.shape:
            size *= int(extent)
        pointer = tir.pointer(str(buffer.dtype), f"scratch{place}")
        address = tirx.reinterpret(pointer.ty, tir.at_offset(scratch, used))
        statements[place] = tir.sequence([tirx.Bind(pointer, address), tir.declare(buffer, pointer)])
        used += -(-size // ALIGNMENT) * ALIGNMENT
    body = tir.sequence([*declarations, tir.on_cpu(tir.sequence(statements))])
    return WithWorkspace(tir.function([*parameters, *([scratch] if used else [])], body), used)


def _pointers(function: Any) -> tuple[list[Any], list[Any]]:
    """A parameter for each of the function's, and the statements that make its buffers of them."""
    parameters, declarations, offsets = [], [], []
    for number, buffer in enumerate(function.params):
        if not tirx.is_buffer_var(buffer):
            parameters.append(buffer)
            continue
        pointer = tir.pointer(str(buffer.dtype), f"p{number}")
        parameters.append(pointer)
        declarations.append(tir.declare(buffer, pointer))
        if isinstance(buffer.elem_offset, tvm.ir.Var):
            offsets.append(tirx.Bind(buffer.elem_offset, tirx.const(0, str(buffer.elem_offset.ty.dtype))))
    return parameters, [*offsets, *declarations]
