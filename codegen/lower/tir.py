"""The few TIR constructors that kernels are written with. TVM is untyped, so its objects are ``Any``.

Kernels are emitted as final loops with explicit vectors: TVM's passes only lower them, they change no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import Call, PointerType, PrimType, TensorLoad

from codegen.lower import dialect
from tensoropt.ir.types import DataType

Expression = Any
Statement = Any

STORED: dict[DataType, str] = {
    DataType.BOOL: "uint8",
    DataType.INT8: "int8",
    DataType.INT16: "int16",
    DataType.INT32: "int32",
    DataType.INT64: "int64",
    DataType.UINT8: "uint8",
    DataType.UINT16: "uint16",
    DataType.UINT32: "uint32",
    DataType.UINT64: "uint64",
    DataType.FLOAT16: "float16",
    DataType.BFLOAT16: "uint16",
    DataType.FLOAT32: "float32",
    DataType.FLOAT64: "float64",
}
"""How a type lies in memory. bfloat16 travels as its bits, so that no legalisation pass touches it."""

COMPUTED: dict[DataType, str] = {
    **STORED,
    DataType.BOOL: "bool",
    DataType.FLOAT16: "float32",
    DataType.BFLOAT16: "float32",
}
"""How a type is computed with. Half types go through f32 and are rounded after every operation."""


def typed(dtype: str, lanes: int) -> str:
    """The TIR name of a vector type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def pointer(dtype: str, name: str) -> Any:
    """A pointer parameter."""
    return tirx.Var(name, PointerType(PrimType(dtype)))


def global_pointer(dtype: str, name: str) -> Any:
    """A pointer parameter of a device function, to the device's memory."""
    return tirx.Var(name, PointerType(PrimType(dtype), "global"))


def view(parameter: Any, dtype: str, elements: int, name: str) -> Any:
    """A flat buffer over a pointer; ``declare`` makes it usable."""
    return tirx.decl_buffer((max(elements, 1),), dtype, name, data=parameter, layout=None)


def declare(buffer: Any, parameter: Any) -> Statement:
    """The declaration that binds a view to its pointer."""
    return tirx.DeclBuffer(buffer, data=parameter)


def local(dtype: str, elements: int, name: str) -> Any:
    """A small buffer on the stack; the compiler keeps it in registers where all its indices are constants."""
    return tirx.decl_buffer((elements,), dtype, name, scope="local", layout=None)


def allocate(buffer: Any) -> Statement:
    """The allocation of a ``local``; the annotation keeps TVM from moving it to the heap."""
    return tirx.AllocBuffer(buffer, {"disable_lower_builtin": tirx.const(True)})


def integer(value: int, dtype: str = "int32") -> Expression:
    """An integer literal."""
    return tirx.const(value, dtype)


def number(value: float | int | bool, dtype: str, lanes: int = 1) -> Expression:
    """A literal, repeated over the lanes. Infinities and NaN are spelled by their bits, which every printer keeps."""
    literal = dialect.current().literal(value, dtype)
    return literal if lanes == 1 else tirx.Broadcast(literal, lanes)


def reinterpret(dtype: str, value: Expression) -> Expression:
    """A value of another type with the same bits."""
    return dialect.current().reinterpret(dtype, value)


def stored(dtype: DataType) -> str:
    """How a type lies in the memory of what kernels are being written for."""
    return dialect.current().half if dtype is DataType.FLOAT16 else STORED[dtype]


def itemsize(dtype: str) -> int:
    """Bytes of an element as it lies in memory."""
    return int(tvm.DataType(dtype).bits) // 8


def is_simple(value: Expression) -> bool:
    """Whether a value needs no name: literals, variables, cells, and truth values (cheap to compute again)."""
    if isinstance(value, (tirx.Var, tirx.IntImm, tirx.FloatImm)) or str(value.ty.dtype).startswith("bool"):
        return True
    return isinstance(value, TensorLoad) and value.source.name == _CELL


def cell(value: Expression) -> tuple[list[Statement], Expression]:
    """A stack cell that holds a value: the statements that fill it, and the expression that reads it."""
    element, _, lanes = str(value.ty.dtype).partition("x")
    count = int(lanes or 1)
    buffer = local(element, count, _CELL)
    where = [ramp(integer(0), 1, count)]
    return [allocate(buffer), tirx.BufferStore(buffer, value, where)], tirx.BufferLoad(buffer, where)


_CELL = "cell"


