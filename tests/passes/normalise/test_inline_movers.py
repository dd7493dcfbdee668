"""Reading through a mover keeps values; what cannot be proved to stay inside is left alone."""

import numpy as np

from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.inline_movers import InlineMovers
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute
from tests.strategies.networks import context, pointwise, program, random_array, tensor


def test_windows_gathered_for_a_product_are_read_where_they_lie() -> None:
    query, key, windows, out = tensor("q", 6, 3), tensor("k", 6, 3), tensor("g", 6, 5, 3), tensor("y", 6, 5)
    m, w, c = Iterator("m", 6), Iterator("w", 5), Iterator("c", 3)
    gather = Compute(windows, Scope([m, w, c], Access(key, [Index.of(m) + w - 2, Index.of(c)])))
    product = Compute(out, Scope([m, w], Apply("mul", Access(query, [m, c]), Access(windows, [m, w, c])), [c]))
    before = program([gather, product], [query, key], [out])
    after = RemoveDeadCode().run(InlineMovers().run(before, context()), context())
    assert len(after.statements) == 1
    feeds = {"q": random_array(query), "k": random_array(key)}
    np.testing.assert_array_equal(run_program(after, feeds)["y"], run_program(before, feeds)["y"])


def test_a_read_that_may_leave_the_moved_box_keeps_the_copy() -> None:
    source, moved, out = tensor("x", 8), tensor("m", 4), tensor("y", 4)
    i, j = Iterator("i", 4), Iterator("j", 4)
    slice_ = Compute(moved, Scope([i], Access(source, [Index.of(i) * 2])))
    shifted = Compute(out, Scope([j], Apply("neg", Access(moved, [Index.of(j) + 1]))))
    before = program([slice_, shifted], [source], [out])
    assert InlineMovers().run(before, context()) is before


def test_a_transpose_with_two_readers_is_moved_once() -> None:
    source, moved, first, second = tensor("x", 4, 5), tensor("m", 5, 4), tensor("y", 5, 4), tensor("z", 5, 4)
    i, j = Iterator("i", 5), Iterator("j", 4)
    transpose = Compute(moved, Scope([i, j], Access(source, [j, i])))
    statements = [transpose, pointwise(first, "relu", moved), pointwise(second, "neg", moved)]
    before = program(statements, [source], [first, second])
    assert InlineMovers().run(before, context()) is before


def test_a_range_is_read_by_every_reader_also_beyond_its_whole_axes() -> None:
    source, part, first, second = tensor("x", 6, 5), tensor("m", 2, 5), tensor("y", 2, 5), tensor("z", 2, 7)
    i, j, k = Iterator("i", 2), Iterator("j", 5), Iterator("k", 7)
    range_ = Compute(part, Scope([i, j], Access(source, [Index.of(i) + 3, j])))
    padded = Compute(second, Scope([i, k], Apply("neg", Access(part, [i, Index.of(k) - 1], 2.0))))
    before = program([range_, pointwise(first, "relu", part), padded], [source], [first, second])
    after = RemoveDeadCode().run(InlineMovers().run(before, context()), context())
    assert len(after.statements) == 2
    feeds = {"x": random_array(source)}
    for name in "yz":
        np.testing.assert_array_equal(run_program(after, feeds)[name], run_program(before, feeds)[name])


def test_a_range_that_is_left_along_its_cut_keeps_the_copy() -> None:
    source, part, out = tensor("x", 6, 5), tensor("m", 2, 5), tensor("y", 4, 5)
    i, j, k = Iterator("i", 2), Iterator("j", 5), Iterator("k", 4)
    range_ = Compute(part, Scope([i, j], Access(source, [Index.of(i) + 3, j])))
    padded = Compute(out, Scope([k, j], Apply("neg", Access(part, [Index.of(k) - 1, Index.of(j)]))))
    before = program([range_, padded], [source], [out])
    assert InlineMovers().run(before, context()) is before
