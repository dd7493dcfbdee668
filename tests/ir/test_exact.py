"""Exact evaluation: three domains, the same by points as whole, and refusals with a reason."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tensoropt.ir.exact import (
    SAFE_PRIME,
    SUBGROUP,
    Domain,
    DomainRefusal,
    assignments,
    choose_domain,
    evaluate_exact,
    random_values,
)
from tensoropt.ir.exact_points import evaluate_at
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.types import DataType
from tests.strategies.expressions import closed_scopes, tensor
from tests.strategies.operators import transposed_convolution

I4 = Iterator("i", 4)
X = Access(tensor("x", 4), [I4])
F32 = DataType.FLOAT32
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def mapped(body: Scalar) -> Scope:
    return Scope((I4,), body)


def value(scope: Scope, domain: Domain, seed: int = 1) -> Any:
    return evaluate_exact(scope, random_values(tensors(scope), domain, seed), domain)[0]


def test_domains_follow_the_operators() -> None:
    assert choose_domain([mapped(Apply("mul", X, X))]) is Domain.PRIME
    assert choose_domain([mapped(Apply("relu", X))]) is Domain.INTEGER
    assert choose_domain([mapped(Apply("exp", X))]) is Domain.PAIRED
    assert choose_domain([Scope((), X, (I4,), Reducer.MAX)]) is Domain.INTEGER


def test_a_mixture_is_refused_with_a_reason_for_each_domain() -> None:
    larger = Apply("gt", X, Constant(0.0, F32))
    with pytest.raises(DomainRefusal) as refusal:
        choose_domain([mapped(Apply("where", larger, Apply("exp", X), X))])
    assert "no exp of values" in str(refusal.value)
    assert "no where that looks at values" in str(refusal.value)
    with pytest.raises(DomainRefusal, match="no isnan"):
        choose_domain([mapped(Apply("where", Apply("isnan", X), X, X))])


@pytest.mark.parametrize(
    "body", [Apply("relu", X), Apply("add", Apply("relu", X), Apply("mul", Constant(0.0, F32), Apply("exp", X)))]
)
def test_relu_is_not_the_identity_in_any_domain_that_has_it(body: Scalar) -> None:
    fits = []
    for domain in Domain:
        try:
            found = [value(mapped(body), domain, seed) for seed in range(4)]
        except DomainRefusal as refusal:
            if "relu" not in str(refusal) and "exp" not in str(refusal):
                raise
            continue
        fits.append(domain)
        assert any(np.any(one != value(mapped(X), domain, seed)) for seed, one in enumerate(found))
    assert Domain.PAIRED in fits
    assert Domain.PRIME not in fits


def test_maxima_beside_exponentials_are_maxima_of_some_order() -> None:
    """What holds for every order holds there, what needs the order of numbers does not."""
    y = Access(tensor("y", 4), [I4])
    one, other = Apply("exp", Apply("max", X, y)), Apply("exp", Apply("max", y, X))
    twice = Apply("exp", Apply("max", Apply("max", X, y), X))
    shifted = Apply("sub", Apply("max", Apply("add", X, y), Apply("add", y, y)), y)
    found = [evaluated(body) for body in (one, other, twice, Apply("exp", shifted))]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[3])


def evaluated(body: Scalar) -> Any:
    scope = mapped(body)
    assert choose_domain([scope]) is Domain.PAIRED
    return value(scope, Domain.PAIRED)


@pytest.mark.parametrize("name", ["tanh", "erf", "sqrt"])
def test_of_unknown_functions_only_equal_operands_are_known(name: str) -> None:
    y = Access(tensor("y", 4), [I4])
    one, other = Apply(name, Apply("add", X, y)), Apply(name, Apply("add", y, X))
    assert choose_domain([mapped(one)]) is Domain.PRIME
    assert np.array_equal(value(mapped(one), Domain.PRIME), value(mapped(other), Domain.PRIME))
    apart = Apply("add", Apply(name, X), Apply(name, y))
    assert not np.any(value(mapped(one), Domain.PRIME) == value(mapped(apart), Domain.PRIME))


@settings(max_examples=60, suppress_health_check=_SLOW, derandomize=True)
@given(closed_scopes())
def test_assignments_are_evaluated_side_by_side(scope: Scope) -> None:
    domain = choose_domain([scope])
    try:
        together = evaluate_exact(scope, assignments(tensors(scope), domain, (1, 2, 3)), domain)[0]
        apart = [value(scope, domain, seed) for seed in (1, 2, 3)]
    except DomainRefusal as refusal:
        if "infinity" not in str(refusal):
            raise
        return
    assert np.array_equal(np.broadcast_to(together, (3, *apart[0].shape)), np.stack(apart))


def test_softmax_is_invariant_to_a_shift_and_not_to_a_factor() -> None:
    j = Iterator("j", 4)

    def softmax(of: Any) -> Scope:
        total = Scope((), Apply("exp", of(Access(tensor("x", 4), [j]))), (j,))
        return mapped(Apply("div", Apply("exp", of(X)), Access(total, ())))

    plain = softmax(lambda x: x)
    shifted = softmax(lambda x: Apply("add", x, Access(tensor("c", 1), [0])))
    doubled = softmax(lambda x: Apply("add", x, x))
    values = random_values([*tensors(shifted)], Domain.PAIRED, 2)
    found = [evaluate_exact(scope, values, Domain.PAIRED)[0] for scope in (plain, shifted, doubled)]
    assert choose_domain([plain, shifted, doubled]) is Domain.PAIRED
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_exp_of_exp_is_refused() -> None:
    with pytest.raises(DomainRefusal, match="already holds an exp"):
        value(mapped(Apply("exp", Apply("exp", X))), Domain.PAIRED)


def test_the_paired_fields_fit() -> None:
    from sympy import isprime

    assert isprime(SAFE_PRIME)
    assert isprime(SUBGROUP)
    assert pow(4, SUBGROUP, SAFE_PRIME) == 1


def test_integers_do_not_overflow() -> None:
    big: Scalar = Apply("add", X, Constant(2**20, F32))
    for _ in range(3):
        big = Apply("mul", big, big)
    found = value(mapped(Apply("max", big, X)), Domain.INTEGER)
    start = random_values(tensors(mapped(X)), Domain.INTEGER, 1)["x"][0]
    assert [int(item) for item in found] == [(int(item) + 2**20) ** 8 for item in start]


def test_fractions_are_exact() -> None:
    third = Apply("div", X, Constant(3.0, F32))
    again = Apply("add", Apply("add", third, third), third)
    assert np.all(value(mapped(Apply("max", again, again)), Domain.INTEGER) == value(mapped(X), Domain.INTEGER))
    assert np.array_equal(value(mapped(again), Domain.PRIME), value(mapped(X), Domain.PRIME))


@settings(max_examples=150, suppress_health_check=_SLOW, derandomize=True)
@given(closed_scopes())
def test_points_agree_with_the_whole(scope: Scope) -> None:
    domain = choose_domain([scope])
    try:
        whole = value(scope, domain)
    except DomainRefusal as refusal:
        if "infinity" not in str(refusal):  # 0·∞ is outside the algebra
            raise
        return
    corners = np.asarray(list(product(*(range(extent) for extent in whole.shape))), np.int64)
    corners = corners.reshape(whole.size, whole.ndim)
    parts = evaluate_at(scope, list(corners.T), domain, [1])[0]
    assert np.array_equal(parts.reshape(whole.shape), whole)


@settings(max_examples=150, suppress_health_check=_SLOW, derandomize=True)
@given(closed_scopes())
def test_integers_agree_with_the_interpreter(scope: Scope) -> None:
    """f64 holds these small numbers exactly, so the meaning of expressions and the exact one are the same."""
    values = random_values(tensors(scope), Domain.INTEGER, 1)
    floats = {name: parts[0].astype(np.float32) for name, parts in values.items()}
    try:
        exact = evaluate_exact(scope, values, Domain.INTEGER)[0].astype(np.float64)
    except DomainRefusal as refusal:
        if "infinity" not in str(refusal):  # 0·∞ is outside the algebra
            raise
        return
    interpreted = evaluate(scope, floats).astype(np.float64)
    small = np.abs(exact) < 2**20
    assert np.allclose(interpreted[small], exact[small], rtol=1e-6, atol=1e-3)


def test_a_point_of_a_large_transposed_convolution_is_cheap() -> None:
    scope = transposed_convolution(1, 56, 224, 1, 9, 4, 3, 1)
    ends = [np.zeros(3, np.int64), np.zeros(3, np.int64), np.asarray([0, 450, 895]), np.asarray([895, 451, 0])]
    found = evaluate_at(scope, ends, Domain.PRIME, [1])[0][0]
    assert found.shape == (3,)
    assert len(set(found.tolist())) == 3


def test_index_conditions_stay_exact_beside_ring_operations() -> None:
    from tensoropt.ir.expression import IndexValue

    odd = Apply("eq", IndexValue(Index.of(I4) % 2), Constant(1, DataType.INT64))
    masked = mapped(Apply("where", odd, X, Constant(0.0, F32)))
    assert choose_domain([masked]) is Domain.PRIME
    found = value(masked, Domain.PRIME)
    assert found[0] == found[2] == 0
    assert found[1] == value(mapped(X), Domain.PRIME)[1]
