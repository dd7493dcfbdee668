"""A band becomes one kernel before selection where what selection makes of it is no faster, and stays for selection otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from passes.derive.cost import EstimatedCosts
from passes.join_first import JoinFirst
from passes.normalise.dead_code import RemoveDeadCode
from passes.pipeline import KERNELS
from tensoropt.cost import CostModel
from tensoropt.ir.expression import Access, Apply, Scope, map_scalar
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context, Pass, run_passes
from tests.passes.test_join_scores import DearInOne, attends
from tests.strategies.small_models import feeds_of

BAND = parse_program(
    """program "band" {
  input %q: f32[2, 16, 4]
  input %k: f32[2, 16, 4]
  input %v: f32[2, 16, 5]
  %s: f32[2, 16, 9] =
    L<h:2, i:16, j:9> sum<c:4> %q[h, i, c] * %k[h, i + j - 4, c]
    from "scores"
  %m: f32[2, 16] =
    L<h:2, i:16> max<j:9> %s[h, i, j]
    from "softmax"
  %e: f32[2, 16, 9] =
    L<h:2, i:16, j:9> exp(%s[h, i, j] - %m[h, i])
    from "softmax"
  %t: f32[2, 16] =
    L<h:2, i:16> sum<j:9> %e[h, i, j]
    from "softmax"
  %p: f32[2, 16, 9] =
    L<h:2, i:16, j:9> %e[h, i, j] / %t[h, i]
    from "softmax"
  %y: f32[2, 16, 5] =
    L<h:2, i:16, x:5> sum<j:9> %p[h, i, j] * %v[h, i + j - 4, x]
    from "values"
  output %y
}
"""
)


class TakeApart:
    """A selection whose last product is none that could be joined."""

    name: ClassVar[str] = "take_apart"

    def run(self, program: Program, context: Context) -> Program:
        *rest, last = program.statements
        assert isinstance(last, Compute)
        scope = last.expression

        def leaf(node: object) -> object:
            values = isinstance(node, Access) and getattr(node.source, "name", "") == "v"
            return Apply("max", node, node) if values else node  # type: ignore[arg-type]

        body = map_scalar(scope.body, leaf)  # type: ignore[arg-type]
        apart = Scope(scope.traversal, body, scope.reduction, scope.reducer)
        return program.with_statements([*rest, replace(last, expression=apart)])


def joined(context: Context, *rewrite: Pass) -> Program:
    """What becomes of the band, after checking that it is computed still."""
    after = run_passes(BAND, (JoinFirst(attends, rewrite, KERNELS), RemoveDeadCode()), context)
    feeds = feeds_of(BAND)
    np.testing.assert_allclose(run_program(after, feeds)["y"], run_program(BAND, feeds)["y"], rtol=1e-5)
    return after


def test_what_selection_would_take_apart_is_one_kernel_before() -> None:
    context = Context(EstimatedCosts())
    (statement,) = joined(context, TakeApart()).statements
    assert isinstance(statement, Compute)
    assert attends(statement.expression)
    assert statement.origin == ("scores", "softmax", "values")
    (told,) = context.joins
    assert told["kept"]
    assert told["nodes"] == ["scores", "softmax", "values"]
    assert [name for name, _ in context.stages] == ["join_first", "remove_dead_code"], "trials leave no trace"


@pytest.mark.parametrize("costs", [DearInOne()])
def test_what_costs_more_is_left_to_selection(costs: CostModel) -> None:
    context = Context(costs)
    assert joined(context, TakeApart()) is BAND
    assert [told["kept"] for told in context.joins] == [False]


def test_what_can_be_joined_later_is() -> None:
    """Selection leaves it as it is, so the kernels are joined when there are kernels."""
    context = Context(EstimatedCosts())
    assert joined(context) is BAND
    assert not context.joins


def test_what_is_not_to_be_rewritten_is_not() -> None:
    assert joined(Context(EstimatedCosts(), frozenset({"all"})), TakeApart()) is BAND
