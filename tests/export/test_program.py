"""Whole programs as ONNX models: names, opaque operators, functions, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tensoropt.errors import ModelError
from tensoropt.export import export_onnx, files, save_onnx
from tensoropt.ir.expression import Tensor
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.parser import parse_program, parse_scope
from tensoropt.ir.program import Opaque, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.export.test_random_expressions import run_model

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(map(Extent, shape))))


def opaque(operator: str, inputs: list[Tensor], outputs: list[Tensor], opset: int, domain: str = "") -> Opaque:
    node = helper.make_node(operator, [t.name for t in inputs], [t.name for t in outputs], domain=domain)
    return Opaque(tuple(outputs), tuple(inputs), operator, domain, opset, node.SerializeToString())


def test_names_and_values_stay() -> None:
    program = parse_program(
        """program "p" {
             input %"in/x:0": f32[3, 4]
             constant %w: f32[4] = [1, 2, 3, 4]
             %"relu/y": f32[3, 4] = L<i:3, j:4> relu(%"in/x:0"[i, j]) * %w[j]
             %z: f32[4, 3] = L<i:4, j:3> %"relu/y"[j, i]
             output %z, %"relu/y"
           }"""
    )
    model = export_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["in/x:0"]
    assert [value.name for value in model.graph.output] == ["z", "relu/y"]
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    expected = run_program(program, {"in/x:0": X})
    reference: Any = ReferenceEvaluator(model).run(None, {"in/x:0": X})
    for outputs in (run_model(model, {"in/x:0": X}), reference):
        np.testing.assert_array_equal(outputs[0], expected["z"])
        np.testing.assert_array_equal(outputs[1], expected["relu/y"])


def test_outputs_that_are_inputs_constants_or_repeated() -> None:
    program = parse_program(
        'program "p" { input %x: f32[3, 4] constant %c: f32[2] = [1, nan] '
        "%y: f32[3, 4] = L<i:3, j:4> %x[i, j] output %x, %c, %y, %y }"
    )
    model = export_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    outputs = run_model(model, {"x": X})
    assert len(outputs) == 4
    for found, expected in zip(outputs, [X, program.constants["c"], X, X], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_long_expressions_become_functions_with_their_text() -> None:
    body = "L<i:3, j:4> %{0}[i, (i + 3*j)%4] * index<f32>(i//2) + atan2(%{0}[i, j], 2f32)"
    program = parse_program(
        'program "p" { input %a: f32[3, 4] input %b: f32[3, 4] '
        f"%y: f32[3, 4] = {body.format('a')} %z: f32[3, 4] = {body.format('b')} output %y, %z }}"
    )
    model = export_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    (function,) = model.functions
    assert [node.op_type for node in model.graph.node] == [function.name] * 2
    assert function.domain == "tensoropt.generated"
    text = function.doc_string.split("=\n", 1)[1]
    parse_scope(text, {"x0": tensor("x0", 3, 4)})
    expected = run_program(program, {"a": X, "b": X + 1})
    for name, found in zip("yz", run_model(model, {"a": X, "b": X + 1}), strict=True):
        np.testing.assert_allclose(found, expected[name], rtol=1e-6)


def test_opaque_operators_are_put_back() -> None:
    x, unique, count = tensor("x", 3, 4), tensor("u", 3, 4), tensor("n", dtype=DataType.INT64)
    statements = (opaque("Erf", [x], [unique], 13), opaque("Size", [unique], [count], 13))
    model = export_onnx(Program("p", (x,), (unique, count), {}, statements))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Erf", "Size"]
    assert run_model(model, {"x": X})[1].item() == 12


def test_opaque_operators_are_converted_to_the_opset() -> None:
    x, y = tensor("x", 3, 4), tensor("y", 3)
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
    statement = Opaque((y,), (x,), "ReduceMean", "", 13, node.SerializeToString())
    model = export_onnx(Program("p", (x,), (y,), {}, (statement,)))
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run_model(model, {"x": X})[0], X.mean(1), rtol=1e-6)


def test_an_operator_of_a_later_opset_raises_the_opset() -> None:
    x, y = tensor("x", 3, 4), tensor("y", 3, 4, dtype=DataType.INT32)
    node = helper.make_node("BitCast", ["x"], ["y"], to=onnx.TensorProto.INT32)
    statement = Opaque((y,), (x,), "BitCast", "", 26, node.SerializeToString())
    model = export_onnx(Program("p", (x,), (y,), {}, (statement,)))
    assert [entry.version for entry in model.opset_import] == [26]


def test_foreign_domains_are_imported_in_one_version() -> None:
    x, y, z = tensor("x", 3, 4), tensor("y", 3, 4), tensor("z", 3, 4)
    first, second = opaque("Gelu", [x], [y], 1, "com.microsoft"), opaque("Gelu", [y], [z], 2, "com.microsoft")
    model = export_onnx(Program("p", (x,), (y,), {}, (first,)))
    assert ("com.microsoft", 1) in [(entry.domain, entry.version) for entry in model.opset_import]
    with pytest.raises(ModelError, match=r"needs opset 2 of com\.microsoft"):
        export_onnx(Program("p", (x,), (z,), {}, (first, second)))


def test_large_weights_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "EXTERNAL_BYTES", 1000)
    weights = {"w": np.arange(1200, dtype=np.float32).reshape(3, 400), "b": np.ones(3, np.float32)}
    program = Program("p", (), (tensor("w", 3, 400),), weights, ())
    model = export_onnx(program)
    for _ in range(2):  # writing again must not append
        save_onnx(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size == weights["w"].nbytes
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    loaded = onnx.load(str(tmp_path / "m.onnx"))
    for tensor_proto, (name, array) in zip(loaded.graph.initializer, weights.items(), strict=True):
        assert tensor_proto.name == name
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor_proto), array)
    assert (loaded.opset_import[0].version, loaded.ir_version, loaded.graph.name) == (21, 10, "p")
    assert model.graph.initializer[0].raw_data


def test_other_opsets_are_refused() -> None:
    with pytest.raises(ModelError, match="opsets 18 to 21"):
        export_onnx(Program("p", (), (), {}, ()), opset=12)


def test_fills_are_not_stored() -> None:
    program = parse_program('program "p" { %y: f32[30000, 30000] = L<i:30000, j:30000> 1.5f32 output %y }')
    assert export_onnx(program).ByteSize() < 1000
