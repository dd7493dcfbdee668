"""Linking: a planned program becomes one library with an entry function, packed constants and one arena.

``main(inputs…, outputs…, arena, weights)`` calls the kernels in order, each a private function that several statements share
when they differ in names only. Every pointer is an argument or lies at a fixed offset from one, so a run is one call, and as
many runs may go on at once as there are arenas. Scratch memory of kernels lies in the arena too: where the plan says, or behind the
values.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codegen.linking import link_library
from codegen.lower import tir
from codegen.lower.kernel import Kernel, lower
from codegen.opaque.importing import describe
from codegen.outputs import output_sources, written_outputs
from codegen.packing import pack, packing_key, packing_sources
from codegen.reading import LIBRARY
from codegen.runtime import CompiledModel, aligned_empty
from codegen.signature import Signature
from codegen.strided import box_of, empty_box
from codegen.targets.cpu import CpuTarget
from codegen.weights import Weights
from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.ir.expression import Scope, Tensor, replace_sources, tensors
from tensoropt.ir.parts import parts_of, range_of
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement
from tensoropt.ir.structure import row_major_strides

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """A kernel over numbered tensors, and its name in the library."""

    kernel: Kernel
    name: str
    variable: Any


@dataclass(frozen=True, slots=True)
class Step:
    """One call: the statement, its kernel, and what the kernel's numbered tensors are here."""

    statement: Statement
    shared: Shared
    actual: Mapping[str, Tensor]

    @property
    def elements(self) -> int:
        """How many elements the call writes."""
        return sum(output.type.elements for output in self.statement.outputs)


