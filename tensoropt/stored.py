"""The program of an artefact folder with its constants, so that it can be compiled again."""

from __future__ import annotations

from pathlib import Path

from tensoropt.errors import ArtefactError, TensoroptError
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Array, Program


def stored_program(folder: Path) -> Program:
    """The program of kernels from ``program.txt``, its constants from ``optimized.onnx``, which names them alike.

    ArtefactError where one of the two is missing, damaged, or not of the other.
    """
    try:
        text = (folder / "program.txt").read_text()
        program = parse_program(text, _weights(folder / "optimized.onnx"))
        for array in program.constants.values():
            array.__array__()  # those that are only declared say so
    except (OSError, ValueError, TensoroptError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtefactError(
            f"{folder}: the artefact cannot be compiled again ({line}); optimize the model again"
        ) from error
    return program


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
