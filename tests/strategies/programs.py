"""Random well-formed programs: every kind of node, odd names, empty and unit extents, nested and shared scopes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType

CASES = int(os.environ.get("TENSOROPT_CASES", "200"))
"""Examples of each property test; the environment variable raises it for long runs."""

_ROUNDING = {"floor", "ceil", "round", "trunc", "isnan", "isinf"}
_TRIGONOMETRIC = {"sin", "cos", "tan", "asin", "acos", "atan", "atan2"}
_HYPERBOLIC = {"sinh", "cosh", "tanh", "asinh", "acosh", "atanh"}
_EXPONENTIAL = {"exp", "log", "sqrt", "rsqrt", "reciprocal", "sigmoid", "erf"}
FLOAT_ONLY = frozenset(_ROUNDING | _TRIGONOMETRIC | _HYPERBOLIC | _EXPONENTIAL)
INTEGER_ONLY = frozenset({"bitand", "bitor", "bitxor", "bitnot", "shl", "shr"})
BOOL_ONLY = frozenset({"and", "or", "xor", "not"})

NAMES = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True),
    st.sampled_from(
        ["a/b:0", "", " ", 'quo"te', "back\\slash", "line\nbreak", "é", "1", "L", "sum", "let", "from", "%x", "}"]
    ),
    st.text(max_size=4),
)
EXTENTS = st.sampled_from([0, 1, 1, 2, 3, 4, 5, 8])
DTYPES = st.sampled_from(list(DataType))


def numbers(dtype: DataType) -> st.SearchStrategy[Constant]:
    """Literals of a type: usual ones, extremes, and for floats any bits."""
    if dtype is DataType.BOOL:
        return st.booleans().map(lambda value: Constant(value, dtype))
    if dtype.is_float:
        special = st.sampled_from([0.0, -0.0, 1.0, 0.1, -2.5, math.inf, -math.inf, math.nan, 1e30, 5e-324])
        return st.one_of(special, st.floats()).map(lambda value: _rounded(value, dtype))
    low, high = integer_range(dtype)
    return st.one_of(
        st.integers(max(-3, low), 5),
        st.integers(low, high),
    ).map(lambda value: Constant(value, dtype))


def integer_range(dtype: DataType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    bits = dtype.itemsize * 8
    return (0, (1 << bits) - 1) if dtype.value.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _rounded(value: float, dtype: DataType) -> Constant:
    with np.errstate(all="ignore"):
        return Constant(value, dtype)


@st.composite
def indices(draw: st.DrawFn, iterators: Sequence[Iterator], depth: int = 2) -> Index:
    """Quasi-affine indices over the iterators."""
    result = Index.of(draw(st.integers(-4, 4)))
    for iterator in iterators:
        result = result + Index.of(iterator) * draw(st.sampled_from([0, 0, 1, 1, 1, -1, 2, 3, -6]))
    if depth:
        match draw(st.sampled_from(["plain", "plain", "div", "mod", "both"])):
            case "div":
                result = result // draw(st.integers(1, 6))
            case "mod":
                result = result % draw(st.integers(1, 6))
            case "both":
                inner = draw(indices(iterators, depth - 1))
                divisor = draw(st.integers(2, 4))
                result = result + inner // divisor * draw(st.integers(-3, 3)) + inner % divisor
    return result


@st.composite
def scalars(
    draw: st.DrawFn, dtype: DataType, iterators: Sequence[Iterator], sources: Sequence[Tensor | Scope], depth: int
) -> Scalar:
    """Scalar bodies of a type that read the sources."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(_leaves(dtype, iterators, sources))
    operation = OPERATIONS[draw(st.sampled_from(_operations(dtype)))] if draw(st.integers(0, 5)) else None
    if operation is None:
        return Cast(draw(scalars(draw(DTYPES), iterators, sources, depth - 1)), dtype)
    operand = draw(st.sampled_from(_operand_types(operation.name, dtype)))
    types = [operand] * operation.arity
    if operation.name == "where":
        types[0] = DataType.BOOL
    return Apply(operation.name, *(draw(scalars(type, iterators, sources, depth - 1)) for type in types))


