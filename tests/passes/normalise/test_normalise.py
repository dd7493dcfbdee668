"""Normalisation keeps outputs and drops work."""

import numpy as np

from passes.normalise.compose_movers import ComposeMovers
from passes.normalise.dead_code import RemoveDeadCode
from passes.normalise.fold_constants import FoldConstants
from tensoropt.ir.expression import Access, Constant, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import view_source
from tensoropt.ir.types import DataType
from tests.strategies.networks import context, pointwise, program, random_array, tensor


def test_unread_statements_and_constants_go() -> None:
    source, out, unused = tensor("x", 3), tensor("y", 3), tensor("z", 3)
    weight = np.ones(3, np.float32)
    before = program(
        [pointwise(out, "relu", source), pointwise(unused, "neg", tensor("w", 3))], [source], [out], w=weight
    )
    after = RemoveDeadCode().run(before, context())
    assert [statement.outputs[0] for statement in after.statements] == [out]
    assert not after.constants


def test_what_depends_on_constants_alone_is_computed_once() -> None:
    source, weight, scaled, out = tensor("x", 3), tensor("w", 3), tensor("w2", 3), tensor("y", 3)
    values = np.array([1.0, -2.0, 3.0], np.float32)
    before = program(
        [pointwise(scaled, "neg", weight), pointwise(out, "add", source, scaled)], [source], [out], w=values
    )
    after = FoldConstants().run(before, context())
    assert len(after.statements) == 1
    np.testing.assert_array_equal(after.constants["w2"], -values)


def test_a_huge_fill_stays_an_expression() -> None:
    extents = (30, 30, 1000, 1000)
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(extents)]
    out = tensor("y", *extents)
    fill = Compute(out, Scope(iterators, Constant(1.0, DataType.FLOAT32)))
    before = program([fill], [], [out])
    assert FoldConstants().run(before, context()) is before


def test_transpose_of_transpose_is_a_view() -> None:
    source, middle, out = tensor("x", 4, 5), tensor("m", 5, 4), tensor("y", 4, 5)
    i, j, p, q = Iterator("i", 5), Iterator("j", 4), Iterator("p", 4), Iterator("q", 5)
    first = Compute(middle, Scope([i, j], Access(source, [j, i])))
    second = Compute(out, Scope([p, q], Access(middle, [q, p])))
    before = program([first, second], [source], [out])
    after = RemoveDeadCode().run(ComposeMovers().run(before, context()), context())
    assert len(after.statements) == 1
    only = after.statements[0]
    assert isinstance(only, Compute)
    assert view_source(only.expression) is source


def test_composition_keeps_outside_values_apart() -> None:
    source, padded, out = tensor("x", 4), tensor("m", 6), tensor("y", 8)
    i, j = Iterator("i", 6), Iterator("j", 8)
    first = Compute(padded, Scope([i], Access(source, [Index.of(i) - 1], 1.0)))
    second = Compute(out, Scope([j], Access(padded, [Index.of(j) - 1], 2.0)))
    before = program([first, second], [source], [out])
    after = ComposeMovers().run(before, context())
    feeds = {"x": random_array(source)}
    np.testing.assert_array_equal(run_program(after, feeds)["y"], run_program(before, feeds)["y"])
    assert run_program(after, feeds)["y"][0] == 2.0
    assert run_program(after, feeds)["y"][1] == 1.0
