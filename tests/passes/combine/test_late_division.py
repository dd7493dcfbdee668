"""Softmax's division behind the product with the values: found in models, exact, taken only where it is faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from passes.combine.late_division import DivideLate, late_divisions
from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.rules import RULES_BY_NAME
from passes.pipeline import COMBINE
from tensoropt.cost import Alternative, KernelCost
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import derive_along


def attention(
    heads: int,
    queries: int,
    keys: int,
    width: int,
    extra: Sequence[onnx.NodeProto] = (),
    more: Sequence[str] = (),
    kind: int = TensorProto.FLOAT,
) -> Program:
    nodes = [
        helper.make_node("MatMul", ["Q", "K"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "V"], ["O"]),
        *extra,
    ]
    shapes = {"Q": (1, heads, queries, width), "K": (1, heads, width, keys), "V": (1, heads, keys, width)}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("O", *more)]
    graph = helper.make_graph(nodes, "attention", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return load_program(model).program


class Costs:
    """Costs as told: the late division takes this many seconds, the original one."""

    def __init__(self, late: float) -> None:
        self.late = late
        self.compared: list[Sequence[Alternative]] = []

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        raise AssertionError("only whole alternatives are compared")

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        self.compared.append(alternatives)
        return [KernelCost(1.0), KernelCost(self.late)]


def result(program: Program, values: dict[str, np.ndarray]) -> np.ndarray:
    known = dict(values)
    for statement in program.statements:
        assert isinstance(statement, Compute)
        known[statement.output.name] = evaluate(statement.expression, known)
    return known["O"]


def inputs_of(program: Program) -> dict[str, np.ndarray]:
    random = np.random.default_rng(6)
    return {found.name: random.standard_normal(found.shape).astype(np.float32) for found in program.inputs}


def test_the_division_comes_after_the_product_where_that_is_faster() -> None:
    program = attention(2, 5, 7, 3)
    costs = Costs(0.5)
    context = Context(costs)
    late = DivideLate().run(program, context)
    values = inputs_of(program)
    np.testing.assert_allclose(result(late, values), result(program, values), rtol=1e-5)
    assert "shares" not in {statement.outputs[0].name for statement in late.statements}
    (found,) = context.derivations
    assert found["kept"]
    assert [step.split("(")[0] for step in found["chain"]] == ["merge", "divide_after"]
    (alternatives,) = costs.compared
    assert all(alternative.outputs == program.outputs for alternative in alternatives)


@pytest.mark.parametrize("seconds", [0.99, 2.0])
def test_a_slower_form_is_told_and_not_taken(seconds: float) -> None:
    program = attention(2, 5, 7, 3)
    context = Context(Costs(seconds))
    assert DivideLate().run(program, context) is program
    assert [found["kept"] for found in context.derivations] == [False]


def test_equal_regions_are_measured_once() -> None:
    again = [
        helper.make_node("MatMul", ["Q", "K"], ["scores2"]),
        helper.make_node("Softmax", ["scores2"], ["shares2"], axis=-1),
        helper.make_node("MatMul", ["shares2", "V"], ["P"]),
    ]
    program = attention(2, 5, 7, 3, again, ("P",))
    costs = Costs(0.5)
    context = Context(costs)
    late = DivideLate().run(program, context)
    assert len(costs.compared) == 1
    assert [found["value"] for found in context.derivations] == ["O", "P"]
    assert not {"shares", "shares2"} & {statement.outputs[0].name for statement in late.statements}


def test_every_form_has_a_certificate() -> None:
    (late,) = late_divisions(attention(2, 40, 30, 20))
    derivation = derive_along(late.whole.expression, list(late.moves), RULES_BY_NAME)
    assert isinstance(Checker().check(derivation, late.whole, late.statements), Certificate)


def test_shares_that_others_need_stay() -> None:
    """Another reader, an output, and a product with more columns than there are keys."""
    other = [helper.make_node("Relu", ["shares"], ["P"])]
    assert late_divisions(attention(2, 5, 7, 3, other, ("P",))) == []
    assert late_divisions(attention(2, 5, 7, 3, (), ("shares",))) == []
    assert late_divisions(attention(2, 5, 3, 7)) == []


def test_half_types_are_divided_early() -> None:
    assert late_divisions(attention(2, 5, 7, 3, kind=TensorProto.DOUBLE))
    assert late_divisions(attention(2, 5, 7, 3, kind=TensorProto.FLOAT16)) == []


def test_other_quotients_are_divided_early() -> None:
    """``(X / s)·V`` with X and s near the largest float: the undivided sum would overflow."""
    nodes = [helper.make_node("Div", ["X", "s"], ["shares"]), helper.make_node("MatMul", ["shares", "V"], ["O"])]
    shapes = {"X": (4, 32), "s": (4, 1), "V": (32, 2)}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = [helper.make_tensor_value_info("O", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "normalised", infos, output)
    program = load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)).program
    late = DivideLate().run(program, Context(Costs(0.5)))
    values = inputs_of(program) | {"X": np.full((4, 32), 1e38, np.float32), "s": np.full((4, 1), 1e38, np.float32)}
    np.testing.assert_allclose(result(late, values), result(program, values), rtol=1e-5)
    assert np.isfinite(result(late, values)).all()


def test_a_quotient_by_what_is_summed_stays() -> None:
    """``Σ_j (E[i, j] / S[j])·V[j, k]``: softmax along the other axis."""
    nodes = [
        helper.make_node("Softmax", ["Q"], ["shares"], axis=0),
        helper.make_node("MatMul", ["shares", "V"], ["O"]),
    ]
    infos = [
        helper.make_tensor_value_info("Q", TensorProto.FLOAT, (4, 6)),
        helper.make_tensor_value_info("V", TensorProto.FLOAT, (6, 2)),
    ]
    output = [helper.make_tensor_value_info("O", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "columns", infos, output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert late_divisions(load_program(model).program) == []


@pytest.mark.parametrize("rule", ["all", "divide_after", "merge"])
def test_excluded_rules_leave_the_program_alone(rule: str) -> None:
    program = attention(2, 5, 7, 3)
    assert DivideLate().run(program, Context(Costs(0.5), frozenset({rule}))) is program


def test_the_pipeline_divides_late() -> None:
    assert any(isinstance(step, DivideLate) for step in COMBINE)
