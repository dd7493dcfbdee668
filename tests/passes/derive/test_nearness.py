"""What a search says that it lacked where it found no operator."""

from __future__ import annotations

import pytest

from passes.derive.candidate import SearchLimits, SearchReport
from passes.derive.search import derive
from tensoropt.ir.expression import Tensor
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.program import Compute
from tests.strategies.expressions import tensor


def report_of(text: str, excluded: tuple[str, ...] = (), **shapes: tuple[int, ...]) -> SearchReport:
    scope = parse_scope(text, {name: tensor(name, *shape) for name, shape in shapes.items()})
    report = SearchReport()
    derive(Compute(Tensor("O", scope.type), scope), {"B"}, SearchLimits(), excluded, report)
    return report


def test_iterators_that_no_rule_takes_apart_are_named_with_their_coefficients() -> None:
    report = report_of("L<n:6> sum<k:3> %A[n + 2*k] * %B[n + 2*k]", ("split_traversal",), A=(10,), B=(10,))
    assert report.first_goal_seconds is None
    assert report.nearest.startswith("k and n stand in one index of A with coefficients 2 and 1") or (
        report.nearest.startswith("n and k stand in one index of A with coefficients 1 and 2")
    ), report.nearest


def test_a_refusal_on_the_way_is_told() -> None:
    report = report_of("L<n:6> sum<k:3> %A[n + k] * %B[n + k]", A=(8,), B=(8,))
    assert "k would leave its range, where the body need not vanish" in report.nearest
    assert report.rules["skew_reduction"].refused["k would leave its range, where the body need not vanish"] >= 1


@pytest.mark.parametrize(
    ("text", "shapes", "said"),
    [
        ("L<n:6> sum<k:3> %A[n, k, k] * %B[n, k]", {"A": (6, 3, 3), "B": (6, 3)}, "as in an operator already"),
        ("L<m:6, n:7> sum<k:8> %A[m, k] * %B[k, n]", {"A": (6, 8), "B": (8, 7)}, "as in an operator already"),
    ],
)
def test_what_is_an_operator_already_is_told_so(text: str, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    assert said in report_of(text, (), **shapes).nearest


def test_a_sum_over_one_factor_alone_is_told_where_it_may_not_be_grouped() -> None:
    text = "L<n:7, m:5> sum<k:8, j:2> %A[n, k, j] * %B[k, m]"
    report = report_of(text, ("group_factors",), A=(7, 8, 2), B=(8, 5))
    assert report.nearest == "j is summed over, but of A and B only A has it"
    assert not report_of(text, A=(7, 8, 2), B=(8, 5)).nearest
