"""Cross entropies agree with ONNX Runtime, whatever is reduced, weighted and ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal


@given(
    st.sampled_from(["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"]),
    st.sampled_from(["none", "sum", "mean"]),
    st.lists(st.integers(1, 4), max_size=2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.int32, np.int64]),
)
@settings(max_examples=60)
def test_cross_entropy(
    operator: str, reduction: str, space: list[int], weighted: bool, ignoring: bool, labels: type
) -> None:
    generator = np.random.default_rng(len(space))
    inputs: dict[str, Any] = {"x": normal(0, 3, 5, *space), "l": generator.integers(0, 5, (3, *space)).astype(labels)}
    inputs["l"].reshape(-1)[0] = 1  # something is left when 2 is ignored
    if weighted:
        inputs["w"] = generator.uniform(0.2, 1, 5).astype(np.float32)
    attributes: dict[str, Any] = {"reduction": reduction, **({"ignore_index": 2} if ignoring else {})}
    outputs = 2 if operator.startswith("Softmax") else 1
    assert_agrees(model_of(operator, inputs, outputs=outputs, opset=13, **attributes), inputs)
