"""Chains of linear algebra, combined: against ONNX Runtime, at small sizes, and what must stay as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from passes.combine.chains import CombineChains
from passes.derive.certify.certificate import Checker
from passes.derive.cost import EstimatedCosts
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.fold_constants import FoldConstants
from passes.pipeline import NORMALISE
from tensoropt.ir.expression import Apply, scopes
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import is_contraction
from tensoropt.pass_manager import Context, run_passes
from tensoropt.rewrite.rule import Refusal
from tests.strategies.small_models import expected, feeds_of, model, program_of


def combined(found: onnx.ModelProto, depth: int, *excluded: str) -> tuple[Program, Program, Context]:
    """The program before and after; the outputs are compared with ONNX Runtime's."""
    context = Context(EstimatedCosts(), frozenset(excluded))
    before = run_passes(program_of(found), NORMALISE, context)
    after = run_passes(before, (CombineChains(depth=depth), FoldConstants(), RemoveDeadCode()), context)
    feeds = feeds_of(before)
    values = run_program(after, feeds)
    for tensor, wanted in zip(before.outputs, expected(found, feeds), strict=True):
        np.testing.assert_allclose(values[tensor.name], wanted, rtol=1e-4, atol=1e-5 * max(1, np.abs(wanted).max()))
    return before, after, context


def computes(program: Program) -> list[Compute]:
    return [statement for statement in program.statements if isinstance(statement, Compute)]


def operations(program: Program) -> list[str]:
    """The operations of the pointwise statements."""
    found: list[str] = []
    for statement in computes(program):
        if not statement.expression.reduction:
            stack = [statement.expression.body]
            while stack:
                node = stack.pop()
                if isinstance(node, Apply):
                    found.append(node.operation)
                    stack += node.arguments
    return sorted(found)


def contractions(program: Program) -> int:
    return sum(is_contraction(scope) for found in computes(program) for scope in scopes(found.expression))


NORMALISATION = {"s": (4,), "h": (4,), "mean": (4,), "var": (4,)}
CONVOLUTION = model(
    """c = Conv<pads=[1,1,1,1]>(x, W, b)
    t = BatchNormalization(c, s, h, mean, var)
    y = Relu(t)""",
    "float[1,3,6,6] x",
    "float[1,4,6,6] y",
    W=(4, 3, 3, 3),
    b=(4,),
    **NORMALISATION,
)


def test_a_normalisation_after_a_convolution_goes_into_its_weights() -> None:
    _, after, context = combined(CONVOLUTION, 1)
    assert operations(after) == ["add", "relu"]
    (entry,) = context.derivations
    assert entry["kept"]
    assert entry["milliseconds"] is None
    assert entry["certificate"]["steps"] == len(entry["chain"])
    assert {"node", "value", "pattern", "derivation", "estimated_seconds", "cost_source", "why"} <= entry.keys()


def test_a_normalisation_after_a_transposed_convolution_goes_into_its_weights() -> None:
    found = model(
        """c = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, W)
        y = BatchNormalization(c, s, h, mean, var)""",
        "float[1,3,4,4] x",
        "float[1,4,8,8] y",
        W=(3, 4, 4, 4),
        **NORMALISATION,
    )
    _, after, _ = combined(found, 1)
    assert operations(after) == ["add"]


@pytest.mark.parametrize(("pads", "size", "image"), [("1,1,1,1", 6, (1, 4, 6, 6)), ("0,0,0,0", 4, (1, 4))])
def test_a_shift_before_a_convolution_is_exact_at_the_border(pads: str, size: int, image: tuple[int, ...]) -> None:
    found = model(
        f"""t = BatchNormalization(x, s, h, mean, var)
        y = Conv<pads=[{pads}]>(t, W, b)""",
        "float[1,4,6,6] x",
        f"float[1,4,{size},{size}] y",
        W=(4, 4, 3, 3),
        b=(4,),
        **NORMALISATION,
    )
    _, after, _ = combined(found, 1)
    assert operations(after) == ["add"]
    assert image in {array.shape for array in after.constants.values()}


