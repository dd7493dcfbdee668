"""The judge of outputs: what rounding explains passes, one wrong element does not."""

from __future__ import annotations

import numpy as np
import pytest

from codegen.tune.comparing import Judge, seeded
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.operand_rounding import TF32_ROUNDOFF
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Array, Compute
from tests.strategies.networks import convolution, pointwise, random_array, softmax_statements, tensor

IMAGE, KERNEL, OUT = tensor("x", 1, 4, 9, 9), tensor("k", 6, 4, 3, 3), tensor("y", 1, 6, 9, 9)
CONVOLUTION = convolution(OUT, IMAGE, KERNEL, 1)


def values(largest: int | None) -> dict[str, Array]:
    """Inputs of the convolution."""
    return {tensor.name: seeded(tensor, largest) for tensor in (IMAGE, KERNEL)}


def test_inputs_are_integers_or_normal_numbers() -> None:
    whole = seeded(IMAGE, 2)
    assert set(np.unique(whole)) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert np.array_equal(whole, seeded(IMAGE, 2))
    assert not np.array_equal(seeded(IMAGE), np.rint(seeded(IMAGE)))


@pytest.mark.parametrize("largest", [2, None])
def test_the_interpreters_result_passes_and_a_corner_that_is_off_does_not(largest: int | None) -> None:
    judge = Judge([CONVOLUTION], values(largest))
    right = evaluate(CONVOLUTION.expression, values(largest))
    exact = largest is not None
    assert judge.problem({"y": right}, None, exact, 1.0) == ""
    for corner in ((0, 0, 0, 0), (0, 5, 8, 8), (0, 5, 0, 8)):
        wrong = right.copy()
        wrong[corner] += 1.0
        assert "from the interpreter's" in judge.problem({"y": wrong}, None, exact, 1.0)


def test_any_element_that_differs_from_the_reference_is_found() -> None:
    judge = Judge([CONVOLUTION], values(2))
    right = evaluate(CONVOLUTION.expression, values(2))
    for position in np.ndindex(right.shape):
        wrong = right.copy()
        wrong[position] += 1.0
        assert "differs by 1" in judge.problem({"y": wrong}, {"y": right}, True, 1.0)
    assert judge.problem({"y": right.copy()}, {"y": right}, True, 1.0) == ""
    assert "shape" in judge.problem({"y": right}, {"y": right[..., :1]}, True, 1.0)


def test_rounding_passes_and_grows_where_it_is_said_to() -> None:
    judge = Judge([CONVOLUTION], values(None))
    right = evaluate(CONVOLUTION.expression, values(None))
    assert judge.allowed is not None
    assert 0 < judge.allowed < 1e-3
    off = right + np.float32(3 * judge.allowed)
    assert "differs" in judge.problem({"y": off}, {"y": right}, False, 1.0)
    assert judge.problem({"y": off}, {"y": right}, False, 4.0) == ""
    assert "differs" in judge.problem({"y": off}, {"y": right}, True, 4.0)
    unwritten = right.copy()
    unwritten[0, 3, 4, 5] = np.nan
    assert "NaN" in judge.problem({"y": unwritten}, {"y": right}, False, 1.0)


def test_rounded_operands_pass_where_they_may_be_rounded() -> None:
    """Of tf32, and no more: not operands of fewer digits, and nothing in a kernel without products."""
    normal = values(None)
    right = evaluate(CONVOLUTION.expression, normal)

    def of_digits(digits: int) -> Array:
        scale = np.float32(2 ** (24 - digits) + 1)  # Veltkamp's splitting
        cut = {name: scale * value - (scale * value - value) for name, value in normal.items()}
        return evaluate(CONVOLUTION.expression, cut)

    plain, rounding = Judge([CONVOLUTION], normal), Judge([CONVOLUTION], normal, TF32_ROUNDOFF)
    assert "interpreter" in plain.problem({"y": of_digits(11)}, None, False, 1.0)
    assert rounding.problem({"y": of_digits(11)}, {"y": right}, False, 1.0) == ""
    assert "interpreter" in rounding.problem({"y": of_digits(5)}, None, False, 1.0)
    assert "differs" in rounding.problem({"y": of_digits(11)}, {"y": right}, True, 1.0)
    before = tensor("x", 1, 6, 9, 9)
    sigmoid, given = pointwise(OUT, "sigmoid", before), {"x": random_array(before)}
    assert Judge([sigmoid], given, TF32_ROUNDOFF).allowed == Judge([sigmoid], given).allowed


def test_several_kernels_are_compared_with_the_reference_alone() -> None:
    source, out = tensor("x", 5, 7), tensor("y", 5, 7)
    judge = Judge(softmax_statements(out, source), {"x": random_array(source)})
    right = random_array(out)
    assert judge.problem({"y": right * np.float32(1.0001)}, {"y": right}, False, 1.0) == ""
    assert "differs" in judge.problem({"y": right * np.float32(1.01)}, {"y": right}, False, 1.0)
    assert judge.problem({"y": right}, None, False, 1.0) == ""


def test_a_kernel_with_nested_sums_is_sampled_within_a_limit() -> None:
    """Every element of the outer scope visits a sum of its own: the points become few, and none where one is too much."""
    source = tensor("x", 300, 4000)
    i, k = Iterator("i", 300), Iterator("k", 4000)
    total = Scope([i], Access(source, [i, k]), [k])
    a, b = Iterator("a", 300), Iterator("b", 4000)
    shifted = Apply("sub", Access(source, [a, b]), Access(total, [Index.of(a)]))
    kernel = Compute(tensor("y", 300), Scope([a], shifted, [b]))
    given = {"x": seeded(source, 1)}
    judge = Judge([kernel], given)
    right = evaluate(kernel.expression, given)
    assert judge.problem({"y": right}, None, True, 1.0) == ""
    right[0] += 1
    assert "interpreter" in judge.problem({"y": right}, None, True, 1.0)


def test_a_single_number_that_depends_on_integers_may_round() -> None:
    """The loss of labels: evaluated whole, since integers stand for positions, and of no axes."""
    text = (
        'program "p" { input %labels: i64[4] input %x: f32[4, 30] '
        "%y: f32[] = L<> sum<n:4, c:30> where(eq(%labels[n], index<i64>(c)), %x[n, c], 0.0f32) output %y }"
    )
    (statement,) = parse_program(text).statements
    assert isinstance(statement, Compute)
    inputs = {tensor.name: seeded(tensor) for tensor in statement.inputs}
    judge, right = Judge([statement], inputs), evaluate(statement.expression, inputs)
    assert judge.problem({"y": right * np.float32(1 + 1e-7)}, None, False, 1.0) == ""
    assert "differs by" in judge.problem({"y": right + np.float32(1)}, None, False, 1.0)