@dataclass
class BuiltProgram:
    """A linked program: run it here through ``model()``, or write it with ``codegen.artefact.save``."""

    program: Program
    plan: Placement
    target: CpuTarget
    module: Any
    weights: Array
    signature: Signature
    steps: tuple[Step, ...]
    _model: CompiledModel | None = None

    def model(self) -> CompiledModel:
        """The program, ready to run in this process."""
        if self._model is None:
            self._model = CompiledModel(self.module["main"], self.signature, self.weights, keep=self.module)
        return self._model

    def execute(self, statement: Statement, values: Mapping[str, Array]) -> dict[str, Array]:
        """One statement through the kernel that the library has for it, on given values; for checks."""
        step = next((step for step in self.steps if step.statement is statement), None)
        if step is None:
            assert isinstance(statement, Compute)
            return {statement.output.name: value_as_kept(statement, values)}
        kernel, actual = step.shared.kernel, step.actual
        inputs = [np.ascontiguousarray(values[actual[tensor.name].name]) for tensor in kernel.inputs]
        known = {name: values[tensor.name] for name, tensor in actual.items() if tensor.name in self.program.constants}
        packed = [*(pack(packing, known) for packing in kernel.packings), *map(np.ascontiguousarray, kernel.arrays)]
        outputs = [empty_box(tensor, self.plan.strides.get(tensor.name)) for tensor in statement.outputs]
        arrays = [*inputs, *packed, *outputs]
        if kernel.workspace_bytes:
            arrays.append(aligned_empty(kernel.workspace_bytes))
        if kernel.checked:
            arrays.append(np.zeros(1, np.int32))
        self.module[step.shared.name](*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
        return {tensor.name: array for tensor, array in zip(statement.outputs, outputs, strict=True)}

    def write(self, folder: Path) -> None:
        """The files that a run needs, weights apart. UsageError where no linker is there or it fails."""
        link_library(self.module, folder / LIBRARY)

    def kernels_as_json(self) -> list[dict[str, Any]]:
        """What ``optimize --json`` tells of the kernels, in order."""
        return [
            {
                "output": step.statement.outputs[0].name,
                "origin": list(step.statement.origin),
                "kernel": step.shared.name,
                "schedules": list(step.shared.kernel.schedules),
                "workspace_bytes": step.shared.kernel.workspace_bytes,
            }
            for step in self.steps
        ]


def value_as_kept(statement: Compute, values: Mapping[str, Array]) -> Array:
    """The value of a statement that does nothing: a whole from its parts, a view from what it shows."""
    shape = tuple(int(extent) for extent in statement.output.shape)
    parts = parts_of(statement.expression)
    if parts:
        whole = np.empty(statement.output.type.elements, statement.output.dtype.numpy)
        for part in parts:
            strides = part.strides or row_major_strides(part.tensor.shape)
            box_of(whole, part.start, part.tensor, strides)[...] = values[part.tensor.name]
        return whole.reshape(shape)
    shows = range_of(statement.expression)
    source, start = (statement.inputs[0], 0) if shows is None else (shows.tensor, shows.start)
    flat = np.asarray(values[source.name]).reshape(-1)
    return flat[start : start + statement.output.type.elements].reshape(shape)


def compile_program(
    program: Program,
    plan: Placement,
    target: CpuTarget,
    progress: Progress | None = None,
    variants: Mapping[str, Any] | None = None,
) -> BuiltProgram:
    """A planned program compiled and linked. ModelError for a statement that nothing here can compile."""
    report = progress or (lambda share, detail: None)
    return link(program, plan, target, lowered(program, plan.idle, target, report, variants, plan.strides), report)


def link(
    program: Program,
    plan: Placement,
    target: CpuTarget,
    steps: list[Step],
    progress: Progress = lambda share, detail: None,
) -> BuiltProgram:
    """The program of calls that were lowered, with its values and workspaces where the plan says."""
    import tvm

    kernels = {step.shared.name: step.shared for step in steps}
    weights = Weights()
    signature, entry = _entry(program, plan, steps, weights, target)
    progress(0.75, "linking")
    functions = {shared.variable: shared.kernel.function for shared in kernels.values()}
    for shared in kernels.values():
        functions.update(shared.kernel.helpers)
    functions[tvm.ir.GlobalVar("main")] = entry
    for shared in kernels.values():
        functions[tvm.ir.GlobalVar(shared.name)] = _wrapper(shared)
    module = tir.build_module(functions, target.tvm())
    progress(0.95, "constants")
    return BuiltProgram(program, plan, target, module, weights.fill(), signature, tuple(steps))


def lowered(
    program: Program,
    idle: Collection[str],
    target: CpuTarget,
    progress: Progress = lambda share, detail: None,
    variants: Mapping[str, Any] | None = None,
    strides: Mapping[str, tuple[int, ...]] | None = None,
    known: dict[Any, Shared] | None = None,
) -> list[Step]:
    """The calls that run a program, in order, with their kernels; statements of ``idle`` values do nothing.

    ``strides``: of values that are not written row-major, in elements. ``known`` holds kernels of programs much like this one that
    were lowered before, and gets this one's. ModelError as `compile_program`.
    """
    kernels: dict[Any, Shared] = {} if known is None else known
    steps: list[Step] = []
    for number, statement in enumerate(program.statements):
        progress(0.7 * number / max(1, len(program.statements)), statement.outputs[0].name)
        if isinstance(statement, Opaque):
            steps.append(_opaque_step(statement, program, target, kernels))
        elif statement.output.name not in idle:
            layout = (strides or {}).get(statement.output.name)
            steps.append(_step(statement, program, target, kernels, variants or {}, layout))
    return steps


def workspaces_of(steps: Iterable[Step]) -> dict[str, int]:
    """Bytes of the scratch memory of calls that have some, by the first value that they write."""
    sizes = {step.statement.outputs[0].name: step.shared.kernel.workspace_bytes for step in steps}
    return {name: size for name, size in sizes.items() if size}


def numbered(expression: Scope) -> tuple[Scope, dict[str, Tensor]]:
    """The expression over tensors named by their order, and what each stands for."""
    actual: dict[str, Tensor] = {}
    renamed: dict[Tensor | Scope, Tensor | Scope] = {}
    for number, tensor in enumerate(tensors(expression)):
        renamed[tensor] = Tensor(f"t{number}", tensor.type)
        actual[f"t{number}"] = tensor
    return replace_sources(expression, renamed), actual


def _step(
    statement: Compute,
    program: Program,
    target: CpuTarget,
    kernels: dict[Any, Shared],
    variants: Mapping[str, Any],
    strides: tuple[int, ...] | None,
) -> Step:
    import tvm

    expression, actual = numbered(statement.expression)
    constants = frozenset(name for name, tensor in actual.items() if tensor.name in program.constants)
    variant = variants.get(statement.output.name)
    key = (expression, constants, strides, json.dumps(variant, sort_keys=True))
    shared = kernels.get(key)
    if shared is None:
        output = Tensor("out", statement.output.type)
        kernel = lower(output, expression, target, constants, variant, strides)
        number = len(kernels)
        shared = kernels[key] = Shared(kernel, f"kernel_{number}", tvm.ir.GlobalVar(f"private_{number}"))
    return Step(statement, shared, actual)


def _opaque_step(statement: Opaque, program: Program, target: CpuTarget, kernels: dict[Any, Shared]) -> Step:
    import tvm

    from codegen.opaque.lowering import lower_opaque

    shared = kernels.get(statement)
    if shared is None:
        number = len(kernels)
        constants = {
            tensor.name: program.constants[tensor.name]
            for tensor in statement.inputs
            if tensor.name in program.constants
        }
        kernel = lower_opaque(statement, target, constants, f"helper_{number}")
        shared = kernels[statement] = Shared(kernel, f"kernel_{number}", tvm.ir.GlobalVar(f"private_{number}"))
    return Step(statement, shared, {tensor.name: tensor for tensor in statement.inputs})


def _wrapper(shared: Shared) -> Any:
    """An entry to one kernel, for checks."""
    pointers = [tir.void_pointer(f"argument{number}") for number in range(len(shared.kernel.function.params))]
    return tir.entry(pointers, [tir.call(shared.variable, pointers)], shared.name)


def _entry(
    program: Program, plan: Placement, steps: list[Step], weights: Weights, target: CpuTarget
) -> tuple[Signature, Any]:
    inputs = {tensor.name: tir.void_pointer(f"input{number}") for number, tensor in enumerate(program.inputs)}
    written = written_outputs(program, plan, {output.name for step in steps for output in step.statement.outputs})
    outputs = {name: tir.void_pointer(f"output{number}") for number, name in enumerate(written)}
    arena, constants = tir.void_pointer("arena"), tir.void_pointer("weights")
    scratch_offset = -(-(plan.arena_bytes + plan.host_bytes) // ALIGNMENT) * ALIGNMENT
    unplaced = [step for step in steps if step.statement.outputs[0].name not in plan.workspaces]
    scratch = max((step.shared.kernel.workspace_bytes for step in unplaced), default=0)
    error_offset = scratch_offset + -(-scratch // ALIGNMENT) * ALIGNMENT
    calls: list[tuple[Any, bool]] = []
    failures: list[str] = []

    def address(tensor: Tensor) -> Any:
        name, start = plan.storage(tensor.name), plan.start(tensor.name)
        if name in outputs:
            return tir.at_offset(outputs[name], start) if start else outputs[name]
        if name in inputs:
            return tir.at_offset(inputs[name], start) if start else inputs[name]
        if name in program.constants:
            return tir.at_offset(constants, weights.constant(name, program.constants[name]) + start)
        return tir.at_offset(arena, plan.offsets[name] + start)

    for step in steps:
        kernel = step.shared.kernel
        if not step.elements:
            continue
        arguments = [address(step.actual[tensor.name]) for tensor in kernel.inputs]
        for packing in kernel.packings:
            sources = {tensor.name: step.actual[tensor.name].name for tensor in packing_sources(packing)}
            key = packing_key(packing, step.actual)
            size = packing.elements * packing.dtype.itemsize

            def make(packing: Any = packing, sources: Mapping[str, str] = sources) -> Array:
                return pack(packing, {name: program.constants[actual] for name, actual in sources.items()})

            arguments.append(tir.at_offset(constants, weights.place(key, size, make)))
        for number, array in enumerate(kernel.arrays):
            arguments.append(tir.at_offset(constants, weights.constant((step.shared.name, number), array)))
        arguments += [address(output) for output in step.statement.outputs]
        if kernel.workspace_bytes:
            place = plan.workspaces.get(step.statement.outputs[0].name, scratch_offset)
            arguments.append(tir.at_offset(arena, place))
        if kernel.checked:
            arguments.append(tir.at_offset(arena, error_offset))
        calls.append((tir.call(step.shared.variable, arguments), kernel.checked))
        if isinstance(step.statement, Opaque) and kernel.checked:
            failures.append(f"{describe(step.statement)}: an index is out of range")
    signature = Signature(
        program.inputs,
        program.outputs,
        output_sources(program, written, weights),
        len(written),
        error_offset + (ALIGNMENT if failures else 0),
        target.threads,
        tuple(failures),
    )
    pointers = [*inputs.values(), *outputs.values(), arena, constants]
    return signature, tir.checked_entry(pointers, calls, "main", tir.at_offset(arena, error_offset))
