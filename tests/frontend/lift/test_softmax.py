"""Softmax, LogSoftmax and Hardmax agree with ONNX Runtime in every meaning of the axis."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes


@given(st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"]), shapes(), st.sampled_from([11, 13]), st.data())
@settings(max_examples=60)
def test_softmax(operator: str, shape: tuple[int, ...], opset: int, data: st.DataObject) -> None:
    attributes: dict[str, Any] = {"axis": data.draw(st.integers(-len(shape), len(shape) - 1))}
    if data.draw(st.booleans()) and len(shape) > 1:
        attributes = {}
    inputs = {"x": normal(0, *shape) * 10}
    program = assert_agrees(model_of(operator, inputs, opset=opset, **attributes), inputs)
    assert len(program.statements) == {"Softmax": 4, "LogSoftmax": 3, "Hardmax": 3}[operator]
