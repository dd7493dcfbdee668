"""Random expressions leave as ONNX and come back with the interpreter's values from ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tensoropt.export import export_onnx
from tensoropt.ir.expression import Apply, Reducer, Scope, Tensor, children
from tensoropt.ir.expression import scopes as nested_scopes
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.programs import CASES, scopes


def run_model(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Any]:
    """The outputs of a model in ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, feeds)
    return outputs


def exported(scope: Scope, inputs: list[Tensor]) -> onnx.ModelProto:
    """A checked model that computes the scope as its output y."""
    output = Tensor("y", scope.type)
    model = export_onnx(Program("p", tuple(inputs), (output,), {}, (Compute(output, scope, ("node",)),)))
    onnx.checker.check_model(model, full_check=True)
    return model


def _is_comparable(scope: Scope, values: dict[str, Array]) -> bool:
    """Whether the value is defined in ONNX Runtime: no fold over what is not finite, no integer power or product that may overflow,
    and no angle that depends on the sign of a zero."""
    for inner in nested_scopes(scope):
        stack = [inner.body]
        while stack:
            node = stack.pop()
            stack += children(node)
            if isinstance(node, Apply) and (
                node.operation == "atan2" or (node.operation == "pow" and not node.dtype.is_float)
            ):
                return False
        if inner.reducer is None:
            continue
        if inner.reducer is Reducer.PROD and not inner.dtype.is_float:
            return False
        body = evaluate(Scope((*inner.traversal, *inner.reduction), inner.body), values)
        if inner.dtype.is_float and not np.isfinite(body.astype(np.float64)).all():
            return False
    return True


@pytest.mark.parametrize(
    "dtypes", [("f32",), ("f64", "f16"), ("i64", "i32", "bool"), ("i8", "u8", "i16", "u16", "u32")]
)
@settings(max_examples=CASES // 4, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_scopes(dtypes: tuple[str, ...], data: st.DataObject) -> None:
    dtype = DataType(data.draw(st.sampled_from(dtypes)))
    inputs = [
        Tensor(name, TensorType(dtype, tuple(map(Extent, shape)))) for name, shape in (("x", (3, 4)), ("z", (5,)))
    ]
    scope = data.draw(scopes(inputs))
    random = np.random.default_rng(0)
    values = {
        tensor.name: (random.integers(-6, 7, tensor.shape) / (4 if dtype.is_float else 2)).astype(dtype.numpy)
        for tensor in inputs
    }
    values = {name: np.where(array == 0, np.ones((), array.dtype), array) for name, array in values.items()}
    assume(scope.dtype is not DataType.BFLOAT16)  # ONNX Runtime's Python interface has no bf16
    assume(_is_comparable(scope, values))
    (result,) = run_model(exported(scope, inputs), values)
    expected = evaluate(scope, values)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    half = dtype is DataType.FLOAT16 or scope.dtype is DataType.FLOAT16
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            result.astype(np.float64),
            expected.astype(np.float64),
            rtol=5e-3 if half else 1e-4,
            atol=1e-4,
            equal_nan=True,
        )
