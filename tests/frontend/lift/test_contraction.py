"""MatMul and Gemm agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, broadcast_pairs, model_of, normal


@given(
    broadcast_pairs(),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["both", "left", "right", "none"]),
)
@settings(max_examples=50)
def test_matmul(batch: tuple[tuple[int, ...], tuple[int, ...]], m: int, k: int, n: int, vectors: str) -> None:
    left = (k,) if vectors in ("both", "left") else (*batch[0], m, k)
    right = (k,) if vectors in ("both", "right") else (*batch[1], k, n)
    inputs = {"a": normal(0, *left), "b": normal(1, *right)}
    assert_agrees(model_of("MatMul", inputs), inputs)


@given(
    st.booleans(), st.booleans(), st.sampled_from([1.0, 0.5]), st.sampled_from([1.0, 0.25, 0.0]),
    st.sampled_from([None, (), (1,), (4,), (3, 1), (1, 4), (3, 4)]),
)  # fmt: skip
@settings(max_examples=50)
def test_gemm(left: bool, right: bool, alpha: float, beta: float, addend: tuple[int, ...] | None) -> None:
    inputs = {"a": normal(0, *((2, 3) if left else (3, 2))), "b": normal(1, *((4, 2) if right else (2, 4)))}
    if addend is not None:
        inputs["c"] = normal(2, *addend)
    assert_agrees(model_of("Gemm", inputs, transA=int(left), transB=int(right), alpha=alpha, beta=beta), inputs)


def test_integers() -> None:
    inputs = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.arange(12, dtype=np.int64).reshape(3, 4)}
    assert_agrees(model_of("MatMul", inputs), inputs)