@st.composite
def _leaves(
    draw: st.DrawFn, dtype: DataType, iterators: Sequence[Iterator], sources: Sequence[Tensor | Scope]
) -> Scalar:
    readable = [source for source in sources if source.dtype is dtype]
    reads: int = draw(st.integers(0, 3))
    if readable and reads:
        source = draw(st.sampled_from(readable))
        outside = draw(st.one_of(st.just(Constant(0, dtype)), numbers(dtype)))
        return Access(source, [draw(indices(iterators)) for _ in source.shape], outside)
    position: bool = draw(st.booleans())
    if dtype.is_integer and position:
        return IndexValue(draw(indices(iterators)), dtype)
    return draw(numbers(dtype))


def _operations(result: DataType) -> list[str]:
    """The operations that can give a type."""
    names = []
    for name, operation in OPERATIONS.items():
        if result is DataType.BOOL:
            fits = operation.result == "bool" or name in ("where", "max", "min")
        else:
            fits = operation.result == "same" and name not in BOOL_ONLY
            fits &= result.is_float or name not in FLOAT_ONLY
            fits &= result.is_integer or name not in INTEGER_ONLY
        if fits:
            names.append(name)
    return names


def _operand_types(name: str, result: DataType) -> list[DataType]:
    """The types that the value operands of an operation may have, given its result's."""
    if OPERATIONS[name].result == "same":
        return [result]
    if name in BOOL_ONLY:
        return [DataType.BOOL]
    return [dtype for dtype in DataType if name not in FLOAT_ONLY or dtype.is_float]


@st.composite
def scopes(draw: st.DrawFn, sources: Sequence[Tensor | Scope], dtype: DataType | None = None, depth: int = 3) -> Scope:
    """Scopes that read the sources and up to two scopes nested in them, which may share scopes."""
    readable = list(sources)
    nested: int = draw(st.integers(0, 2))
    for _ in range(nested if depth > 1 else 0):
        readable.append(draw(scopes(readable, depth=depth - 2)))
    names = draw(st.lists(NAMES, min_size=0, max_size=5, unique=True))
    iterators = [Iterator(name, draw(EXTENTS)) for name in names]
    split = draw(st.integers(max(0, len(iterators) - 2), len(iterators)))
    if dtype is None:
        dtype = draw(st.sampled_from([*(source.dtype for source in readable), DataType.FLOAT32, DataType.INT64]))
    body = draw(scalars(dtype, iterators, readable, depth))
    reducer = draw(st.sampled_from(list(Reducer)))
    return Scope(iterators[:split], body, iterators[split:], reducer)


def tensor_types() -> st.SearchStrategy[TensorType]:
    """Types of at most three axes."""
    return st.builds(TensorType, DTYPES, st.lists(EXTENTS.map(Extent), max_size=3).map(tuple))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs with inputs, constants of few and many elements, computed and opaque statements."""
    names: list[str] = draw(st.lists(NAMES, min_size=3, max_size=9, unique=True))
    tensors: list[Tensor] = []

    def declare() -> Tensor:
        return Tensor(names.pop(), draw(tensor_types()))

    inputs = tuple(declare() for _ in range(draw(st.integers(0, 2))))
    tensors += inputs
    constants: dict[str, Array] = {}
    has_constant: bool = draw(st.booleans())
    if names and has_constant:
        tensor = declare()
        constants[tensor.name] = draw(arrays(tensor.type))
        tensors.append(tensor)
    statements: list[Statement] = []
    while names:
        origin = tuple(draw(st.lists(NAMES, max_size=2)))
        if draw(st.integers(0, 4)) or len(names) < 2:
            scope = draw(scopes(tensors))
            statements.append(Compute(Tensor(names.pop(), scope.type), scope, origin))
        else:
            outputs = tuple(declare() for _ in range(draw(st.integers(1, 2))))
            read = tuple(draw(st.lists(st.sampled_from(tensors), max_size=2))) if tensors else ()
            operator, domain, node = draw(NAMES), draw(NAMES), draw(st.binary(max_size=20))
            statements.append(Opaque(outputs, read, operator, domain, draw(st.integers(1, 30)), node, origin))
        tensors += statements[-1].outputs
    outputs = tuple(draw(st.lists(st.sampled_from(tensors), max_size=3))) if tensors else ()
    return Program(draw(NAMES), inputs, outputs, constants, tuple(statements))


@st.composite
def arrays(draw: st.DrawFn, type: TensorType) -> Array:
    """Arrays of a type, with few different values."""
    values = [draw(numbers(type.dtype)).value for _ in range(3)]
    picked = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 3, type.elements)
    return np.array([values[at] for at in picked], type.dtype.numpy).reshape([int(extent) for extent in type.shape])
