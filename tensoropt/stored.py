"""The program of an artefact folder with its constants, so that it can be compiled again."""

from __future__ import annotations

from pathlib import Path

from tensoropt.errors import ArtefactError, TensoroptError
from tensoropt.ir.constant_values import constant_value
from tensoropt.ir.constants import DeclaredConstant
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Array, Compute, Program


def stored_program(folder: Path) -> Program:
    """The program of kernels from ``program.txt``, with its constants.

    Constants are those of ``optimized.onnx``, which names them alike, and what the program of an earlier stage computes from these:
    other runtimes may have got weights before they were rearranged for our kernels. The hashes in the text say whether they are
    right. ArtefactError where something is missing, damaged, or not of the rest.
    """
    try:
        text = (folder / "program.txt").read_text()
        constants = _Constants(folder)
        wanted = _declared(parse_program(text))
        program = parse_program(text, {name: constants.value(name) for name in wanted})
    except (OSError, ValueError, RecursionError, TensoroptError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtefactError(
            f"{folder}: the artefact cannot be compiled again ({line}); optimize the model again"
        ) from error
    return program


def _declared(program: Program) -> list[str]:
    """The constants whose values the text does not have."""
    return [name for name, array in program.constants.items() if isinstance(array, DeclaredConstant)]


class _Constants:
    """Constants by name, read or computed when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._values = _weights(folder / "optimized.onnx")
        self._stages = sorted((folder / "stages").glob("*.txt"))
        self._statements: dict[str, Compute] | None = None

    def value(self, name: str) -> Array:
        """The array. ValueError where nothing gives it."""
        if name not in self._values:
            statement = self._computed().get(name)
            if statement is None:
                raise ValueError(f"nothing in it holds the constant {name}")
            inputs = {tensor.name: self.value(tensor.name) for tensor in statement.inputs}
            self._values[name] = constant_value(statement.expression, inputs)
        return self._values[name]

    def _computed(self) -> dict[str, Compute]:
        """The statement of each value that some stage computes, and the constants that some stage's text holds."""
        if self._statements is None:
            self._statements = {}
            for path in self._stages:
                program = parse_program(path.read_text())
                declared = _declared(program)
                self._values |= {
                    name: array
                    for name, array in program.constants.items()
                    if name not in declared and name not in self._values
                }
                for statement in program.statements:
                    if isinstance(statement, Compute):
                        self._statements.setdefault(statement.output.name, statement)
        return self._statements


def _weights(path: Path) -> dict[str, Array]:
    """The initializers of an exported model by name."""
    import onnx
    from onnx import numpy_helper

    try:
        initializers = onnx.load(path).graph.initializer
    except OSError:
        raise
    except Exception as error:  # whatever the reader of protobufs makes of a damaged file
        raise ValueError(f"{path.name} is damaged: {error}") from error
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}
