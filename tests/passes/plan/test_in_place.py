"""What is written over what: only where nothing reads it afterwards, and with the results of a program without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.build import compile_program
from codegen.targets.cpu import host_target
from passes.pipeline import plan
from passes.plan.in_place import takeovers
from passes.plan.lifetimes import lifetimes
from passes.plan.storage import storage_of
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Program

CHAIN = """program "chain" {
  input %x: f32[64, 128]
  %a: f32[64, 128] = L<i:64, j:128> exp(%x[i, j])
  %b: f32[64, 128] = L<i:64, j:128> %a[i, j] + %x[i, j]
  %c: f32[128, 64] = L<j:128, i:64> %b[i, j]
  %d: f32[128, 64] = L<j:128, i:64> %c[j, i] * %c[j, i]
  %e: f32[128, 64] = L<j:128, i:64> %d[j, i] + %c[127 - j, i]
  output %e
}"""


def chain() -> Program:
    return parse_program(CHAIN)


def test_only_what_is_read_in_place_may_be_taken() -> None:
    program = chain()
    storage = storage_of(program)
    assert takeovers(program, storage) == {"b": ("a",), "d": ("c",)}
    found = lifetimes(program, {}, storage, takeovers(program, storage))
    assert found.over == {"b": "a"}  # c is read once more
    assert plan(program).arena_bytes == 2 * 64 * 128 * 4


@st.composite
def pointwise_programs(draw: st.DrawFn) -> str:
    """Element-wise statements of earlier values, some of them at other places."""
    count = draw(st.integers(2, 9))
    lines = ['program "p" { input %v0: f32[6, 40]']
    for number in range(1, count + 1):
        first, second = (draw(st.integers(max(0, number - 4), number - 1)) for _ in range(2))
        place = draw(st.sampled_from(["i, j", "i, j", "5 - i, j", "i, 39 - j"]))
        operation = draw(st.sampled_from(["+", "-", "*"]))
        lines.append(f"%v{number}: f32[6, 40] = L<i:6, j:40> %v{first}[i, j] {operation} %v{second}[{place}]")
    outputs = sorted({count, draw(st.integers(1, count))})
    return "\n".join([*lines, "output " + ", ".join(f"%v{number}" for number in outputs) + " }"])


@settings(max_examples=40)
@given(pointwise_programs(), st.sampled_from([1, 2]))
def test_results_are_those_of_the_interpreter(text: str, threads: int) -> None:
    program = parse_program(text)
    feeds: dict[str, Any] = {"v0": np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)}
    built = compile_program(program, plan(program), host_target(threads))
    expected = run_program(program, feeds)
    for name, value in built.model().run(feeds).items():
        # the compiler may join a product and a sum of two kernels, which rounds once
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5 * np.abs(expected[name]).max())
