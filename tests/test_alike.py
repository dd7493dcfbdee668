"""Pieces that are alike are measured once; what is of another size, or reads in another way, is not like them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from passes.slabs.cutting import Halo, Slabs, in_slabs
from tensoropt.api.alike import Alike, CostsOfPieces
from tensoropt.cost import KernelCost
from tensoropt.ir.program import Compute, Statement
from tests.strategies.networks import convolution, program, random_array, tensor


@dataclass
class Counting:
    """A cost model that remembers what it was asked for: the number of another kernel is its seconds."""

    asked: list[str] = field(default_factory=list)

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        name = kernel.outputs[0].name
        if name not in self.asked:
            self.asked.append(name)
        return KernelCost(float(self.asked.index(name)))

    def compare(self, alternatives: object) -> list[KernelCost]:
        raise AssertionError


@pytest.mark.parametrize("halo", list(Halo))
def test_pieces_inside_are_measured_once(halo: Halo) -> None:
    image, kernel = tensor("x", 1, 4, 32, 32), tensor("k", 4, 4, 3, 3)
    middle, last = tensor("m", 1, 4, 32, 32), tensor("y", 1, 4, 32, 32)
    network = program(
        [convolution(middle, image, kernel, 1), convolution(last, middle, kernel, 1)],
        [image],
        [last],
        k=random_array(kernel),
    )
    chain = tuple(one for one in network.statements if isinstance(one, Compute))
    cut = in_slabs(network, Slabs(chain, 2, 8, halo))
    pieces = {one.outputs[0].name for one in cut.statements}
    counting = Counting()
    costs = CostsOfPieces(counting, Alike(), pieces)
    found = {one.outputs[0].name: costs.cost(one) for one in cut.statements}
    inside = [found[f"{name}/slab{number}"] for name in "my" for number in (2, 3, 4, 5)]
    assert len({cost.seconds for cost in inside}) == 2
    assert len(counting.asked) < len(cut.statements) / 2
    for name in "my":
        assert found[f"{name}/slab0"] != found[f"{name}/slab3"] != found[f"{name}/slab7"]


def test_others_are_asked_for_each() -> None:
    image, kernel = tensor("x", 1, 4, 8, 8), tensor("k", 4, 4, 3, 3)
    outputs = [tensor(f"y{number}", 1, 4, 8, 8) for number in range(3)]
    network = program(
        [convolution(output, image, kernel, 1) for output in outputs], [image], outputs, k=random_array(kernel)
    )
    counting = Counting()
    costs = CostsOfPieces(counting, Alike(), {"y0"})
    for statement in network.statements:
        costs.cost(statement)
    assert counting.asked == ["y0", "y1", "y2"]