def test_affine_statements_become_one() -> None:
    found = model(
        """a = Mul(x, s)
        b = Add(a, h)
        c = Sub(b, mean)
        d = Div(c, var)
        y = Mul(d, s)""",
        "float[5,4] x",
        "float[5,4] y",
        **NORMALISATION,
    )
    _, after, _ = combined(found, 1)
    assert operations(after) == ["add", "mul"]


def test_scales_around_matrix_products() -> None:
    found = model(
        """a = Gemm<alpha=0.5, beta=2.0, transB=1>(x, W, h)
        b = Div(a, var)
        c = Sub(h, b)
        d = Mul(c, half)
        y = Neg(d)""",
        "float[3,8] x",
        "float[3,4] y",
        W=(4, 8),
        half=(),
        **NORMALISATION,
    )
    _, after, _ = combined(found, 1)
    assert len(operations(after)) == 1


def test_two_normalisations_that_are_added_share_their_shift() -> None:
    found = model(
        """c = Conv(x, W)
        t = BatchNormalization(c, s, h, mean, var)
        d = Conv(x, V)
        u = BatchNormalization(d, s, h, mean, var)
        y = Add(t, u)""",
        "float[1,3,5,5] x",
        "float[1,4,5,5] y",
        W=(4, 3, 1, 1),
        V=(4, 3, 1, 1),
        **NORMALISATION,
    )
    _, after, _ = combined(found, 1)
    assert operations(after) == ["add", "add"]


def test_a_value_that_is_needed_elsewhere_stays() -> None:
    body = """c = Conv<pads=[1,1,1,1]>(x, W, b)
    t = BatchNormalization(c, s, h, mean, var)
    y = Relu({})"""
    weights = {"W": (4, 3, 3, 3), "b": (4,), **NORMALISATION}
    output = model(body.format("t"), "float[1,3,6,6] x", "float[1,4,6,6] y, float[1,4,6,6] c", **weights)
    _, after, _ = combined(output, 1)
    assert "c" in {found.output.name for found in computes(after)}
    assert contractions(after) == 1


def test_a_weight_with_other_readers_is_not_stored_twice() -> None:
    body = """c = Conv(x, W)
    y = BatchNormalization(c, s, h, mean, var)
    z = Conv(c, W)
    q = Relu(W)"""
    outputs = "float[1,128,4,4] y, float[1,128,4,4] z, float[128,128,1,1] q"
    shapes = dict.fromkeys(NORMALISATION, (128,))
    found = model(body, "float[1,128,4,4] x", outputs, W=(128, 128, 1, 1), **shapes)
    before, after, _ = combined(found, 1)
    assert len(after.statements) == len(before.statements)


def test_exclusion_of_a_rule_and_of_all() -> None:
    for excluded in ("flatten_product", "all"):
        before, after, context = combined(CONVOLUTION, 1, excluded)
        assert contractions(after) == contractions(before) == 1
        assert "mul" in operations(after)
        chains = [step for entry in context.derivations for step in entry["chain"]]
        assert not any(step.startswith("flatten_product") for step in chains)
        assert excluded != "all" or not chains