def broadcast(value: Expression, lanes: int) -> Expression:
    """A scalar repeated over the lanes."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def ramp(base: Expression, stride: int, lanes: int) -> Expression:
    """``base, base + stride, …``"""
    return base if lanes == 1 else tirx.Ramp(base, stride, lanes)


def load(buffer: Any, index: Expression, lanes: int = 1) -> Expression:
    """Contiguous elements from ``index`` on."""
    return tirx.BufferLoad(buffer, [ramp(index, 1, lanes)])


def load_at_once(own: Any, buffer: Any, index: Expression, count: int) -> Statement:
    """Fills a ``local`` with so many elements of a device's memory from an index on, a multiple of their number."""
    return _at_once(f"load_{count}", own, integer(0), buffer, index)


def store_at_once(buffer: Any, index: Expression, own: Any, first: Expression, count: int) -> Statement:
    """Writes so many elements of a ``local``, from a first one on, to a device's memory, or to the memory that a block shares.

    There they begin at an index that is a multiple of their number.
    """
    return _at_once(f"store_{count}", buffer, index, own, first)


def _at_once(name: str, to: Any, there: Expression, source: Any, here: Expression) -> Statement:
    """A copy by a function of the source's prelude: the languages' own vectors have no common name for every type."""
    addresses = (tirx.address_of(load(to, there)), tirx.address_of(load(source, here)))
    return tirx.Evaluate(tirx.call_extern("int32", name, *addresses))


def gather(buffer: Any, index: Expression) -> Expression:
    """One element for each lane of a vector of indices."""
    return tirx.BufferLoad(buffer, [index])


def store(buffer: Any, value: Expression, index: Expression, lanes: int = 1) -> Statement:
    """Writes contiguous elements from ``index`` on."""
    return tirx.BufferStore(buffer, value, [ramp(index, 1, lanes)])


def scatter(buffer: Any, value: Expression, index: Expression) -> Statement:
    """Writes one element for each lane of a vector of indices."""
    return tirx.BufferStore(buffer, value, [index])


def masked_load(buffer: Any, index: Expression, mask: Expression, otherwise: Expression, dtype: str) -> Expression:
    """Contiguous elements where the mask holds, ``otherwise`` elsewhere; memory outside the mask is not touched."""
    address = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    return tirx.call_llvm_pure_intrin(dtype, "llvm.masked.load", address, mask, otherwise)


def masked_store(buffer: Any, value: Expression, index: Expression, mask: Expression) -> Statement:
    """Writes contiguous elements where the mask holds."""
    address = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.masked.store", value, address, mask))


def first_lanes(count: Expression | int, lanes: int) -> Expression:
    """A mask that holds for the first ``count`` lanes."""
    amount = integer(count) if isinstance(count, int) else count
    return tirx.Ramp(integer(0), 1, lanes) < tirx.Broadcast(amount, lanes)


def serial(
    extent: Expression | int, body: Callable[[Any], Statement], name: str = "i", dtype: str = "int32"
) -> Statement:
    """A loop. ``body`` gets the loop variable; a loop of one iteration is its body."""
    if isinstance(extent, int) and extent == 1:
        return body(integer(0, dtype))
    variable = tirx.Var(name, dtype)
    limit = integer(extent, dtype) if isinstance(extent, int) else extent
    return tirx.For(variable, integer(0, dtype), limit, tirx.ForKind.SERIAL, body(variable))


def unrolled(extent: int, body: Callable[[Any], Statement], name: str = "i", dtype: str = "int32") -> Statement:
    """A loop that the device's compiler is told to write out, so that what it indexes can lie in registers."""
    if extent == 1:
        return body(integer(0, dtype))
    variable = tirx.Var(name, dtype)
    return tirx.For(variable, integer(0, dtype), integer(extent, dtype), tirx.ForKind.UNROLLED, body(variable))


def parallel(tasks: int, body: Callable[[Any], Statement], dtype: str = "int32") -> Statement:
    """A loop whose iterations run on the thread pool."""
    if tasks == 1:
        return body(integer(0, dtype))
    variable = tirx.Var("task", dtype)
    return tirx.For(variable, integer(0, dtype), integer(tasks, dtype), tirx.ForKind.PARALLEL, body(variable))


def sequence(statements: Sequence[Statement]) -> Statement:
    """Statements one after another."""
    flat = [statement for statement in statements if statement is not None]
    return flat[0] if len(flat) == 1 else tirx.SeqStmt(flat) if flat else tirx.Evaluate(integer(0))


