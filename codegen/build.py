"""Linking: all kernels of a program, its constants and its arena, as one module with one entry.

The entry ``main`` takes pointers: the inputs, the outputs, the constants' bytes and the arena. It calls the kernels, which are
private functions of the same module, at addresses that are fixed when the program is compiled, so a run of the model is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codegen.lower.kernel import Kernel, lower
from codegen.packing import pack
from codegen.runtime import CompiledModel, Signature, address, aligned, aligned_empty
from codegen.targets.cpu import CpuTarget
from tensoropt.errors import ModelError
from tensoropt.ir.expression import Scope, Tensor, replace_sources, tensors
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.plan_types import ALIGNMENT, Plan

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a kernel: which one, on which tensors of the program, and with which packed constants (offsets in bytes)."""

    statement: Compute
    kernel: int
    inputs: tuple[Tensor, ...]
    packed: tuple[int, ...]


@dataclass(slots=True)
class BuiltProgram:
    """A linked program, in memory. ``weights`` holds every constant and packing at its aligned offset."""

    program: Program
    plan: Plan
    target: CpuTarget
    kernels: list[Kernel]
    steps: list[Step]
    weights: Weights
    workspace_bytes: int
    module: Any
    constant_outputs: Mapping[str, int]
    _model: CompiledModel | None = field(default=None, repr=False)

    @property
    def arena_bytes(self) -> int:
        """The arena of the plan and, behind it, the scratch memory that kernels share one after another."""
        return self.plan.arena_bytes + self.workspace_bytes

    @property
    def signature(self) -> Signature:
        """What the entry expects."""
        produced = {tensor for statement in self.program.statements for tensor in statement.outputs}
        passed = {
            tensor.name: self.program.constants[tensor.name]
            for tensor in self.program.outputs
            if tensor.name in self.program.constants
        }
        return Signature(self.program.inputs, self.program.outputs, frozenset(produced), passed)

    def model(self) -> CompiledModel:
        """The program, ready to run in this process."""
        if self._model is None:
            entry = self.module["main"] if self.steps else None
            self._model = CompiledModel(
                self.signature, entry, self.weights.assembled(), self.arena_bytes, self.target.threads
            )
        return self._model

    def execute(self, statement: Statement, values: Mapping[str, Array]) -> dict[str, Array]:
        """One statement alone, on given values: the very kernel that the program calls, for checks statement by statement."""
        found = [position for position, step in enumerate(self.steps) if step.statement is statement]
        if not found:  # a view, or nothing at all
            tensor = statement.outputs[0]
            source = values[statement.inputs[0].name] if tensor.type.elements else np.empty(0, tensor.dtype.numpy)
            return {tensor.name: np.asarray(source).reshape(tuple(tensor.shape))}
        step = self.steps[found[0]]
        call = self.module[_alone(found[0])]
        weights = self.weights.assembled()
        inputs = [np.ascontiguousarray(values[tensor.name]) for tensor in step.inputs]
        output = np.empty(tuple(step.statement.output.shape), step.statement.output.dtype.numpy)
        scratch = aligned_empty(self.workspace_bytes)
        kept = [aligned(array) for array in inputs]
        result = aligned_empty(output.nbytes)
        call(*(address(array) for array in (*kept, result, weights, scratch)))
        output.reshape(-1).view(np.uint8)[...] = result
        return {step.statement.output.name: output}

    def kernels_as_json(self) -> list[dict[str, Any]]:
        """Each kernel with the values that it computes, for reports and the manifest."""
        return [
            {
                "schedules": list(kernel.schedules),
                "workspace_bytes": kernel.workspace_bytes,
                "computes": [step.statement.output.name for step in self.steps if step.kernel == number],
            }
            for number, kernel in enumerate(self.kernels)
        ]

    def export_library(self, path: Path) -> None:
        """The machine code as a shared library."""
        self.module.export_library(str(path))