CHAINS = {
    "two linear maps": model(
        """a = MatMul(x, W)
        b = Add(a, h)
        c = MatMul(b, V)
        y = Add(c, g)""",
        "float[32,64] x",
        "float[32,8] y",
        W=(64, 64),
        V=(64, 8),
        h=(64,),
        g=(8,),
    ),
    "a pointwise convolution after another": model(
        "a = Conv(x, W)\n y = Conv(a, V)", "float[1,8,8,8] x", "float[1,4,6,6] y", W=(32, 8, 3, 3), V=(4, 32, 1, 1)
    ),
    "a padded convolution after a pointwise one": model(
        "a = Conv(x, W)\n y = Conv<pads=[1,1,1,1]>(a, V)",
        "float[1,4,8,8] x",
        "float[1,8,8,8] y",
        W=(64, 4, 1, 1),
        V=(8, 64, 3, 3),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_two_linear_maps_become_one_where_that_is_cheaper(name: str) -> None:
    before, after, context = combined(CHAINS[name], 6)
    assert (contractions(before), contractions(after)) == (2, 1)
    assert context.derivations[0]["kept"]
    assert context.derivations[0]["milliseconds"] is not None


MAPS = {
    "a narrow middle": (
        model("a = MatMul(x, W)\n y = MatMul(a, V)", "float[256,256] x", "float[256,256] y", W=(256, 4), V=(4, 256)),
        ["not checked: y/constant0 is too large"],
    ),
    "little to save": (
        model("a = MatMul(x, W)\n y = MatMul(a, V)", "float[999,64] x", "float[999,64] y", W=(64, 4), V=(4, 64)),
        ["not checked: estimated no cheaper than the model as written"],
    ),
    "a border in the middle": (
        model(
            "a = Conv<pads=[1,1,1,1]>(x, W)\n y = Conv<pads=[1,1,1,1]>(a, V)",
            "float[1,4,6,6] x",
            "float[1,4,6,6] y",
            W=(32, 4, 3, 3),
            V=(4, 32, 3, 3),
        ),
        [],
    ),
    "a relu in the middle": (
        model("a = MatMul(x, W)\n r = Relu(a)\n y = MatMul(r, V)", "float[4,8] x", "float[4,2] y", W=(8, 8), V=(8, 2)),
        [],
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_two_linear_maps_stay_where_one_is_dearer_or_another_thing(name: str) -> None:
    found, reasons = MAPS[name]
    before, after, context = combined(found, 6)
    assert contractions(before) == contractions(after) == 2
    assert len(context.derivations) == len(reasons)
    for entry, reason in zip(context.derivations, reasons, strict=True):
        assert entry["why"].startswith(reason)


@pytest.mark.parametrize(
    ("body", "inputs", "output"),
    [
        ('y = Einsum<equation="ij,jk,kl->il">(x, z, u)', "float[4,64] x, float[64,64] z, float[64,2] u", "[4,2]"),
        ('y = Einsum<equation="ijk,jl,kl->il">(x, z, u)', "float[3,16,8] x, float[16,12] z, float[8,12] u", "[3,12]"),
        ("a = MatMul(x, z)\n y = MatMul(a, u)", "float[64,64] x, float[64,64] z, float[64,1] u", "[64,1]"),
        (
            "a = MatMul(x, z)\n b = MatMul(a, u)\n y = MatMul(b, v)",
            "float[48,48] x, float[48,48] z, float[48,48] u, float[48,1] v",
            "[48,1]",
        ),
        (
            "a = MatMul(x, z)\n b = MatMul(a, u)\n c = MatMul(b, v)\n y = MatMul(c, w)",
            "float[24,24] x, float[24,24] z, float[24,24] u, float[24,24] v, float[24,1] w",
            "[24,1]",
        ),
    ],
)
def test_chains_are_multiplied_in_pairs_in_a_cheap_order(body: str, inputs: str, output: str) -> None:
    found = model(body, inputs, f"float{output} y")
    before, after, _ = combined(found, 6)
    for statement in computes(after):
        reads = sum(is_contraction(scope) for scope in scopes(statement.expression))
        assert reads <= 1
        assert len(statement.inputs) <= 2
    assert work(after) <= work(before)
    if body.startswith("a"):
        assert work(after) < work(before)


def work(program: Program) -> int:
    """Multiplications of all contractions."""
    total = 0
    for statement in computes(program):
        points = 1
        for iterator in (*statement.expression.traversal, *statement.expression.reduction):
            points *= iterator.extent
        total += points
    return total


def test_what_fails_its_check_is_told_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checker, "check", lambda *_: Refusal("on purpose"))
    _, after, context = combined(CONVOLUTION, 1)
    assert "mul" in operations(after)
    assert context.derivations
    assert not any(entry["kept"] for entry in context.derivations)
    assert all("on purpose" in entry["why"] and entry["certificate"] is None for entry in context.derivations)
