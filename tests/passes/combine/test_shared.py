"""Contractions of one input become one contraction, against ONNX Runtime; what differs in form, input or use stays apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from passes.combine.branches import branches_of
from passes.combine.shared import MergeShared
from passes.derive.cost import EstimatedCosts
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.fold_constants import FoldConstants
from passes.normalise.inline_movers import InlineMovers
from passes.pipeline import NORMALISE
from tensoropt.cost import CostModel
from tensoropt.ir.expression import Tensor, accesses, scopes
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import is_contraction, is_mover
from tensoropt.pass_manager import Context, run_passes
from tests.strategies.estimated_costs import PreferChange
from tests.strategies.small_models import expected, feeds_of, model, program_of

ATTENTION = model(
    """q0 = MatMul(x, W)
    q = Add(q0, b)
    k0 = MatMul(x, V)
    k = Add(k0, c)
    v0 = MatMul(x, U)
    v = Add(v0, d)
    kt = Transpose<perm=[1,0]>(k)
    s = MatMul(q, kt)
    p = Softmax<axis=-1>(s)
    y = MatMul(p, v)""",
    "float[16,32] x",
    "float[16,24] y",
    W=(32, 32),
    V=(32, 32),
    U=(32, 24),
    b=(32,),
    c=(32,),
    d=(24,),
)

PARALLEL = model(
    """a0 = Conv(x, W, b)
    a = Relu(a0)
    c0 = Conv(x, V, c)
    c1 = Relu(c0)
    e = Conv<pads=[1,1,1,1]>(c1, K)
    y = Concat<axis=1>(a, e)""",
    "float[1,8,6,6] x",
    "float[1,14,6,6] y",
    W=(8, 8, 1, 1),
    V=(4, 8, 1, 1),
    b=(8,),
    c=(4,),
    K=(6, 4, 3, 3),
)


def merged(found: onnx.ModelProto, costs: CostModel, *excluded: str) -> tuple[Program, Program, Context]:
    """The program before and after; the outputs are compared with ONNX Runtime's."""
    context = Context(costs, frozenset(excluded))
    before = run_passes(program_of(found), NORMALISE, context)
    after = run_passes(before, (MergeShared(promising=100), FoldConstants(), InlineMovers(), RemoveDeadCode()), context)
    feeds = feeds_of(before)
    values = run_program(after, feeds)
    for tensor, wanted in zip(before.outputs, expected(found, feeds), strict=True):
        np.testing.assert_allclose(values[tensor.name], wanted, rtol=1e-4, atol=1e-5 * max(1, np.abs(wanted).max()))
    return before, after, context


def of_input(program: Program) -> int:
    """How many contractions read the input."""
    return sum(
        is_contraction(scope) and any(access.source in program.inputs for access in accesses(scope.body))
        for statement in program.statements
        if isinstance(statement, Compute)
        for scope in scopes(statement.expression)
    )


def test_three_projections_become_one_matrix_product_with_one_bias() -> None:
    before, after, context = merged(ATTENTION, EstimatedCosts())
    assert (of_input(before), of_input(after)) == (3, 1)
    assert {array.shape for array in after.constants.values()} == {(32, 88), (88,)}
    assert not any(isinstance(found, Compute) and is_mover(found.expression) for found in after.statements)
    assert [entry["value"] for entry in context.derivations] == ["q", "k", "v"]
    assert all(entry["kept"] and entry["milliseconds"] for entry in context.derivations)
    assert all(entry["certificate"]["steps"] == len(entry["chain"]) == 3 for entry in context.derivations)


def test_parallel_convolutions_become_one_and_their_readers_read_ranges() -> None:
    before, after, _ = merged(PARALLEL, PreferChange())
    assert (of_input(before), of_input(after)) == (2, 1)
    padded = next(found for found in after.statements if found.outputs[0].name == "e")
    assert isinstance(padded, Compute)
    sources = {access.source for access in accesses(padded.expression.body)}
    assert any(isinstance(source, Tensor) and source.shape == (1, 12, 6, 6) for source in sources)


def test_what_is_not_cheaper_stays() -> None:
    class PreferOriginal(PreferChange):
        def compare(self, alternatives):  # type: ignore[no-untyped-def]
            return list(reversed(super().compare(alternatives)))

    before, after, context = merged(ATTENTION, PreferOriginal())
    assert of_input(after) == of_input(before) == 3
    assert [entry["kept"] for entry in context.derivations] == [False] * 3
    assert all("not faster" in entry["why"] for entry in context.derivations)


