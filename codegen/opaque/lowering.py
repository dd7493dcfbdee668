"""An imported node as one private kernel over pointers: run-time indices checked first, intermediates in scratch memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.lower import tir
from codegen.lower.blocks import lower_blocks, over_pointers
from codegen.lower.kernel import Kernel
from codegen.opaque.importing import Value, import_node, index_bounds
from codegen.targets.cpu import CpuTarget
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Opaque


def lower_opaque(statement: Opaque, target: CpuTarget, constants: Mapping[str, Array], prefix: str) -> Kernel:
    """The kernel of an opaque statement. Where an index is out of range it sets its last argument to 1 and does nothing else.

    ``prefix`` makes the names of its helper functions unique in the library.
    """
    import tvm
    from tvm import tirx

    imported = import_node(statement, constants, target.tvm())
    inputs = tuple(tensor for tensor in dict.fromkeys(statement.inputs) if tensor.name not in constants)
    functions = {name: over_pointers(function) for name, function in lower_blocks(imported.functions).items()}
    variables = {name: tvm.ir.GlobalVar(f"{prefix}_{name}") for name in functions}
    pointers = {
        "input": [tir.void_pointer(f"in{number}") for number in range(len(inputs))],
        "array": [tir.void_pointer(f"array{number}") for number in range(len(imported.arrays))],
        "output": [tir.void_pointer(f"out{number}") for number in range(len(statement.outputs))],
    }
    scratch, offsets, used = tir.void_pointer("scratch"), [], 0
    for size in imported.intermediates:
        offsets.append(used)
        used += -(-size // ALIGNMENT) * ALIGNMENT
    written = {value.number: number for number, value in enumerate(imported.outputs) if value.kind == "intermediate"}

    def address(value: Value) -> Any:
        if value.kind != "intermediate":
            return pointers[value.kind][value.number]
        if value.number in written:
            return pointers["output"][written[value.number]]
        return tir.at_offset(scratch, offsets[value.number])

    body = [
        tirx.Evaluate(tir.call(variables[call.function], [address(value) for value in call.arguments]))
        for call in imported.calls
    ]
    for number, value in enumerate(imported.outputs):
        if value.kind != "intermediate" or written[value.number] != number:
            size = statement.outputs[number].type.bytes
            body.append(_copy(pointers["output"][number], address(value), size))
    error = tir.pointer("int32", "error")
    checks, passed = _check(statement, inputs, pointers["input"], constants, error)
    parameters = [*pointers["input"], *pointers["array"], *pointers["output"], *([scratch] if used else [])]
    if passed is not None:
        parameters.append(error)
        body = [tir.when(passed, tir.sequence(body))]
    full = tir.sequence([*checks, *body, tirx.Return(tir.integer(0))])
    function = tirx.PrimFunc(parameters, full, ret_type=tvm.ir.PrimType("int32"))
    helpers = {variables[name]: made for name, made in functions.items()}
    return Kernel(
        function, inputs, (), statement.outputs, used, (f"opaque {statement.operator}",), imported.arrays, helpers,
        passed is not None,
    )  # fmt: skip


def _check(
    statement: Opaque, inputs: tuple[Tensor, ...], pointers: list[Any], constants: Mapping[str, Array], error: Any
) -> tuple[list[Any], Any]:
    """Statements that set the error where an index is out of range, and the condition under which none is; None if none can."""
    from tvm import tirx

    found = index_bounds(statement)
    if found is None or found[0].name in constants or not found[0].type.elements:
        return [], None
    indices, bounds = found
    stored = tir.STORED[indices.dtype]
    pointer = tir.pointer(stored, "indices")
    view = tir.view(pointer, stored, indices.type.elements, "indices")
    address = tirx.reinterpret(pointer.ty, pointers[inputs.index(indices)])
    cell = tir.view(error, "int32", 1, "error")

    def look(position: Any) -> Any:
        tests = []
        for number, bound in enumerate(bounds):
            at = position * tir.integer(len(bounds), "int64") + tir.integer(number, "int64")
            value = tir.load(view, at)
            wrong = tirx.Or(value < tirx.const(-bound, stored), value >= tirx.const(bound, stored))
            tests.append(tir.when(wrong, tir.store(cell, tir.integer(1), tir.integer(0))))
        return tir.sequence(tests)

    loop = tir.serial(indices.type.elements // len(bounds), look, "index", "int64")
    clear = tir.store(cell, tir.integer(0), tir.integer(0))
    statements = [tirx.Bind(pointer, address), tir.declare(view, pointer), tir.declare(cell, error), clear, loop]
    return statements, tirx.EQ(tir.load(cell, tir.integer(0)), tir.integer(0))


def _copy(target: Any, source: Any, size: int) -> Any:
    """A byte for byte copy."""
    from tvm import tirx

    names = [tir.pointer("uint8", name) for name in ("to", "from")]
    views = [tir.view(name, "uint8", size, "bytes") for name in names]
    binds = [
        tirx.Bind(name, tirx.reinterpret(name.ty, address))
        for name, address in zip(names, (target, source), strict=True)
    ]
    loop = tir.serial(size, lambda at: tir.store(views[0], tir.load(views[1], at), at), "byte", "int64")
    return tir.sequence([*binds, *(tir.declare(view, name) for view, name in zip(views, names, strict=True)), loop])
