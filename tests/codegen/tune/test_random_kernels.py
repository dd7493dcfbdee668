"""What compiled code makes of random expressions passes the judge, with whichever inputs and rule it chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codegen.kernel import compile_kernel
from codegen.targets.cpu import host_target
from codegen.tune.comparing import Judge, seeded
from codegen.tune.exactness import exact_range
from tensoropt.ir.expression import Apply, Cast, Scalar, Scope, Tensor, children
from tensoropt.ir.expression import scopes as nested_scopes
from tensoropt.ir.expression import tensors as read_by
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.programs import CASES, scopes

TARGET = host_target(2)
JUMPING = frozenset(
    {"floor", "ceil", "round", "trunc", "sign", "mod", "fmod", "eq", "ne", "lt", "le", "gt", "ge", "tan"}
)
"""Operations that make much of the last digit of a float."""
POLES = frozenset({"div", "reciprocal", "rsqrt", "log"})
"""Operations that make much of the sign of zero, which nothing fixes."""


def nodes(scope: Scope) -> list[Scalar]:
    """All scalars of a scope and those nested in it."""
    found: list[Scalar] = []
    for inner in nested_scopes(scope):
        pending = [inner.body]
        while pending:
            node = pending.pop()
            found.append(node)
            pending += children(node)
    return found


def is_defined(node: Scalar) -> bool:
    """Whether C and NumPy agree on a scalar, and its value does not jump."""
    match node:
        case Apply():
            return node.operation not in JUMPING | POLES | {"pow", "atan2", "not"}
        case Cast():
            return node.dtype.is_float or not node.argument.dtype.is_float
        case _:
            return True


@pytest.mark.parametrize("dtypes", [("f32",), ("i64", "i32", "bool"), ("f64", "f16", "bf16")])
@given(data=st.data())
@settings(max_examples=max(10, CASES // 10), suppress_health_check=list(HealthCheck))
def test_the_judge_accepts_compiled_code(dtypes: tuple[str, ...], data: st.DataObject) -> None:
    extents = st.lists(st.sampled_from([1, 2, 3, 5, 17, 33]).map(Extent), min_size=1, max_size=3).map(tuple)
    kinds = [DataType(dtype) for dtype in dtypes]
    tensors = [
        Tensor(f"x{number}", TensorType(kind, data.draw(extents))) for number, kind in enumerate((*kinds, *kinds[:1]))
    ]
    scope = data.draw(scopes(tensors, dtype=data.draw(st.sampled_from(kinds))))
    assume(read_by(scope))
    statement = Compute(Tensor("y", scope.type), scope)
    largest = exact_range([statement])
    assume(largest is not None or all(map(is_defined, nodes(scope))))
    values = {tensor.name: seeded(tensor, largest) for tensor in tensors}
    with np.errstate(all="ignore"):
        actual = compile_kernel(statement, TARGET)(values)
        judge = Judge([statement], values)
        assert judge.problem(actual, actual, largest is not None, 1.0) == ""
