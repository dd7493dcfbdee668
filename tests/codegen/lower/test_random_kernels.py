"""Random expressions compiled and run give the interpreter's values, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tensoropt.ir.expression import (
    Apply,
    Cast,
    Constant,
    Reducer,
    Scope,
    Tensor,
    accesses,
    children,
    leaves,
    reducer_identity,
)
from tensoropt.ir.expression import scopes as nested_scopes
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.compilers import DEVICES, compiled_on
from tests.strategies.programs import CASES, FLOAT_ONLY, scopes

INEXACT = (FLOAT_ONLY - {"floor", "ceil", "round", "trunc", "isnan", "isinf"}) | {"div", "pow", "mod", "fmod"}


def small_integers(tensor: Tensor, seed: int) -> Array:
    """Values that every type holds and whose sums and products floats hold exactly."""
    generator = np.random.default_rng(seed)
    low = 0 if tensor.dtype.value.startswith("u") or tensor.dtype is DataType.BOOL else -3
    high = 2 if tensor.dtype is DataType.BOOL else 4
    return generator.integers(low, high, tuple(int(extent) for extent in tensor.shape)).astype(tensor.dtype.numpy)


def run(device: str, scope: Scope, values: dict[str, Array], constants: tuple[str, ...] = ()) -> Array:
    """The scope's value as compiled code computes it."""
    return compiled_on(device, scope, {name: values[name] for name in constants})(values)["y"]


def is_exact(scope: Scope, values: dict[str, Array]) -> bool:
    """Whether the value does not depend on the order of operations or on what C leaves undefined."""
    for inner in nested_scopes(scope):
        pending = [inner.body]
        while pending:
            node = pending.pop()
            pending += children(node)
            if isinstance(node, Apply) and node.dtype.is_float and node.operation in INEXACT:
                return False
            if isinstance(node, Apply) and node.operation == "pow" and node.dtype.is_float:
                return False
            if isinstance(node, Cast) and node.argument.dtype.is_float and not node.dtype.is_float:
                return False  # out of range is undefined
        literals = [leaf for leaf in leaves(inner.body) if isinstance(leaf, Constant) and leaf.dtype.is_float]
        literals += [access.outside for access in accesses(inner.body) if access.dtype.is_float]
        if any(abs(leaf.value) > 8 or leaf.value != int(leaf.value) for leaf in literals if np.isfinite(leaf.value)):
            return False
        if inner.reducer is not None and inner.dtype.is_float:
            body = evaluate(Scope((*inner.traversal, *inner.reduction), inner.body), values).astype(np.float64)
            if not np.isfinite(body).all() or np.abs(body).sum() > 1 << 8 or inner.reducer is Reducer.PROD:
                return False
    return True


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "dtypes", [("f32",), ("i64", "i32", "bool"), ("i8", "u8", "i16", "u16", "u32"), ("f64", "f16", "bf16")]
)
@given(data=st.data())
@settings(max_examples=max(10, CASES // 8), suppress_health_check=list(HealthCheck))
def test_compiled_code_agrees_with_the_interpreter(device: str, dtypes: tuple[str, ...], data: st.DataObject) -> None:
    extents = st.lists(st.sampled_from([1, 2, 3, 5, 17, 33]).map(Extent), min_size=1, max_size=3).map(tuple)
    kinds = [DataType(dtype) for dtype in dtypes]
    tensors = [
        Tensor(f"x{number}", TensorType(kind, data.draw(extents))) for number, kind in enumerate((*kinds, *kinds[:1]))
    ]
    scope = data.draw(scopes(tensors, dtype=data.draw(st.sampled_from(kinds))))
    values = {tensor.name: small_integers(tensor, number) for number, tensor in enumerate(tensors)}
    with np.errstate(all="ignore"):
        assume(is_exact(scope, values))
        expected = evaluate(scope, values)
    actual = run(device, scope, values, data.draw(st.sampled_from([(), ("x0",)])))
    assert actual.dtype == expected.dtype
    if actual.dtype == DataType.BFLOAT16.numpy:  # NumPy's assertion does not know its NaN
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_an_empty_reduction_gives_the_identity(device: str) -> None:
    from tensoropt.ir.index import Iterator

    i, k = Iterator("i", 5), Iterator("k", 0)
    for reducer in Reducer:
        scope = Scope([i], Constant(7.0, DataType.FLOAT32), [k], reducer)
        assert (run(device, scope, {}) == reducer_identity(reducer, DataType.FLOAT32)).all()