def when(condition: Expression, body: Statement) -> Statement:
    """The body where the scalar condition holds."""
    return tirx.IfThenElse(condition, body, None)


def function(parameters: Sequence[Any], body: Statement) -> Any:
    """A private kernel that returns 0. Its pointers do not alias."""
    return overwriting_function(parameters, body).with_attr("tirx.noalias", True)


def overwriting_function(parameters: Sequence[Any], body: Statement) -> Any:
    """A private kernel that returns 0, whose result may be written over what it reads."""
    full = sequence([body, tirx.Return(integer(0))])
    return tirx.PrimFunc(list(parameters), full, ret_type=PrimType("int32"))


_DEVICE_KERNEL_LAUNCH = 2
"""TVM's calling convention of a function that a device starts in many threads."""


def device_function(parameters: Sequence[Any], body: Statement, target: Any, aliased: bool, resident: int = 0) -> Any:
    """A device function, which binds its threads itself. ``aliased`` where its result may be written over what it reads.

    ``resident``: blocks that a multiprocessor's registers must be enough for; 0 leaves that to CUDA's compiler.
    """
    made = tirx.PrimFunc(list(parameters), body).with_attr("calling_conv", _DEVICE_KERNEL_LAUNCH)
    if resident:
        made = made.with_attr("tirx.launch_bounds_min_blocks_per_sm", resident)
    made = made.with_attr("target", target).with_attr("tirx.is_global_func", True)
    return made if aliased else made.with_attr("tirx.noalias", True)


def call(kernel: Any, arguments: Sequence[Expression]) -> Expression:
    """A call of a kernel of the same module."""
    return Call(kernel, list(arguments), ret_ty=PrimType("int32"))


def entry(parameters: Sequence[Any], calls: Sequence[Expression], name: str) -> Any:
    """A function that can be called from outside and makes the calls in order."""
    body = sequence([tirx.Evaluate(made) for made in calls])
    return tirx.PrimFunc(list(parameters), body).with_attr("global_symbol", name)


def checked_entry(
    parameters: Sequence[Any], calls: Sequence[tuple[Expression, bool]], name: str, error: Expression
) -> Any:
    """An entry whose marked calls may set ``error``: the first that does leaves its number there, from 1, and ends the run."""
    if not any(marked for _, marked in calls):
        return entry(parameters, [made for made, _ in calls], name)
    place = pointer("int32", "error")
    cells = view(place, "int32", 1, "error")
    number = sum(marked for _, marked in calls)
    rest: list[Statement] = []
    for made, marked in reversed(calls):
        if marked:
            failed = tirx.NE(load(cells, integer(0)), integer(0))
            rest = [tirx.IfThenElse(failed, store(cells, integer(number), integer(0)), sequence(rest))]
            number -= 1
        rest.insert(0, tirx.Evaluate(made))
    start = [
        tirx.Bind(place, tirx.reinterpret(place.ty, error)),
        declare(cells, place),
        store(cells, integer(0), integer(0)),
    ]
    return tirx.PrimFunc(list(parameters), sequence([*start, *rest])).with_attr("global_symbol", name)


def on_cpu(body: Statement) -> Statement:
    """Says which device a body runs on, as calls of TVM's packed functions and heap allocations need to know."""
    node = tvm.ir.StringImm("default")
    inner = tirx.AttrStmt(node, "device_type", integer(1), body)
    return tirx.AttrStmt(node, "device_id", integer(0), inner)


def void_pointer(name: str) -> Any:
    """A pointer parameter of an entry function."""
    return tirx.Var(name, PointerType(PrimType("void")))


def at_offset(address: Expression, offset: int) -> Expression:
    """The address some bytes further."""
    return tirx.handle_add_byte_offset(address, tirx.const(offset, "int64"))


def build_module(functions: dict[Any, Any], target: Any) -> Any:
    """Private kernels and entry functions compiled to a runtime module with LLVM."""
    transform = tirx.transform
    module = tvm.ir.IRModule(functions)
    for lowering in (
        transform.BindTarget(target.with_host(target)),
        transform.AnnotateEntryFunc(),
        transform.SplitHostDevice(),
        transform.MakePackedAPI(),
        transform.LowerTVMBuiltin(),
        transform.LowerIntrin(),
    ):
        module = lowering(module)
    return tvm.get_global_func("target.build.llvm")(module, target)
