"""What certificates rest on: points at real sizes, bounds on errors, comparison by the interpreter, contents that divide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.certify.degree import degrees, error_bound
from passes.derive.certify.interpreted import interpreted_difference, largest
from passes.derive.certify.probes import points_of, probes
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import Domain, choose_domain
from tensoropt.ir.expression import Access, Apply, Cast, Constant, Scope, Tensor, accesses
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import F32, contractions, tensor
from tests.strategies.operators import convolution, transposed_convolution

MATMUL = Scope(
    (Iterator("m", 4), Iterator("n", 5)),
    Apply(
        "mul",
        Access(tensor("A", 4, 6), [Iterator("m", 4), Iterator("k", 6)]),
        Access(tensor("K", 6, 5), [Iterator("k", 6), Iterator("n", 5)]),
    ),
    (Iterator("k", 6),),
)


def met(scope: Scope, axis: int) -> set[int]:
    return set(points_of([scope])[axis].tolist())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (9, 4, 3), (5, 3, 1), (40, 20, 7)])
def test_points_meet_every_residue_class_and_both_borders_of_transposed_convolutions(
    kernel: int, stride: int, padding: int
) -> None:
    scope = transposed_convolution(1, 8, 50, 4, kernel, stride, padding)
    size = int(scope.shape[2])
    found = met(scope, 2)
    assert {place % stride for place in found} == set(range(stride))
    assert {0, 1, size - 2, size - 1} <= found


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_points_meet_every_tap_at_the_border(dilation: int) -> None:
    scope = convolution(1, 8, 60, 4, (3, 5), 1, dilation)
    padding = 2 * dilation
    assert set(range(padding + 1)) <= met(scope, 3)
    assert {59 - place for place in range(padding + 1)} <= met(scope, 3)


def test_points_meet_where_concatenations_and_nested_ranges_begin() -> None:
    i = Iterator("i", 1000)
    joined = Apply("add", Access(tensor("A", 300), [i]), Access(tensor("B", 700), [Index.of(i) - 300]))
    assert {299, 300} <= met(Scope((i,), joined), 0)
    u = Iterator("u", 1000)
    outer = Scope((u,), Access(Scope((i,), joined), [Index.of(u) // 2 + 100]))
    assert {399, 400} <= met(outer, 0)
    split = Scope((u,), Access(tensor("C", 1000), [Index.of(u) % 40 * 25 + Index.of(u) // 40]))
    assert {place % 40 for place in met(split, 0)} == set(range(40))


@settings(max_examples=60, derandomize=True)
@given(contractions())
def test_points_lie_in_the_box_and_serve_two_expressions(scope: Scope) -> None:
    other = transposed_convolution(1, 2, 3, 2, 3, 2, 1)
    for axis, (place, probe) in enumerate(zip(points_of([scope, scope]), probes(scope), strict=True)):
        assert np.all((place >= 0) & (place < int(scope.shape[axis])))
        assert probe.period >= 1
    assert len(probes(other)) == 4


def test_bounds_follow_the_degree_and_the_number_of_assignments() -> None:
    assert degrees(MATMUL) == (2, 0)
    once, twice = (error_bound(MATMUL, MATMUL, Domain.PRIME, count) for count in (1, 2))
    assert once == 2 * 2 / 2**31
    assert twice == once**2
    assert error_bound(MATMUL, MATMUL, Domain.INTEGER, 8) is None
    m, n = MATMUL.traversal
    third = Apply("div", Access(MATMUL, [m, n]), Access(tensor("D", 5), [n]))
    assert degrees(Scope((m, n), third)) == (2, 1)
    assert degrees(Scope((m,), third, (n,))) == (6, 5)


def test_the_interpreter_compares_bit_for_bit_where_nothing_is_rounded() -> None:
    assert largest(MATMUL) == 24
    tenth = Scope(MATMUL.traversal, Apply("mul", MATMUL.body, Constant(0.1, F32)), MATMUL.reduction)
    assert largest(tenth) == float("inf")
    assert interpreted_difference(MATMUL, MATMUL, 1) is None
    half = DataType.FLOAT16
    rounded = Scope(MATMUL.traversal, Cast(Cast(MATMUL.body, half), F32), MATMUL.reduction)
    assert interpreted_difference(MATMUL, rounded, 1) is None, "small integers are the same in f16"
    wrong = Scope(MATMUL.traversal, Apply("add", MATMUL.body, Constant(1e-6, F32)), MATMUL.reduction)
    assert interpreted_difference(MATMUL, wrong, 1) is None, "what is rounded is compared nearly"
    shifted = Scope(MATMUL.traversal, Apply("add", MATMUL.body, Constant(1.0, F32)), MATMUL.reduction)
    assert interpreted_difference(MATMUL, shifted, 1) is not None


def test_divisions_among_ordered_operations_get_a_certificate() -> None:
    m, n = MATMUL.traversal
    quotient = Apply("div", Access(MATMUL, [m, n]), Access(tensor("D", 5), [n]))
    start = Scope((m, n), Apply("relu", quotient))
    assert choose_domain([start]) is Domain.INTEGER
    derivation = derive_along(start, [("cut_range", (), Site.of(iterator="n", at=2))], RULES_BY_NAME)
    result = derivation.result(RULES_BY_NAME)
    output = Tensor("O", start.type)
    verdict = Checker().check(derivation, Compute(output, start), (Compute(output, result),))
    assert isinstance(verdict, Certificate), verdict
    assert verdict.error_bound is None
    assert verdict.assignments >= 4


def test_certificates_are_plain_data() -> None:
    derivation = derive_along(
        MATMUL, [("split_traversal", (), Site.of(iterator="n", factor=2, offset=0))], RULES_BY_NAME
    )
    output = Tensor("O", MATMUL.type)
    result = derivation.result(RULES_BY_NAME)
    verdict = Checker().check(derivation, Compute(output, MATMUL), (Compute(output, result),))
    assert isinstance(verdict, Certificate)
    assert Certificate.from_json(verdict.as_json()) == verdict
    assert verdict.real_points >= 4
    other = Scope(MATMUL.traversal, accesses(MATMUL.body)[0], MATMUL.reduction)
    assert isinstance(Checker().check(derivation, Compute(output, MATMUL), (Compute(output, other),)), Refusal)
