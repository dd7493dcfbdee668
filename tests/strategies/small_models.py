"""Small ONNX models written as text, and their values by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser

from tensoropt.frontend import load_program
from tensoropt.ir.program import Array, Program


def model(body: str, inputs: str, outputs: str, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A model of nodes in ONNX's text form. Weights are given by shape and hold seeded values between −1 and 1."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> test ({inputs}) => ({outputs}) {{ {body} }}'
    found = onnx.parser.parse_model(text)
    for place, (name, shape) in enumerate(weights.items()):
        values = np.random.default_rng(place).uniform(0.1, 1, shape).astype(np.float32)
        signs = np.random.default_rng(place + 99).choice([-1, 1], shape).astype(np.float32)
        array = values if name.startswith("var") else values * signs
        found.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return found


def program_of(found: onnx.ModelProto) -> Program:
    """The model as imported."""
    return load_program(found, {}).program


def expected(found: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs by ONNX Runtime, unoptimized."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def feeds_of(program: Program, seed: int = 0) -> dict[str, Array]:
    """Seeded values for the inputs."""
    random = np.random.default_rng(seed)
    return {
        tensor.name: random.standard_normal(tuple(int(extent) for extent in tensor.shape)).astype(tensor.dtype.numpy)
        for tensor in program.inputs
    }
