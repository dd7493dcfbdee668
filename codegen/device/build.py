"""A planned program for a device: compiled kernels, constants in one array, and a table of launches.

Kernels that several statements share when they differ in names only are in the source once. Scratch memory of kernels lies in the
arena: where the plan says, or behind the values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

from codegen.build import numbered, value_as_kept
from codegen.built import Model
from codegen.device.code import DeviceCode, compiled_code
from codegen.device.files import LAUNCHES
from codegen.device.kernel import CompiledKernel, function_names, functions_of, starts_of
from codegen.device.table import ALIGNED, Entry, Place, as_json
from codegen.libraries import operations
from codegen.lower.device import Call, DeviceKernel, Launch, lower
from codegen.outputs import output_sources, written_outputs
from codegen.signature import Signature
from codegen.targets.gpu import GpuTarget
from codegen.weights import Weights
from tensoropt.allocation import Placement
from tensoropt.errors import ModelError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One call: the statement, its kernel and the kernel's name, and what the kernel's numbered tensors are here."""

    statement: Compute
    kernel: DeviceKernel
    name: str
    actual: Mapping[str, Tensor]


@dataclass
class BuiltDeviceProgram:
    """A program for a device: run it here through ``model()``, or write it with ``codegen.artefact.save``."""

    program: Program
    plan: Placement
    target: GpuTarget
    code: DeviceCode
    starts: tuple[Entry, ...]
    weights: Array
    signature: Signature
    steps: tuple[Step, ...]
    _model: Model | None = None
    _alone: dict[str, CompiledKernel] = field(default_factory=dict)

    def model(self) -> Model:
        """The program, ready to run on the device. UsageError where there is none."""
        if self._model is None:
            self._model = self.code.model(self.starts, self.signature, self.weights)
        return self._model

    def execute(self, statement: Statement, values: Mapping[str, Array]) -> dict[str, Array]:
        """One statement through the kernel that the program has for it, on given values; for checks."""
        assert isinstance(statement, Compute)
        step = next((step for step in self.steps if step.statement is statement), None)
        if step is None:
            return {statement.output.name: value_as_kept(statement, values)}
        if step.name not in self._alone:
            names = function_names(step.kernel, step.name)
            self._alone[step.name] = CompiledKernel(step.kernel, names, self.code)
        given = {tensor.name: values[step.actual[tensor.name].name] for tensor in step.kernel.inputs}
        (result,) = self._alone[step.name](given).values()
        return {statement.output.name: result}

    def write(self, folder: Path) -> None:
        """The files that a run needs, weights apart."""
        self.code.write(folder)
        (folder / LAUNCHES).write_text(json.dumps(as_json(self.starts)) + "\n")

    def kernels_as_json(self) -> list[dict[str, Any]]:
        """What ``optimize --json`` tells of the kernels, in order."""
        return [
            {
                "output": step.statement.output.name,
                "origin": list(step.statement.origin),
                "kernel": step.name,
                "schedules": list(step.kernel.schedules),
                "workspace_bytes": step.kernel.workspace_bytes,
                "launches": [
                    self._launch_as_json(launch, name)
                    for name, launch in zip(function_names(step.kernel, step.name), step.kernel.entries, strict=True)
                ],
            }
            for step in self.steps
        ]

    def _launch_as_json(self, launch: Launch | Call, name: str) -> dict[str, Any]:
        if isinstance(launch, Call):
            return operations.as_json(launch.call)
        return {"grid": list(launch.grid), "block": list(launch.block), **self.code.needs(name)}