class Weights:
    """Constants laid out one after another, each at an aligned offset; equal requests share bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[int, Array]] = []
        self._known: dict[Any, int] = {}
        self._bytes: Array | None = None

    def place(self, key: Any, make: Callable[[], Array]) -> int:
        """The offset of an array, which is made only if the key is new."""
        if key not in self._known:
            array = np.ascontiguousarray(make())
            self._known[key] = self.size
            self._parts.append((self.size, array))
            self.size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return self._known[key]

    def assembled(self) -> Array:
        """All bytes in one aligned array."""
        if self._bytes is None:
            self._bytes = aligned_empty(self.size)
            for offset, array in self._parts:
                self._bytes[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            self._parts.clear()
        return self._bytes


def compile_program(
    program: Program, plan: Plan, target: CpuTarget, progress: Progress = lambda share, detail: None
) -> BuiltProgram:
    """Lower every statement (equal kernels once), pack the constants, and link. ModelError for what cannot be compiled."""
    linker = _Linker(program, plan, target)
    for number, statement in enumerate(program.statements):
        progress(number / max(1, len(program.statements)) * 0.5, statement.outputs[0].name)
        linker.add(statement)
    progress(0.5, "machine code")
    return linker.link()


class _Linker:
    def __init__(self, program: Program, plan: Plan, target: CpuTarget) -> None:
        self.program, self.plan, self.target = program, plan, target
        self.kernels: list[Kernel] = []
        self.steps: list[Step] = []
        self.weights = Weights()
        self._known: dict[Any, int] = {}

    def add(self, statement: Statement) -> None:
        """The call of a statement's kernel; nothing for a view."""
        if not isinstance(statement, Compute):
            raise ModelError(
                f"node {statement.origin[0] if statement.origin else statement.outputs[0].name}: the operator "
                f"{statement.operator} (opset {statement.opset}) cannot be compiled yet"
            )
        if statement.output.name in self.plan.aliases or statement.output.type.elements == 0:
            return
        actual = tensors(statement.expression)
        formal = tuple(Tensor(f"${position}", tensor.type) for position, tensor in enumerate(actual))
        expression = replace_sources(statement.expression, dict(zip(actual, formal, strict=True)))
        known = frozenset(
            stand_in.name
            for stand_in, tensor in zip(formal, actual, strict=True)
            if tensor.name in self.program.constants
        )
        number = self._kernel(expression, known)
        kernel = self.kernels[number]
        named = dict(zip(formal, actual, strict=True))
        arrays = {
            stand_in.name: self.program.constants[tensor.name]
            for stand_in, tensor in named.items()
            if stand_in.name in known
        }
        sources = tuple(named[stand_in].name for stand_in in formal if stand_in.name in known)
        packed = tuple(
            self.weights.place((number, position, sources), lambda packing=packing: pack(packing, arrays))  # type: ignore[misc]
            for position, packing in enumerate(kernel.packings)
        )
        inputs = tuple(named[stand_in] for stand_in in kernel.inputs)
        for tensor in inputs:
            if tensor.name in self.program.constants:
                self._constant(tensor.name)
        self.steps.append(Step(statement, number, inputs, packed))

    def _kernel(self, expression: Scope, known: frozenset[str]) -> int:
        key = (expression, known)
        if key not in self._known:
            output = Tensor("$out", expression.type)
            self._known[key] = len(self.kernels)
            self.kernels.append(lower(output, expression, self.target, known))
        return self._known[key]

    def link(self) -> BuiltProgram:
        """The module with the entry for the whole program and one for each step alone."""
        import tvm

        from codegen.lower import tir

        passed = {
            tensor.name: self._constant(tensor.name)
            for tensor in self.program.outputs
            if tensor.name in self.program.constants
        }
        workspace = max((kernel.workspace_bytes for kernel in self.kernels), default=0)
        names = [tvm.ir.GlobalVar(f"kernel_{number}") for number in range(len(self.kernels))]
        functions = {name: kernel.function for name, kernel in zip(names, self.kernels, strict=True)}
        module = None
        if self.steps:
            functions[tvm.ir.GlobalVar("main")] = self._entry(names, tir)
            for position, step in enumerate(self.steps):
                functions[tvm.ir.GlobalVar(_alone(position))] = self._entry_of(step, position, names, tir)
            module = tir.build_module(functions, self.target.tvm())
        return BuiltProgram(
            self.program, self.plan, self.target, self.kernels, self.steps, self.weights, workspace, module, passed
        )

    def _constant(self, name: str) -> int:
        """The offset of a constant as it is."""
        return self.weights.place(name, lambda: self.program.constants[name])

    def _entry(self, names: list[Any], tir: Any) -> Any:
        inputs = {tensor.name: tir.void_pointer(f"input{i}") for i, tensor in enumerate(self.program.inputs)}
        computed = {step.statement.output.name for step in self.steps}
        outputs: dict[str, Any] = {}
        for tensor in dict.fromkeys(self.program.outputs):
            if tensor.name in computed:
                outputs[tensor.name] = tir.void_pointer(f"output{len(outputs)}")
        weights, arena = tir.void_pointer("weights"), tir.void_pointer("arena")

        def address(name: str) -> Any:
            root = self.plan.storage(name)
            if root in outputs:
                return outputs[root]
            if root in inputs:
                return inputs[root]
            if root in self.program.constants:
                return tir.at_offset(weights, self._constant(root))
            return tir.at_offset(arena, self.plan.offsets[root])

        calls = []
        for step in self.steps:
            arguments = [address(tensor.name) for tensor in step.inputs]
            arguments += [tir.at_offset(weights, offset) for offset in step.packed]
            arguments.append(address(step.statement.output.name))
            if self.kernels[step.kernel].workspace_bytes:
                arguments.append(tir.at_offset(arena, self.plan.arena_bytes))
            calls.append(tir.tirx.Evaluate(tir.call(names[step.kernel], arguments)))
        parameters = [*inputs.values(), *outputs.values(), weights, arena]
        return tir.tirx.PrimFunc(parameters, tir.sequence(calls)).with_attr("global_symbol", "main")

    def _entry_of(self, step: Step, position: int, names: list[Any], tir: Any) -> Any:
        inputs = [tir.void_pointer(f"input{i}") for i in range(len(step.inputs))]
        output, weights, scratch = (tir.void_pointer(name) for name in ("output", "weights", "scratch"))
        arguments = [*inputs, *(tir.at_offset(weights, offset) for offset in step.packed), output]
        if self.kernels[step.kernel].workspace_bytes:
            arguments.append(scratch)
        body = tir.tirx.Evaluate(tir.call(names[step.kernel], arguments))
        entry = tir.tirx.PrimFunc([*inputs, output, weights, scratch], body)
        return entry.with_attr("global_symbol", _alone(position))


def _alone(position: int) -> str:
    return f"step_{position}"