@pytest.mark.parametrize("excluded", ["concatenate", "merge", "all"])
def test_exclusion(excluded: str) -> None:
    before, after, context = merged(ATTENTION, PreferChange(), excluded)
    assert of_input(after) == of_input(before)
    assert not context.derivations


def groups(body: str, inputs: str, outputs: str, **weights: tuple[int, ...]) -> list[list[str]]:
    found = model(body, inputs, outputs, **weights)
    program = run_passes(program_of(found), NORMALISE, Context(EstimatedCosts()))
    merged(found, PreferChange())
    return [[branch.output.name for branch in group] for group in branches_of(program)]


def test_other_inputs_and_other_forms_do_not_belong_together() -> None:
    shapes = {"W": (8, 6), "V": (8, 4)}
    body = "a = MatMul(x, W)\n b = MatMul({}, V)\n y = Concat<axis=1>(a, b)"
    inputs = "float[6,8] x, float[6,8] z"
    assert groups(body.format("x"), inputs, "float[6,10] y", **shapes) == [["a", "b"]]
    assert groups(body.format("z"), inputs, "float[6,10] y", **shapes) == []
    kernels = {"W": (3, 2, 1, 1), "V": (3, 2, 3, 3)}
    convolutions = "a = Conv(x, W)\n b = Conv<pads=[1,1,1,1]>(x, V)\n y = Add(a, b)"
    assert groups(convolutions, "float[1,2,5,5] x", "float[1,3,5,5] y", **kernels) == []
    strided = "a = Conv<strides=[2,2]>(x, W)\n b = Conv(x, V)"
    kernels = {"W": (3, 2, 1, 1), "V": (3, 2, 1, 1)}
    assert groups(strided, "float[1,2,4,4] x", "float[1,3,2,2] a, float[1,3,4,4] b", **kernels) == []


def test_branches_go_on_as_long_as_they_are_alike_and_nothing_else_reads_them() -> None:
    shapes = {"W": (8, 6), "V": (8, 6), "b": (6,), "c": (6,)}
    body = """p = MatMul(x, W)
    q = Add(p, b)
    r = MatMul(x, V)
    s = Add(r, c)
    t = {}(q)
    u = Relu(s)
    y = Add(t, u)"""
    inputs = "float[4,8] x"
    assert groups(body.format("Relu"), inputs, "float[4,6] y", **shapes) == [["t", "u"]]
    assert groups(body.format("Neg"), inputs, "float[4,6] y", **shapes) == [["q", "s"]]
    assert groups(body.format("Relu"), inputs, "float[4,6] y, float[4,6] q", **shapes) == [["q", "s"]]
    assert groups(body.format("Relu"), inputs, "float[4,6] y, float[4,6] r", **shapes) == [["p", "r"]]


def test_weights_that_are_no_constants_are_not_put_side_by_side() -> None:
    body = "a = MatMul(x, w)\n b = MatMul(x, v)\n y = Add(a, b)"
    assert groups(body, "float[4,8] x, float[8,6] w, float[8,6] v", "float[4,6] y") == []


def test_branches_that_go_on_alike_are_a_group_too() -> None:
    body = """p = MatMul(x, W)
    q = Relu(p)
    r = MatMul(x, V)
    s = Relu(r)
    t = MatMul(x, U)
    u = Neg(t)
    y = Concat<axis=1>(q, s, u)"""
    shapes = {"W": (8, 6), "V": (8, 4), "U": (8, 5)}
    assert groups(body, "float[4,8] x", "float[4,15] y", **shapes) == [["p", "r", "t"], ["q", "s"]]


def test_depthwise_convolutions_of_one_image_become_layers() -> None:
    found = model(
        """a0 = Conv<group=3, pads=[1,1,1,1]>(x, W, b)
        a = Relu(a0)
        c0 = Conv<group=3, pads=[1,1,1,1]>(x, V, c)
        c1 = Relu(c0)
        e = Conv<pads=[1,1,1,1]>(c1, K)
        y = Sub(a, e)""",
        "float[1,3,6,6] x",
        "float[1,3,6,6] y",
        W=(3, 1, 3, 3),
        V=(3, 1, 3, 3),
        b=(3,),
        c=(3,),
        K=(3, 3, 3, 3),
    )
    before, after, context = merged(found, PreferChange())
    assert (of_input(before), of_input(after)) == (2, 1)
    assert (2, 3, 1, 3, 3) in {array.shape for array in after.constants.values()}
    assert len(context.derivations) == 2
    _, unchanged, _ = merged(found, PreferChange(), "stack")
    assert of_input(unchanged) == 2
