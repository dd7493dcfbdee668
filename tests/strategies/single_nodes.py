"""Models of one node, and their agreement with ONNX Runtime through the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tensoropt.frontend import load_program
from tensoropt.frontend.reference import reference_session
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program

Array = np.ndarray[Any, Any]


def normal(seed: int, *shape: int, dtype: type = np.float32) -> Array:
    """Seeded normal values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def model_of(
    operator: str,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    order: Sequence[str] | None = None,
    outputs: int = 1,
    opset: int = 18,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node that reads the inputs, then the constants (or both in the given order, "" for one left out)."""
    fixed = constants or {}
    names = list(order) if order is not None else [*inputs, *fixed]
    produced = [f"y{number}" for number in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, produced, **attributes)],
        "single",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in produced],
        [numpy_helper.from_array(array, name) for name, array in fixed.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def assert_agrees(
    model: onnx.ModelProto, feeds: Mapping[str, Array], rtol: float = 1e-4, atol: float = 1e-5
) -> Program:
    """Lifts the model without opaque statements and compares every output with ONNX Runtime; the program."""
    loaded = load_program(model)
    program = loaded.program
    assert all(isinstance(statement, Compute) for statement in program.statements), program.statements
    expected = reference_session(loaded).run(None, dict(feeds))
    values = run_program(program, feeds)
    for tensor, wanted in zip(program.outputs, expected, strict=True):
        found = values[tensor.name]
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        if found.dtype.kind in "iub":
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol)
    return program


@st.composite
def shapes(draw: st.DrawFn, least: int = 1, most: int = 4, largest: int = 5) -> tuple[int, ...]:
    """Small shapes."""
    return tuple(draw(st.lists(st.integers(1, largest), min_size=least, max_size=most)))


@st.composite
def broadcast_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast against one another."""
    whole = draw(shapes())
    pair = []
    for _ in range(2):
        kept = draw(st.integers(0, len(whole)))
        pair.append(tuple(extent if draw(st.booleans()) else 1 for extent in whole[len(whole) - kept :]))
    return pair[0], pair[1]
