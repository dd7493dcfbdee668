"""Fusion keeps values and joins what belongs together, and nothing else."""

import numpy as np

from passes.fuse import Fuse
from tensoropt.ir.expression import Access, Reducer, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tests.strategies.networks import (
    context,
    convolution,
    fold_last,
    pointwise,
    program,
    random_array,
    softmax_statements,
    tensor,
)

X, K, B = tensor("x", 1, 3, 5, 5), tensor("k", 4, 3, 3, 3), tensor("b", 4, 1, 1)
SHAPE = (1, 4, 5, 5)


def fused(before: Program) -> Program:
    """The fused program, after checking that it computes the same outputs."""
    after = Fuse().run(before, context())
    feeds = {source.name: random_array(source) for source in before.inputs}
    expected, actual = run_program(before, feeds), run_program(after, feeds)
    for output in before.outputs:
        np.testing.assert_allclose(actual[output.name], expected[output.name], rtol=1e-5, atol=1e-6)
    return after


def test_bias_activation_and_residual_join_the_convolution() -> None:
    summed, biased, active, out = (tensor(name, *SHAPE) for name in ("s", "t", "u", "y"))
    statements = [
        convolution(summed, X, K, 1),
        pointwise(biased, "add", summed, B),
        pointwise(active, "relu", biased),
        pointwise(out, "add", active, tensor("r", *SHAPE)),
    ]
    after = fused(program(statements, [X, K, B, tensor("r", *SHAPE)], [out]))
    assert len(after.statements) == 1
    assert after.statements[0].origin == ("Conv_0", "add_t", "relu_u", "add_y")


def test_a_value_with_another_reader_is_stored() -> None:
    summed, active, out = (tensor(name, *SHAPE) for name in ("s", "u", "y"))
    statements = [
        convolution(summed, X, K, 1),
        pointwise(active, "relu", summed),
        pointwise(out, "add", active, summed),
    ]
    after = fused(program(statements, [X, K], [out]))
    assert len(after.statements) == 1  # every reader of both is in the group
    kept = fused(program(statements, [X, K], [out, active]))
    assert [statement.outputs[0].name for statement in kept.statements] == ["s", "u", "y"]


def test_two_convolutions_never_share_a_kernel() -> None:
    first, second, out = (tensor(name, *SHAPE) for name in ("s", "t", "y"))
    other = tensor("k2", 4, 3, 3, 3)
    statements = [convolution(first, X, K, 1), convolution(second, X, other, 1), pointwise(out, "add", first, second)]
    assert len(fused(program(statements, [X, K, other], [out])).statements) == 2


def test_softmax_is_one_kernel() -> None:
    source, out = tensor("x", 2, 3, 7), tensor("y", 2, 3, 7)
    assert len(fused(program(softmax_statements(out, source), [source], [out])).statements) == 1


def test_softmax_after_a_convolution_leaves_the_convolution_alone() -> None:
    summed, out = tensor("s", *SHAPE), tensor("y", *SHAPE)
    after = fused(program([convolution(summed, X, K, 1), *softmax_statements(out, summed)], [X, K], [out]))
    assert len(after.statements) == 2


def test_squares_join_the_sum_that_reads_them() -> None:
    source, squares, out = tensor("x", 4, 9), tensor("q", 4, 9), tensor("y", 4, 1)
    statements = [pointwise(squares, "mul", source, source), fold_last(out, Reducer.SUM, squares)]
    assert len(fused(program(statements, [source], [out])).statements) == 1


def test_a_reshape_stays_a_view() -> None:
    source, middle, out = tensor("x", 4, 6), tensor("m", 24), tensor("y", 24)
    flat = Iterator("i", 24)
    view = Compute(middle, Scope([flat], Access(source, [Index.of(flat) // 6, Index.of(flat) % 6])))
    after = fused(program([view, pointwise(out, "relu", middle)], [source], [out]))
    assert len(after.statements) == 2


def test_rows_that_do_not_fit_the_cache_are_not_grouped() -> None:
    source, out = tensor("x", 2, 64), tensor("y", 2, 64)
    before = program(softmax_statements(out, source), [source], [out])
    assert len(Fuse(row_bytes=128).run(before, context()).statements) > 1
