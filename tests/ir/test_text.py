"""The text form reads back as what was printed, and says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tensoropt.errors import ModelError, ParseError
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor, tensors
from tensoropt.ir.index import Iterator
from tensoropt.ir.parser import parse_program, parse_scope
from tensoropt.ir.printer import format_program, format_scope
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.ir.verifier import problems
from tests.strategies.programs import CASES, programs

X = Tensor("x", TensorType(DataType.FLOAT32, (Extent(4),)))


@settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(programs())
def test_programs_round_trip(program: Program) -> None:
    text = format_program(program)
    again = parse_program(text, program.constants)
    assert format_program(again) == text
    assert (again.name, again.inputs, again.outputs) == (program.name, program.inputs, program.outputs)
    assert again.statements == program.statements
    assert list(again.constants) == list(program.constants)
    for name, array in program.constants.items():
        assert again.constants[name].dtype == array.dtype
        assert again.constants[name].shape == array.shape
        assert again.constants[name].tobytes() == array.tobytes() or np.array_equal(
            again.constants[name], array, equal_nan=True
        )
    declared = parse_program(text)
    assert declared.statements == program.statements
    assert format_program(declared) == text
    for statement in program.statements:
        if isinstance(statement, Compute):
            scope = statement.expression
            known = {tensor.name: tensor for tensor in tensors(scope)}
            assert parse_scope(format_scope(scope), known) is scope


@settings(max_examples=min(CASES, 200), suppress_health_check=list(HealthCheck))
@given(programs())
def test_random_programs_are_well_formed(program: Program) -> None:
    named = [problem for problem in problems(program) if problem.check != "names are given"]
    assert named == []


def test_the_example_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "text_form.md").read_text(encoding="utf-8")
    text = page.split("```")[1].lstrip()
    assert format_program(parse_program(text)) == text


def test_loose_text_is_brought_to_normal_form() -> None:
    loose = parse_scope("L<i:4> %x[(2*i + 4)//2 - 2 + 0*i]  # a comment", {"x": X})
    assert loose is parse_scope("L<i:4> %x[i]", {"x": X})


def test_long_chains_do_not_overflow_the_stack() -> None:
    i = Iterator("i", 4)
    body = Access(X, [i])
    chain = body
    for _ in range(400):
        chain = Apply("max", body, Apply("exp", chain))  # type: ignore[assignment]
    scope = Scope([i], chain)
    assert parse_scope(format_scope(scope), {"x": X}) is scope


def test_a_subnormal_half_prints_exactly() -> None:
    scope = Scope([], Constant(5.9604644775390625e-08, DataType.FLOAT16))
    assert parse_scope(format_scope(scope), {}) is scope


def test_declared_constants_have_no_values() -> None:
    program = parse_program('program "p" { constant %w: f32[100] sha256:00ff output %w }')
    with pytest.raises(ModelError, match="the constant w is only declared"):
        np.asarray(program.constants["w"])


def test_a_constant_of_another_content_is_refused() -> None:
    text = format_program(Program("p", (), (), {"w": np.ones(100, np.float32)}, ()))
    with pytest.raises(ParseError, match="another content"):
        parse_program(text, {"w": np.zeros(100, np.float32)})
    with pytest.raises(ParseError, match="not f32"):
        parse_program(text, {"w": np.zeros(7, np.float32)})


@pytest.mark.parametrize(
    ("body", "message", "column"),
    [
        ("L<i:4> %x[k]", "k is no iterator", 11),
        ("L<i:4> %y[i]", "%y is not defined before", 8),
        ("L<i:4> %x[i, i]", "2 indices on a source of 1 axes", 8),
        ("L<i:4> %x[i] + 1i64", "add mixes f32, i64", 14),
        ("L<i:4> 1 + 2", "needs a type", 8),
        ("L<i:4> 300u8", "does not fit in u8", 8),
        ("L<i:4> exp(%x[i]", "expected ')'", 17),
        ("L<i:4> exp(%x[i], %x[i])", "exp takes 1 operands, not 2", 8),
        ("L<i:4, i:3> %x[i]", "iterators repeat", 1),
        ("L<i:4> %x[i*i]", "multiplied by constants only", 12),
        ("L<i:4> %x[i//0]", "divided by positive constants only", 12),
        ("L<i:-4> %x[i]", "a whole number", 5),
        ("L<i:4> $1[i]", "$1 is not defined before", 8),
        ("L<i:4> sum<> %x[i]", "at least one iterator", 1),
        ("L<i:4> %x[i] ?", "unexpected character", 14),
        ("L<i:4> cast<f31>(%x[i])", "not an element type", 13),
    ],
)
def test_errors_name_the_place(body: str, message: str, column: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_scope(body, {"x": X})
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert str(caught.value).splitlines()[-1] == " " * (column + 3) + "^"


@pytest.mark.parametrize(
    "text", ["", "program", 'program "p" {', 'program "p" { input %x: f32[2] input %x: f32[2] }', "\x00"]
)
def test_texts_that_are_no_program(text: str) -> None:
    with pytest.raises(ParseError):
        parse_program(text)
