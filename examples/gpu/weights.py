"""An artefact's weights left out, and made again from the model's own, which a seed makes anywhere.

What is compiled on one machine and timed on another is mostly weights: 240 MiB of f32 for the seven models, twice (as written and
derived) and at two batch sizes, where code and tables take a few. So a folder is sent with the statements that compute its
constants from the model's, which are the compiler's own stages, and the place of each constant. A constant that no stage computes
is sent as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codegen.reading import WEIGHTS
from codegen.runtime import aligned_empty
from tensoropt.archives import read_arrays, write_arrays
from tensoropt.errors import ArtefactError, TensoroptError
from tensoropt.ir.constant_values import constant_value
from tensoropt.ir.constants import DeclaredConstant
from tensoropt.ir.parser import parse_program
from tensoropt.ir.printer import format_program
from tensoropt.ir.program import Array, Compute, Program

if TYPE_CHECKING:
    from codegen.device.build import BuiltDeviceProgram
    from tensoropt.api.compiled import CompiledModel

RECIPE, PLACES, SENT = "weights.txt", "weights.json", "weights.npz"


def leave_out(folder: Path, compiled: CompiledModel, built: BuiltDeviceProgram) -> int:
    """Replaces the weights of a saved artefact by how they are made; the bytes that are sent all the same.

    The weights are made again at once, and compared. RuntimeError where they differ, which is a defect of this program.
    """
    places = places_of(built)
    own = compiled.stages[0][1].constants
    statements = _statements(compiled, places, own)
    made = {statement.output.name for statement in statements}
    sent = {name: compiled.program.constants[name] for name in places if name not in own and name not in made}
    read = {tensor.name for statement in statements for tensor in statement.inputs} | places.keys()
    constants = {name: array for name, array in own.items() if name in read} | sent
    outputs = tuple(statement.output for statement in statements if statement.output.name in places)
    (folder / RECIPE).write_text(format_program(Program("weights", (), outputs, constants, tuple(statements))))
    (folder / PLACES).write_text(json.dumps({"bytes": built.weights.nbytes, "places": places}) + "\n")
    write_arrays(folder / SENT, sent)
    again = restored(folder, own)
    for name, place in places.items():
        size = compiled.program.constants[name].nbytes
        if not np.array_equal(again[place : place + size], built.weights[place : place + size]):
            raise RuntimeError(f"{folder}: the constant {name} is not made again as it was")
    (folder / WEIGHTS).unlink()
    return sum(array.nbytes for array in sent.values())


def restored(folder: Path, own: Mapping[str, Array]) -> Array:
    """The weights of a folder as bytes, from the constants of its model. ArtefactError where these are not what it was made of."""
    try:
        text = (folder / RECIPE).read_text()
        layout = json.loads((folder / PLACES).read_text())
        given = {**own, **read_arrays(folder / SENT)}
        declared = parse_program(text).constants
        known = {name: given[name] for name, one in declared.items() if isinstance(one, DeclaredConstant)}
        program = parse_program(text, known)
    except (OSError, ValueError, KeyError, TensoroptError) as error:
        raise ArtefactError(
            f"{folder}: its weights cannot be made ({str(error).splitlines()[0]}); prepare it again"
        ) from error
    values = dict(program.constants)
    for statement in program.statements:
        assert isinstance(statement, Compute)
        values[statement.output.name] = constant_value(statement.expression, values)
    memory = aligned_empty(layout["bytes"])
    memory[:] = 0
    for name, place in layout["places"].items():
        data = np.ascontiguousarray(values[name]).reshape(-1).view(np.uint8)
        memory[place : place + data.nbytes] = data
    return memory


def places_of(built: BuiltDeviceProgram) -> dict[str, int]:
    """The first byte of each constant that launches or outputs read, in the array of weights."""
    found: dict[str, int] = {}
    starts = iter(built.starts)
    for step in built.steps:
        for launch, start in zip(step.kernel.entries, starts, strict=False):  # the next step's begin where these end
            for argument, place in zip(launch.arguments, start.arguments, strict=True):
                if place.region == "weights":
                    name = step.actual[argument.name].name  # type: ignore[union-attr]  # scratch memory is in the arena
                    found[built.plan.storage(name)] = place.offset - built.plan.start(name)
    for tensor, source in zip(built.signature.outputs, built.signature.sources, strict=True):
        if source.kind == "weights":
            found[tensor.name] = source.place
    return found


def _statements(compiled: CompiledModel, wanted: Mapping[str, int], own: Mapping[str, Array]) -> list[Compute]:
    """The statements of all stages that compute the wanted constants from the model's own, in order; the first of each name."""
    known: dict[str, Compute] = {}
    for _, program in compiled.stages:
        for statement in program.statements:
            if isinstance(statement, Compute):
                known.setdefault(statement.output.name, statement)
    order: dict[str, Compute | None] = {}

    def reach(name: str) -> bool:
        if name in own:
            return True
        if name not in order:
            statement = known.get(name)
            order[name] = None  # what is computed from inputs does not come here again
            if statement is None or not all(reach(tensor.name) for tensor in statement.inputs):
                return False
            del order[name]
            order[name] = statement
        return order[name] is not None

    for name in wanted:
        reach(name)
    return [statement for statement in order.values() if statement is not None]
