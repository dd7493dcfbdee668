"""Products of constants as matrices are what the interpreter says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.normalise.fold_constants import FoldConstants
from tensoropt.ir.constant_values import evaluate_product, plain_product
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scope, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tests.strategies.networks import context, program, random_array, tensor


@st.composite
def products(draw: st.DrawFn) -> Scope:
    """Sums of two or three factors that read whole axes, in any order, some twice (diagonals)."""
    iterators = [Iterator(name, draw(st.integers(1, 4))) for name in "abcd"[: draw(st.integers(2, 4))]]
    cut = draw(st.integers(0, len(iterators) - 1))
    factors = []
    for name in "XYZ"[: draw(st.integers(2, 3))]:
        chosen = draw(st.lists(st.sampled_from(iterators), min_size=1, max_size=3))
        source = tensor(name, *(iterator.extent for iterator in chosen))
        factors.append(Access(source, chosen))
    rest = [
        iterator for iterator in iterators if not any(iterator in i.iterators() for f in factors for i in f.indices)
    ]
    factors[0] = Access(
        tensor("X", *factors[0].source.shape, *(iterator.extent for iterator in rest)), [*factors[0].indices, *rest]
    )
    body = factors[0]
    for factor in factors[1:]:
        body = Apply("mul", body, factor)  # type: ignore[assignment]
    return Scope(iterators[:cut], body, iterators[cut:])


@settings(max_examples=60, derandomize=True)
@given(products())
def test_products_are_what_the_interpreter_says(scope: Scope) -> None:
    factors = plain_product(scope)
    assert factors is not None
    values = {source.name: random_array(source) for source in tensors(scope)}
    np.testing.assert_allclose(evaluate_product(scope, values), evaluate(scope, values), rtol=1e-5, atol=1e-6)


def test_tables_are_factors_too() -> None:
    i, j, k = Iterator("i", 3), Iterator("j", 2), Iterator("k", 4)
    same = Apply("eq", IndexValue(Index.of(i)), Constant(1, DataType.INT64))
    table = Apply("where", same, Constant(0.5, DataType.FLOAT32), Constant(-2.0, DataType.FLOAT32))
    scope = Scope([i, j], Apply("mul", table, Access(tensor("X", 2, 4), [j, k])), [k])
    values = {"X": random_array(tensor("X", 2, 4))}
    np.testing.assert_allclose(evaluate_product(scope, values), evaluate(scope, values), rtol=1e-6)


@pytest.mark.parametrize("what", ["shifted", "part", "maximum", "repeated"])
def test_other_scopes_are_left_to_the_interpreter(what: str) -> None:
    i, k = Iterator("i", 3), Iterator("k", 4)
    index = Index.of(k) + 1 if what == "shifted" else Index.of(k)
    source = tensor("X", 5 if what == "part" else 4)
    body = Apply("mul", Access(source, [index]), Access(tensor("Y", 4), [k]))
    traversal = [i] if what == "repeated" else []
    reducer = Reducer.MAX if what == "maximum" else Reducer.SUM
    assert plain_product(Scope(traversal, body, [k], reducer)) is None


def test_a_large_product_of_weights_is_folded() -> None:
    one, other, out = tensor("A", 300, 200), tensor("B", 200, 100), tensor("y", 300, 100)
    i, j, k = Iterator("i", 300), Iterator("j", 100), Iterator("k", 200)
    product = Compute(out, Scope([i, j], Apply("mul", Access(one, [i, k]), Access(other, [k, j])), [k]))
    values = {source.name: random_array(source) for source in (one, other)}
    after = FoldConstants(points=1).run(program([product], [], [out], **values), context())
    assert not after.statements
    np.testing.assert_allclose(after.constants["y"], values["A"] @ values["B"], rtol=1e-4, atol=1e-4)
