"""Convolutions by products at points in a program: what is taken, what is told, and what other runtimes get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from passes.pipeline import FILTER, KERNELS, portable
from passes.winograd import FilterByPoints
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context, run_passes
from tests.strategies.networks import FixedCosts, convolution, pointwise, program, random_array, tensor


class ByTile(FixedCosts):
    """The original takes a second; tiles of four and of two as said."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [
            KernelCost(next((cost for key, cost in self.seconds.items() if key in found.label), 1.0))
            for found in alternatives
        ]


def network() -> Program:
    image, kernel, bias = tensor("x", 1, 8, 48, 48), tensor("K", 8, 8, 3, 3), tensor("b", 8, 1, 1)
    summed, shifted, output = (tensor(name, 1, 8, 48, 48) for name in ("conv", "shifted", "y"))
    steps = [
        convolution(summed, image, kernel, 1),
        pointwise(shifted, "add", summed, bias),
        pointwise(output, "relu", shifted),
    ]
    return program(steps, [image], [output], K=random_array(kernel), b=random_array(bias))


def rewritten(seconds: dict[str, float], excluded: frozenset[str] = frozenset()) -> tuple[Program, Context]:
    given = Context(ByTile(seconds), excluded_rules=excluded)
    return FilterByPoints().run(network(), given), given


def kept(found: Context) -> list[str]:
    return [entry["pattern"] for entry in found.derivations if entry["kept"]]


@pytest.mark.parametrize(("four", "two"), [(0.5, 0.7), (0.7, 0.5)])
def test_the_fastest_size_of_tiles_is_taken_and_both_are_told(four: float, two: float) -> None:
    result, found = rewritten({"tiles of 4": four, "tiles of 2": two})
    best = 4 if four < two else 2
    assert kept(found) == [f"winograd(2 axes, tiles of {best})"]
    assert len(found.derivations) == 2
    assert all(entry["certificate"] is not None for entry in found.derivations)
    feeds = {"x": random_array(tensor("x", 1, 8, 48, 48))}
    expected, actual = run_program(network(), feeds)["y"], run_program(result, feeds)["y"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def test_what_is_no_faster_is_left_alone() -> None:
    result, found = rewritten({"tiles": 0.99})
    assert result.statements == network().statements
    assert not kept(found)
    assert not found.written_as


def test_the_rule_can_be_excluded() -> None:
    result, found = rewritten({"tiles": 0.1}, frozenset({"winograd"}))
    assert result.statements == network().statements
    assert not found.derivations


def test_other_runtimes_get_the_convolution() -> None:
    given = Context(ByTile({"tiles": 0.1}))
    given.stages.append(("import", network()))
    run_passes(network(), (*FILTER, *KERNELS), given)
    found = portable(given)
    assert {name: array.shape for name, array in found.constants.items()} == {"K": (8, 8, 3, 3), "b": (8, 1, 1)}
    feeds = {"x": random_array(tensor("x", 1, 8, 48, 48))}
    np.testing.assert_array_equal(run_program(found, feeds)["y"], run_program(network(), feeds)["y"])


def test_a_third_factor_that_moves_too_is_no_window() -> None:
    image, kernel, mask = tensor("x", 1, 8, 48, 48), tensor("K", 8, 8, 3, 3), tensor("mask", 48)
    (core, *_) = network().statements
    assert isinstance(core, Compute)
    scope = core.expression
    body = Apply("mul", scope.body, Access(mask, [scope.traversal[2]]))
    masked = Compute(core.output, Scope(scope.traversal, body, scope.reduction))
    given = program([masked], [image, mask], [core.output], K=random_array(kernel))
    result = FilterByPoints().run(given, Context(ByTile({"tiles": 0.1})))
    assert result.statements == given.statements
