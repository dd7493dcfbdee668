"""Linking: constants that several kernels read in the same form are in the artefact once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.build import BuiltProgram, compile_program
from codegen.targets.cpu import host_target
from tensoropt.allocation import Placement
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType


def matrix(name: str, *shape: int) -> Tensor:
    """A tensor of floats."""
    return Tensor(name, TensorType(DataType.FLOAT32, tuple(Extent(extent) for extent in shape)))


def products(heights: tuple[int, ...], weights: tuple[str, ...]) -> BuiltProgram:
    """One product with a weight of 24 x 40 for each height, compiled."""
    statements, inputs, constants = [], [], {}
    for number, (height, name) in enumerate(zip(heights, weights, strict=True)):
        x, w, y = matrix(f"x{number}", height, 24), matrix(name, 24, 40), matrix(f"y{number}", height, 40)
        i, j, k = Iterator("i", height), Iterator("j", 40), Iterator("k", 24)
        statements.append(
            Compute(y, Scope([i, j], Apply("mul", Access(x, [i, k]), Access(w, [k, j])), [k])),
        )
        inputs.append(x)
        constants[name] = np.random.default_rng(len(name)).integers(-4, 4, (24, 40)).astype(np.float32)
    outputs = tuple(statement.output for statement in statements)
    program = Program("p", tuple(inputs), outputs, constants, tuple(statements))
    return compile_program(program, Placement({}, 0, 0), host_target(1))


@settings(max_examples=5, deadline=None)
@given(heights=st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40)))
def test_a_weight_is_packed_once_for_kernels_of_other_heights(heights: tuple[int, ...]) -> None:
    """As the pieces of a statement in slabs read it."""
    one, other = products(heights, ("w", "w", "w")), products(heights, ("w", "ww", "www"))
    packings = [packing for step in one.steps for packing in step.shared.kernel.packings]
    forms = {(tuple(axis.extent for axis in packing.axes), packing.padded): packing.elements for packing in packings}
    assert packings
    assert one.weights.nbytes == sum(4 * elements for elements in forms.values())
    assert other.weights.nbytes == sum(4 * packing.elements for packing in packings)
    for built in (one, other):
        feeds = {
            x.name: np.arange(x.type.elements, dtype=np.float32).reshape(x.shape) % 5 for x in built.program.inputs
        }
        found, expected = built.model().run(feeds), run_program(built.program, feeds)
        for tensor in built.program.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])
