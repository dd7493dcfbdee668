"""Hygiene: what a model looks like when it has become a program, and that the program means the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from tensoropt.errors import ModelError
from tensoropt.frontend import LoadedModel, load_program
from tensoropt.frontend.reference import reference_names, reference_session, reference_values
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Opaque
from tests.strategies.single_nodes import Array, normal


def agree(loaded: LoadedModel, feeds: Mapping[str, Array]) -> None:
    expected = reference_session(loaded).run(None, dict(feeds))
    values = run_program(loaded.program, feeds)
    for tensor, wanted in zip(loaded.program.outputs, expected, strict=True):
        np.testing.assert_allclose(values[tensor.name], wanted, rtol=1e-4, atol=1e-5)


def parsed(text: str, opset: int = 18) -> onnx.ModelProto:
    header = f'<ir_version: 9, opset_import: ["" : {opset}, "local" : 1]>\n'
    model: onnx.ModelProto = parser.parse_model(header + text)
    return model


ATTENTION = """
attention (float[batch, length, 8] x) => (float[batch, length, 8] y) {
    shape = Shape (x)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    batch = Gather <axis = 0> (shape, zero)
    length = Gather <axis = 0> (shape, one)
    first = Constant <value_ints = [0]> ()
    b = Unsqueeze (batch, first)
    l = Unsqueeze (length, first)
    heads = Constant <value_ints = [2, 4]> ()
    split = Concat <axis = 0> (b, l, heads)
    parts = Reshape (x, split)
    q = Transpose <perm = [0, 2, 1, 3]> (parts)
    k = Transpose <perm = [0, 2, 3, 1]> (parts)
    scores = MatMul (q, k)
    positions = Range (zero, length, one)
    row = Unsqueeze (positions, one)
    column = Unsqueeze (positions, zero)
    visible = LessOrEqual (column, row)
    minus = Constant <value_float = -1e9> ()
    masked = Where (visible, scores, minus)
    shares = Softmax <axis = -1> (masked)
    context = MatMul (shares, q)
    back = Transpose <perm = [0, 2, 1, 3]> (context)
    hidden = Constant <value_ints = [-1]> ()
    joined = Concat <axis = 0> (b, l, hidden)
    y = Reshape (back, joined)
}
"""


class TestShapes:
    def test_shape_computations_fold(self) -> None:
        loaded = load_program(parsed(ATTENTION), {"x": (2, 40, 8)})
        agree(loaded, {"x": normal(0, 2, 40, 8)})
        assert all(isinstance(statement, Compute) for statement in loaded.program.statements)
        assert not loaded.program.constants

    def test_causal_mask_becomes_a_comparison(self) -> None:
        loaded = load_program(parsed(ATTENTION), {"x": (1, 64, 8)})
        (masked,) = [found for found in loaded.program.statements if found.outputs[0].name == "masked"]
        assert "index<i64>(" in repr(masked)
        assert [tensor.name for tensor in masked.inputs] == ["scores"]

    def test_names_and_origins(self) -> None:
        loaded = load_program(parsed(ATTENTION), {"x": (2, 5, 8)})
        names = [statement.outputs[0].name for statement in loaded.program.statements]
        assert names == [
            "parts", "q", "k", "scores", "masked", "shares.max", "shares.exp", "shares.sum", "shares", "context", "back", "y",
        ]  # fmt: skip
        assert loaded.program.statements[3].origin == ("MatMul_13",)

    def test_dead_nodes_are_dropped(self) -> None:
        model = parsed("g (float[3] x) => (float[3] y) { z = NonZero (x)  y = Relu (x)  w = Abs (x) }")
        assert [statement.outputs[0].name for statement in load_program(model).program.statements] == ["y"]


class TestFunctions:
    def test_model_local_functions(self) -> None:
        model = parsed(
            """
            g (float[2, 3] x) => (float[2, 3] y) { a = local.twice (x)  y = local.twice (a) }
            <opset_import: ["" : 18], domain: "local">
            twice (v) => (w) { t = Add (v, v)  w = Tanh (t) }
            """
        )
        loaded = load_program(model)
        agree(loaded, {"x": normal(0, 2, 3)})
        names = {output.name for statement in loaded.program.statements for output in statement.outputs}
        assert len(names) == 4
        assert names <= reference_names(loaded)

    def test_bodies_of_standard_operators(self) -> None:
        model = parsed("g (float[2, 3] x) => (float[2, 3] y) { y = MeanVarianceNormalization <axes = [1]> (x) }")
        loaded = load_program(model)
        agree(loaded, {"x": normal(0, 2, 3)})
        assert all(statement.outputs[0].name.split(".")[0] == "y" for statement in loaded.program.statements)


class TestConstants:
    def test_constants_fold(self) -> None:
        model = parsed(
            """
            g (float[2, 3] x) => (float[2, 3] y)
            <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2, 3] b = {1, 1, 1, 1, 1, 1}>
            { t = Transpose (w)  s = Sqrt (t)  u = Add (x, s)  y = Mul (u, b) }
            """
        )
        loaded = load_program(model)
        agree(loaded, {"x": normal(0, 2, 3)})
        assert list(loaded.program.constants) == ["s"]
        assert len(loaded.program.statements) == 2

    def test_equal_elements_become_a_literal(self) -> None:
        model = parsed("g (float[2, 3] x) => (float[2, 3] y) <float[2, 3] b = {2, 2, 2, 2, 2, 2}> { y = Mul (x, b) }")
        loaded = load_program(model)
        assert not loaded.program.constants
        assert "2.0f32" in repr(loaded.program.statements[0])

    def test_constant_output(self) -> None:
        loaded = load_program(
            parsed("g (float[2] x) => (float[3] y) { y = Constant <value_floats = [1.0, 2.0, 3.0]> () }")
        )
        assert loaded.program.statements == ()
        np.testing.assert_array_equal(loaded.program.constants["y"], [1, 2, 3])

    def test_inputs_with_an_initializer_are_constants(self) -> None:
        model = parsed("g (float[2] x, float[2] b) => (float[2] y) <float[2] b = {1, 2}> { y = Add (x, b) }")
        assert [tensor.name for tensor in load_program(model).program.inputs] == ["x"]

    def test_sparse_initializer(self) -> None:
        model = parsed("g (float[4] x) => (float[4] y) { y = Add (x, b) }")
        values = numpy_helper.from_array(np.array([5, 6], np.float32), "b")
        indices = numpy_helper.from_array(np.array([1, 3], np.int64), "i")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
        np.testing.assert_array_equal(load_program(model).program.constants["b"], [0, 5, 0, 6])


class TestSources:
    def test_all_sources_give_the_same(self, tmp_path: Path) -> None:
        model = parsed("g (float[2, 3] x) => (float[2, 3] y) <float[3] b = {1, 2, 3}> { y = Add (x, b) }")
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        sources: list[Any] = [path, str(path), path.read_bytes(), model, onnx_ir.load(path)]
        programs = [load_program(source) for source in sources]
        assert len({repr(loaded.program.statements) for loaded in programs}) == 1
        assert programs[0].sha256 == programs[2].sha256
        assert programs[0].path == path
        for loaded in programs:
            agree(loaded, {"x": normal(0, 2, 3)})

    def test_the_model_that_is_given_stays_as_it_is(self) -> None:
        model = parsed("g (float[n, 3] x) => (float[n, 3] y) <float[3] b = {1, 2, 3}> { y = Add (x, b) }")
        before = model.SerializeToString()
        load_program(model, {"x": (2, 3)})
        assert model.SerializeToString() == before

    def test_external_data_of_an_onnx_ir_model(self, tmp_path: Path) -> None:
        weight = normal(0, 64, 64)
        model = helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["x", "w"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])],
                [numpy_helper.from_array(weight, "w")],
            ),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        )
        onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        for source in (tmp_path / "m.onnx", onnx_ir.load(tmp_path / "m.onnx")):
            loaded = load_program(source)
            assert isinstance(loaded.program.constants["w"], np.memmap)
            agree(loaded, {"x": normal(1, 2, 64)})


class TestOpaque:
    MODEL = """
    g (float[2, 6] x) => (float[2, 3] y, int64[2, 3] z) {
        k = Constant <value_ints = [3]> ()
        v, z = TopK (x, k)
        y = Relu (v)
    }
    """

    def test_keeps_node_constants_and_names(self) -> None:
        program = load_program(parsed(self.MODEL)).program
        opaque = program.statements[0]
        assert isinstance(opaque, Opaque)
        assert (opaque.operator, opaque.opset) == ("TopK", 18)
        assert [tensor.name for tensor in opaque.inputs] == ["x", "k"]
        assert [tensor.name for tensor in opaque.outputs] == ["v", "z"]
        node = onnx.NodeProto.FromString(opaque.node)
        assert list(node.input) == ["x", "k"]
        np.testing.assert_array_equal(program.constants["k"], [3])


class TestReference:
    def test_intermediate_values(self) -> None:
        loaded = load_program(parsed(ATTENTION), {"x": (2, 5, 8)})
        feeds = {"x": normal(0, 2, 5, 8)}
        names = [statement.outputs[0].name for statement in loaded.program.statements]
        found = reference_values(loaded, feeds, [*names, "x"])
        assert sorted(set(names) - set(found)) == ["shares.exp", "shares.max", "shares.sum"]
        values = run_program(loaded.program, feeds)
        for name, array in found.items():
            np.testing.assert_allclose(values[name], array, rtol=1e-4, atol=1e-5)

    def test_newer_opset_than_onnx_runtime_knows(self) -> None:
        loaded = load_program(parsed("g (float[3] x) => (float[3] y) { z = Abs (x)  y = Relu (z) }", opset=27))
        feeds = {"x": normal(0, 3)}
        np.testing.assert_array_equal(reference_values(loaded, feeds, ["z"])["z"], np.abs(feeds["x"]))

    def test_large_weights_stay_outside_the_message(self) -> None:
        weight = normal(0, 300, 300)
        model = parsed("g (float[2, 300] x) => (float[2, 300] y) { y = MatMul (x, w) }")
        model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
        loaded = load_program(model)
        assert loaded.model.ByteSize() < 1000
        x = normal(1, 2, 300)
        np.testing.assert_allclose(reference_session(loaded).run(None, {"x": x})[0], x @ weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("condition", [True, False])
def test_constant_if_is_spliced(condition: bool) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        nodes = [helper.make_node(operator, ["x"], ["t"]), helper.make_node("Add", ["t", "c"], ["z"])]
        constant = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "c")
        return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("z", 1, [2, 3])], [constant])

    graph = helper.make_graph(
        [helper.make_node("If", ["cond"], ["y"], then_branch=branch("Relu"), else_branch=branch("Abs"))],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.array(condition), "cond")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    loaded = load_program(model)
    agree(loaded, {"x": normal(0, 2, 3)})
    assert [statement.outputs[0].name for statement in loaded.program.statements] == ["y.t", "y"]


def test_a_model_that_onnxruntime_fails_to_run_is_the_models_fault() -> None:
    """ONNX Runtime loads this equation, whose broadcast axes are summed, and refuses it when it runs."""
    loaded = load_program(
        parsed('g (float[1,6,3] x, float[4,3,7] w) => (float[] y) { y = Einsum <equation = "...ij,...jk->ik"> (x, w) }')
    )
    feeds = {tensor.name: np.ones(tuple(map(int, tensor.shape)), np.float32) for tensor in loaded.program.inputs}
    with pytest.raises(ModelError, match="does not run in ONNX Runtime"):
        reference_values(loaded, feeds, ["y"])
