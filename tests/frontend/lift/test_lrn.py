"""Local response normalisation agrees with ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.strategies.single_nodes import assert_agrees, model_of, normal


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_normalization(size: int) -> None:
    inputs = {"x": normal(0, 2, 7, 3, 3) * 10}
    if size % 2:  # ONNX Runtime takes odd sizes only
        assert_agrees(model_of("LRN", inputs, size=size, alpha=0.3, beta=0.6, bias=2.0), inputs)
