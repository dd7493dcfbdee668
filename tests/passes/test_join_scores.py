"""Attention becomes one kernel where nothing else needs what lies between, and where that costs no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from passes.derive.cost import EstimatedCosts
from passes.join_scores import JoinScores
from passes.pipeline import KERNELS, compile_as_written, device_kernels
from tensoropt.cost import Alternative, CostModel, KernelCost
from tensoropt.ir.expression import Reducer, Scope, scopes
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context
from tests.strategies.small_models import feeds_of, model, program_of

HEADS = (
    "t = Transpose <perm = [0, 2, 1]> (k) s = MatMul (q, t) u = Mul (s, c) a = Add (u, m) p = Softmax <axis = 2> (a) "
    "o = MatMul (p, v) y = Relu (o)"
)
INPUTS = "float[2, 9, 4] q, float[2, 11, 4] k, float[2, 11, 5] v, float[9, 11] m"


def attends(expression: Scope) -> bool:
    """What a schedule may say: largest elements, and three sums."""
    reducers = [scope.reducer for scope in scopes(expression) if scope.reducer is not None]
    return reducers.count(Reducer.MAX) == 1 and reducers.count(Reducer.SUM) == 3


def small(body: str = HEADS, inputs: str = INPUTS, outputs: str = "float[2, 9, 5] y") -> Program:
    return program_of(model(body, inputs, outputs, c=()))


def joined(program: Program, costs: CostModel | None = None) -> Program:
    """The kernels of a device, after checking that they compute what the model does."""
    context = Context(costs or EstimatedCosts())
    after = compile_as_written(program, context, device_kernels(attends))
    feeds = feeds_of(program)
    expected, actual = run_program(program, feeds), run_program(after, feeds)
    for output in program.outputs:
        np.testing.assert_allclose(actual[output.name], expected[output.name], rtol=1e-5, atol=1e-6)
    return after


def test_attention_is_one_kernel_with_its_arithmetic() -> None:
    (statement,) = joined(small()).statements
    assert isinstance(statement, Compute)
    assert len(statement.origin) == 6
    assert attends(statement.expression)


def test_a_schedule_has_to_take_it() -> None:
    program, context = small(), Context(EstimatedCosts())
    as_it_was = compile_as_written(program, context, KERNELS)
    assert JoinScores(lambda expression: False).run(as_it_was, context) is as_it_was


@pytest.mark.parametrize("kept", ["s", "p"])
def test_what_is_an_output_is_stored(kept: str) -> None:
    after = joined(small(outputs=f"float[2, 9, 5] y, float[2, 9, 11] {kept}"))
    assert len(after.statements) == 3


def test_scores_that_something_else_reads_are_stored() -> None:
    body = HEADS.replace("y = Relu (o)", "b = ReduceMax <axes = [1, 2], keepdims = 1> (p) y = Add (o, b)")
    assert not any(
        attends(statement.expression) for statement in joined(small(body)).statements if isinstance(statement, Compute)
    )


def test_values_that_come_from_a_product_of_their_own_are_left_alone() -> None:
    body = f"v = MatMul (x, w) {HEADS}"
    inputs = INPUTS.replace("float[2, 11, 5] v", "float[2, 11, 3] x")
    program = program_of(model(body, inputs, "float[2, 9, 5] y", c=(), w=(3, 5)))
    assert len(joined(program).statements) == 2


class DearInOne:
    """A cost model by which a kernel of many folds is slow."""

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        raise AssertionError("whole alternatives are compared")

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        return [KernelCost(1.0 if len(found.kernels) > 1 else 2.0, source="predicted") for found in alternatives]


def test_the_cost_model_decides() -> None:
    assert len(joined(small(), DearInOne()).statements) == 3


@pytest.mark.parametrize(("costs", "kept"), [(EstimatedCosts(), True), (DearInOne(), False)])
def test_what_became_of_it_is_told(costs: CostModel, kept: bool) -> None:
    context = Context(costs)
    compile_as_written(small(), context, device_kernels(attends))
    (told,) = context.joins
    assert (told["kept"], told["value"], told["statements"]) == (kept, "y", 3)
    assert len(told["nodes"]) == 6
    assert told["why"].endswith(" ms with the scores stored")
    assert (told["milliseconds"] <= told["original_milliseconds"]) == kept