def lowered(
    program: Program,
    idle: Collection[str],
    target: GpuTarget,
    progress: Progress = lambda share, detail: None,
    variants: Mapping[str, Any] | None = None,
    strides: Mapping[str, tuple[int, ...]] | None = None,
    start: Callable[[str], int] = lambda name: 0,
) -> list[Step]:
    """The calls that run a program, in order, with their kernels; statements of ``idle`` values do nothing.

    ``strides``: of values that are not written row-major, in elements. ``start``: the first byte of a value in the one whose bytes
    hold it, which decides what may be read and written at once. ModelError for an operator that the algebra does not
    express, and for a type that the device lacks.
    """
    kernels: dict[Any, tuple[DeviceKernel, str]] = {}
    steps: list[Step] = []
    for number, statement in enumerate(program.statements):
        name = statement.outputs[0].name
        progress(0.7 * number / max(1, len(program.statements)), name)
        if isinstance(statement, Opaque):
            node = f" (from {statement.origin[0]})" if statement.origin else ""
            raise ModelError(
                f"{name}{node}: the operator {statement.operator} is not compiled for {target.kind} devices; use --target cpu"
            )
        if name in idle:
            continue
        expression, actual = numbered(statement.expression)
        constants = frozenset(name for name, tensor in actual.items() if tensor.name in program.constants)
        layout = (strides or {}).get(name)
        output = Tensor("out", statement.output.type)
        places = {**{one: tensor.name for one, tensor in actual.items()}, output.name: name}
        alignments = {one: gcd(ALIGNED, start(place)) for one, place in places.items()}
        variant = (variants or {}).get(name)
        key = (expression, constants, layout, tuple(alignments.items()), json.dumps(variant, sort_keys=True))
        if key not in kernels:
            kernel = lower(output, expression, target, constants, variant, layout, alignments)
            kernels[key] = kernel, f"kernel_{len(kernels)}"
        steps.append(Step(statement, *kernels[key], actual))
    return steps


def workspaces_of(steps: Iterable[Step]) -> dict[str, int]:
    """Bytes of the scratch memory of calls that have some, by the value that they write."""
    sizes = {step.statement.output.name: step.kernel.workspace_bytes for step in steps}
    return {name: size for name, size in sizes.items() if size}


def link(
    program: Program,
    plan: Placement,
    target: GpuTarget,
    steps: list[Step],
    progress: Progress = lambda share, detail: None,
) -> BuiltDeviceProgram:
    """The program of calls that were lowered, with its values and workspaces where the plan says."""
    weights = Weights(target.alignment)
    signature, starts = _table(program, plan, steps, weights, target.alignment)
    progress(0.75, "compiling")
    functions: dict[str, Any] = {}
    for step in steps:
        functions |= functions_of(step.kernel, function_names(step.kernel, step.name))
    code = compiled_code(functions, target, starts)
    progress(0.95, "constants")
    return BuiltDeviceProgram(program, plan, target, code, starts, weights.fill(), signature, tuple(steps))


def _table(
    program: Program, plan: Placement, steps: list[Step], weights: Weights, alignment: int
) -> tuple[Signature, tuple[Entry, ...]]:
    inputs = {tensor.name: number for number, tensor in enumerate(program.inputs)}
    written = written_outputs(program, plan, {step.statement.output.name for step in steps})
    scratch = -(-(plan.arena_bytes + plan.host_bytes) // alignment) * alignment
    unplaced = [step for step in steps if step.statement.output.name not in plan.workspaces]
    arena_bytes = scratch + max((step.kernel.workspace_bytes for step in unplaced), default=0)

    def place(tensor: Tensor) -> Place:
        name, start = plan.storage(tensor.name), plan.start(tensor.name)
        if name in written:
            return Place("output", start, written.index(name))
        if name in inputs:
            return Place("input", start, inputs[name])
        if name in program.constants:
            return Place("weights", weights.constant(name, program.constants[name]) + start)
        return Place("arena", plan.offsets[name] + start)

    starts: list[Entry] = []
    for step in steps:
        places = {tensor: place(step.actual[tensor.name]) for tensor in step.kernel.inputs}
        places[step.kernel.output] = place(step.statement.output)
        workspace = Place("arena", plan.workspaces.get(step.statement.output.name, scratch))
        starts += starts_of(step.kernel, function_names(step.kernel, step.name), places, workspace)
    signature = Signature(
        program.inputs, program.outputs, output_sources(program, written, weights), len(written), arena_bytes, threads=1
    )
    return signature, tuple(starts)
