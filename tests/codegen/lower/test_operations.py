"""Every scalar operation on every type: special values, random values, one lane and many."""

from __future__ import annotations

import numpy as np
import pytest

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.compilers import compiled_on
from tests.strategies.programs import BOOL_ONLY, FLOAT_ONLY, INTEGER_ONLY, integer_range

DEVICES = [
    "cpu",
    pytest.param("opencl", marks=pytest.mark.slow),
]  # a second for each type of each operation, to compile
ULPS = {DataType.FLOAT16: 1e-3, DataType.BFLOAT16: 8e-3, DataType.FLOAT32: 6e-7, DataType.FLOAT64: 4e-15}
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    -2.5,
    3.7,
    88.0,
    -90.0,
    104.0,
    1e-3,
    np.inf,
    -np.inf,
    np.nan,
    1e30,
    -1e-30,
    7.0,
    -9.0,
]


def operands(dtype: DataType, arity: int) -> list[Array]:
    """All pairs of special values, and random ones."""
    if dtype is DataType.BOOL:
        values = np.array([False, True] * 10)
    elif dtype.is_float:
        random = np.random.default_rng(0).uniform(-4, 4, 18).astype(np.float32)
        values = np.concatenate([np.array(SPECIAL), random]).astype(np.float64)
        with np.errstate(all="ignore"):
            values = values.astype(dtype.numpy)
    else:
        least, most = integer_range(dtype)
        values = np.array([0, 1, 2, 3, 5, 63, most, least, most - 1]).astype(dtype.numpy)
        if least < 0:
            values = np.concatenate([values, np.array([-1, -2, -7]).astype(dtype.numpy)])
    grid = np.meshgrid(*([values] * arity), indexing="ij") if arity > 1 else [values]
    return [np.ascontiguousarray(part.reshape(-1)) for part in grid]


def applicable(name: str, dtype: DataType) -> bool:
    """Whether an operation is defined for a type."""
    if dtype is DataType.BOOL:
        return name in BOOL_ONLY or name in ("where", "max", "min", "eq", "ne")
    return (
        (name not in BOOL_ONLY)
        and (dtype.is_float or name not in FLOAT_ONLY)
        and (dtype.is_integer or name not in INTEGER_ONLY)
    )


CASES = [(name, dtype) for name in OPERATIONS for dtype in DataType if applicable(name, dtype)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_operations(device: str, name: str) -> None:
    for dtype in (dtype for operation, dtype in CASES if operation == name):
        arity = OPERATIONS[name].arity - (name == "where")
        arrays = operands(dtype, arity)
        if name == "div" and dtype.value.startswith(
            "i"
        ):  # the interpreter takes absolute values, and the least number has none
            least = integer_range(dtype)[0]
            arrays = [array[(arrays[0] != least) & (arrays[1] != least)] for array in arrays]
        i = Iterator("i", len(arrays[0]))
        tensors = [Tensor(f"x{n}", TensorType(dtype, (Extent(len(array)),))) for n, array in enumerate(arrays)]
        reads = [Access(tensor, [i]) for tensor in tensors]
        if name == "where":
            even = Apply("eq", IndexValue(Index.of(i) % 2), Constant(0, DataType.INT64))
            body = Apply("where", even, *reads)
        else:
            body = Apply(name, *reads)
        scope = Scope([i], body)
        values = {tensor.name: array for tensor, array in zip(tensors, arrays, strict=True)}
        with np.errstate(all="ignore"):
            expected = evaluate(scope, values)
        actual = compiled_on(device, scope)(values)["y"]
        if dtype.is_float and scope.dtype.is_float:
            tolerance = ULPS[dtype] * (1 if name not in ("pow", "tan", "sinh", "cosh") else 8)
            tiny = float(np.finfo(np.float32).tiny) if dtype is not DataType.FLOAT64 else 0.0
            np.testing.assert_allclose(
                actual.astype(np.float64),
                expected.astype(np.float64),
                rtol=tolerance,
                atol=max(tiny, 2e-7 * tolerance),
                err_msg=f"{name} {dtype.value}",
            )
        else:
            np.testing.assert_array_equal(actual, expected, err_msg=f"{name} {dtype.value}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("source", list(DataType))
def test_casts(device: str, source: DataType) -> None:
    (array,) = operands(source, 1)
    if source.is_float:
        array = np.where(np.abs(array.astype(np.float64)) < 120, array, np.zeros((), array.dtype)).astype(array.dtype)
    i = Iterator("i", len(array))
    tensor = Tensor("x", TensorType(source, (Extent(len(array)),)))
    for target in DataType:
        if source.is_float and target.value.startswith("u"):
            continue  # a negative float as an unsigned integer is undefined in C
        scope = Scope([i], Cast(Access(tensor, [i]), target))
        with np.errstate(all="ignore"):
            expected = evaluate(scope, {"x": array})
        actual = compiled_on(device, scope)({"x": array})["y"]
        np.testing.assert_array_equal(actual, expected, err_msg=f"{source.value} to {target.value}")


@pytest.mark.parametrize("device", ["cpu", "opencl"])
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -87, 88), ("log", 1e-30, 1e30), ("tanh", -10, 10), ("erf", -5, 5), ("sigmoid", -30, 30)],
)
def test_elementary_functions_are_accurate(device: str, name: str, low: float, high: float) -> None:
    points = np.linspace(low, high, 40001) if name != "log" else np.logspace(-30, 30, 40001)
    array = points.astype(np.float32)
    i = Iterator("i", len(array))
    scope = Scope([i], Apply(name, Access(Tensor("x", TensorType(DataType.FLOAT32, (Extent(len(array)),))), [i])))
    wide = Scope([i], Apply(name, Access(Tensor("x", TensorType(DataType.FLOAT64, (Extent(len(array)),))), [i])))
    actual = compiled_on(device, scope)({"x": array})["y"]
    exact = evaluate(wide, {"x": array.astype(np.float64)})
    errors = np.abs(actual - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert errors.max() < (6 if device == "cpu" else 7)  # one less where multiply-adds are fused
