"""Operators without an expression: compiled through TVM's importer, checked indices, compared with ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from codegen.build import BuiltProgram, compile_program
from codegen.targets.cpu import host_target
from tensoropt.allocation import Placement
from tensoropt.errors import InputError, ModelError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Opaque, Program, type_of


def model_of(node: Any, feeds: dict[str, Array], constants: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The reference's outputs by name, and the node."""
    known = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    graph = helper.make_graph([node], "g", inputs, outputs, known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    results = ReferenceEvaluator(model).run(None, feeds)
    return node, dict(zip(node.output, (np.asarray(result) for result in results), strict=True))


def built(node: Any, feeds: dict[str, Array], constants: dict[str, Array]) -> tuple[BuiltProgram, dict[str, Array]]:
    """A program of the one node, and what it should give."""
    _, expected = model_of(node, feeds, constants)
    known = {name: Tensor(name, type_of(array)) for name, array in {**feeds, **constants}.items()}
    outputs = tuple(Tensor(name, type_of(array)) for name, array in expected.items())
    inputs = tuple(known[name] for name in node.input if name)
    statement = Opaque(outputs, inputs, node.op_type, "", 17, node.SerializeToString(), ("the_node",))
    program = Program("p", tuple(known[name] for name in feeds), outputs, constants, (statement,))
    return compile_program(program, Placement({}, 0, 0), host_target(2)), expected


X = np.arange(30, dtype=np.float32).reshape(5, 6) % 11
CASES = {
    "gather": (helper.make_node("Gather", ["x", "i"], ["y"], axis=0), {"x": X, "i": np.array([[4, -1], [0, -5]])}, {}),
    "gather_elements": (
        helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1),
        {"x": X, "i": np.array([[0, -1]] * 5)},
        {},
    ),
    "gather_nd": (helper.make_node("GatherND", ["x", "i"], ["y"]), {"x": X, "i": np.array([[1, 2], [-1, -6]])}, {}),
    "scatter_elements": (
        helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=0),
        {"x": X, "i": np.array([[1, -1, 0]]), "u": np.full((1, 3), 50, np.float32)},
        {},
    ),
    "top_k": (helper.make_node("TopK", ["x", "k"], ["v", "j"], axis=1), {"x": X}, {"k": np.array([2])}),
    "cumulative_sum": (helper.make_node("CumSum", ["x", "a"], ["y"]), {"x": X}, {"a": np.array(1)}),
    "arg_max": (helper.make_node("ArgMax", ["x"], ["y"], axis=1), {"x": X}, {}),
}


@pytest.mark.parametrize("name", list(CASES))
def test_opaque_operators(name: str) -> None:
    node, feeds, constants = CASES[name]
    program, expected = built(node, feeds, constants)
    results = program.model().run(feeds)
    for key, value in expected.items():
        np.testing.assert_array_equal(results[key], value)
    executed = program.execute(program.program.statements[0], {**feeds, **constants})
    assert all(np.array_equal(executed[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("gather", [[5, 0], [0, 0]]),
        ("gather", [[-6, 0], [0, 0]]),
        ("gather_elements", [[0, 6]] * 5),
        ("gather_nd", [[0, 0], [5, 0]]),
    ],
)
def test_an_index_out_of_range_is_an_error(name: str, bad: list[list[int]]) -> None:
    node, feeds, constants = CASES[name]
    program, expected = built(node, feeds, constants)
    with pytest.raises(InputError, match=r"the_node.*index is out of range"):
        program.model().run({**feeds, "i": np.array(bad)})
    again = program.model().run(feeds)
    np.testing.assert_array_equal(again["y"], expected["y"])


def test_what_the_importer_cannot_express_is_named() -> None:
    x = Tensor("x", type_of(np.zeros((3, 2, 5), np.float32)))
    node = helper.make_node("LSTM", ["x", "x", "x"], ["y"], hidden_size=4, name="recurrent")
    statement = Opaque((x,), (x, x, x), "LSTM", "", 17, node.SerializeToString(), ("recurrent",))
    with pytest.raises(ModelError, match=r"'recurrent' \(LSTM, opset 17\) cannot be compiled"):
        compile_program(Program("p", (x,), (x,), {}, (statement,)), Placement({}, 0, 0), host_target(2))


def test_what_the_importer_leaves_out_is_refused() -> None:
    x = Tensor("x", type_of(np.zeros((1, 2, 4, 4), np.float32)))
    sizes = Tensor("s", type_of(np.zeros(4, np.float32)))
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1)
    statement = Opaque((x,), (x, sizes), "Resize", "", 18, node.SerializeToString(), ("shrink",))
    program = Program("p", (x,), (x,), {"s": np.ones(4, np.float32)}, (statement,))
    with pytest.raises(ModelError, match=r"'shrink' \(Resize, opset 18\) cannot be compiled: .* ignores anti-aliasing"):
        compile_program(program, Placement({}, 0, 0), host_target(2))
