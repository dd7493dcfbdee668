"""Operands computed while they are packed: the same results, where that is measured not to be slower, and only where they may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codegen.targets.cpu import host_target
from passes.inline_operands import InlineOperands, without_operand
from tensoropt.api.compiling import compiled
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Program, Statement
from tensoropt.ir.verifier import verify
from tensoropt.pass_manager import Context

TEXT = """program "dense" {{
  input %x: f32[48, 400] input %w: f32[64, 48] input %s: f32[48] input %x2: f32[48, 400]
  %p: f32[48, 400] = L<c:48, n:400> {operand}
  %y: f32[64, 400] = L<m:64, n:400> sum<c:48> {read} * %w[m, c]
  %z: f32[64, 400] = L<m:64, n:400> relu(%y[m, n])
  output {outputs}
}}"""


def program(operand: str = "relu(%x[c, n] * %s[c])", read: str = "%p[c, n]", outputs: str = "%z") -> Program:
    return parse_program(TEXT.format(operand=operand, read=read, outputs=outputs))


class Costs:
    """A cost model that finds one of the two faster."""

    def __init__(self, inlined: float) -> None:
        self.inlined = inlined

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        raise AssertionError("no kernel is asked for alone")

    def compare(self, alternatives: Any) -> list[KernelCost]:
        stored, computed = alternatives
        assert isinstance(stored, Alternative)
        assert (len(stored.kernels), len(computed.kernels)) == (2, 1)
        return [KernelCost(1.0), KernelCost(self.inlined)]


def test_results_are_the_same() -> None:
    before = program()
    after = without_operand(before, "y")
    assert after is not None
    verify(after)
    assert [statement.outputs[0].name for statement in after.statements] == ["y", "z"]
    generator = np.random.default_rng(0)
    feeds = {tensor.name: generator.standard_normal(tensor.shape).astype(np.float32) for tensor in before.inputs}
    expected = run_program(before, feeds)["z"]
    np.testing.assert_allclose(run_program(after, feeds)["z"], expected, rtol=1e-5, atol=1e-5)
    found = compiled(after, host_target(2), {}).model().run(feeds)["z"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("seconds", "statements"), [(1.0, 2), (1.1, 3)])
def test_what_is_slower_is_not_taken(seconds: float, statements: int) -> None:
    context = Context(Costs(seconds))
    assert len(InlineOperands(least_bytes=0).run(program(), context).statements) == statements
    assert len(InlineOperands().run(program(), context).statements) == 3  # it stays in the cache anyway
    untouched = Context(Costs(seconds), frozenset({"all"}))
    assert len(InlineOperands(least_bytes=0).run(program(), untouched).statements) == 3


@pytest.mark.parametrize(
    "changed",
    [
        program(outputs="%z, %p"),
        program(operand="%x[c, n] * %s[c]"),
        program(read="%p[c, 399 - n]"),
        program(read="%p[c, n//2]"),
        program(operand="relu(%x[c, n] + %x2[c, n])"),
    ],
    ids=["an output", "a product", "backwards", "twice", "two large values"],
)
def test_other_operands_stay(changed: Program) -> None:
    assert without_operand(changed, "y") is None
    assert without_operand(changed, "z") is None
