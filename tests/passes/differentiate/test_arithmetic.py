"""Arithmetic that leaves out what is decided keeps every value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from passes.differentiate.arithmetic import add, both, decided, div, mul, neg, number, truth, where
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.types import DataType, Extent, TensorType

AXIS = Iterator("i", 5)
X = Access(Tensor("x", TensorType(DataType.FLOAT64, (Extent(5),))), [AXIS])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> Scalar:
    if depth and draw(st.booleans()):
        operation = draw(st.sampled_from(["and", "or", "not"]))
        operands = [draw(conditions(depth - 1)) for _ in range(1 if operation == "not" else 2)]
        return Apply(operation, *operands)
    index = Index.of(AXIS) * draw(st.sampled_from([-1, 1, 2])) + draw(st.integers(-3, 3))
    bound = Constant(draw(st.integers(-6, 12)), DataType.INT64)
    return Apply(draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"])), IndexValue(index), bound)


def values(scalar: Scalar) -> list[float]:
    import numpy as np

    array = evaluate(Scope([AXIS], scalar), {"x": np.array([1.5, -2.0, 0.0, 3.0, 7.0])})
    return [float(value) for value in array]


@given(conditions())
def test_truth_is_what_holds_everywhere(condition: Scalar) -> None:
    found, seen = truth(condition), set(values(condition))
    if found is not None:
        assert seen == {float(found)}


@given(conditions(), conditions())
def test_what_is_decided_has_the_same_values(first: Scalar, second: Scalar) -> None:
    chosen = Apply("where", first, X, Apply("where", second, Apply("neg", X), number(2, X)))
    assert values(decided(chosen)) == values(chosen)
    assert values(where(first, X, number(0, X))) == values(Apply("where", first, X, number(0, X)))
    assert values(both(first, second)) == values(Apply("and", first, second))


def test_neutral_and_absorbing_operands_are_left_out() -> None:
    zero, one = number(0, X), number(1, X)
    assert add(zero, X) is add(X, zero) is mul(X, one) is mul(one, X) is div(X, one) is X
    assert mul(X, zero) is mul(zero, X) is div(zero, X) is zero
    assert neg(neg(X)) is X
    assert mul(X, number(-1, X)) is neg(X)
    assert neg(one) is number(-1, X)
