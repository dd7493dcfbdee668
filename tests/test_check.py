"""The check accepts what rounding explains and nothing more."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.check import check_outputs, check_statements, difference
from tensoropt.ir.error_analysis import estimate_at
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.operand_rounding import TF32_ROUNDOFF, passed_on
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.scalar import OPERATIONS as OPERATION_TABLE
from tests.strategies.networks import convolution, pointwise, program, random_array, softmax_statements, tensor

X, K, B = tensor("x", 1, 8, 6, 6), tensor("k", 4, 8, 3, 3), tensor("b", 4, 1, 1)
SUM, BIASED, OUT = tensor("s", 1, 4, 6, 6), tensor("t", 1, 4, 6, 6), tensor("y", 1, 4, 6, 6)


def network() -> Program:
    statements = [convolution(SUM, X, K, 1), pointwise(BIASED, "add", SUM, B), pointwise(OUT, "relu", BIASED)]
    return program(statements, [X], [OUT], k=random_array(K), b=0.05 * random_array(B))


def interpret(statement: Statement, values: object) -> dict[str, Array]:
    assert isinstance(statement, Compute)
    return {statement.output.name: evaluate(statement.expression, values)}  # type: ignore[arg-type]


def references(reference: Program, seed: int) -> dict[str, Array]:
    values: dict[str, Array] = {**reference.constants, "x": random_array(X, seed)}
    for statement in reference.statements:
        values |= interpret(statement, values)
    return values


@given(st.integers(0, 50))
def test_f32_sums_in_another_order_agree(seed: int) -> None:
    def reordered(statement: Statement, values: object) -> dict[str, Array]:
        assert isinstance(statement, Compute)
        if statement.output is not SUM:
            return interpret(statement, values)
        assert isinstance(values, dict)
        padded = np.pad(values["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
        total = np.zeros(SUM.shape, np.float32)
        for c in range(8):
            for r in range(3):
                for s in range(3):
                    part = padded[:, c : c + 1, r : r + 6, s : s + 6] * values["k"][None, :, c, r, s, None, None]
                    total += part.astype(np.float32)
        return {"s": total}

    found = check_statements(network(), reordered, references(network(), seed), seed)
    assert len(found) == 3
    assert all(item.ok for item in found)


@pytest.mark.parametrize("victim", ["t", "y"])
def test_a_dropped_bias_or_activation_is_found_and_named(victim: str) -> None:
    def forgetful(statement: Statement, values: object) -> dict[str, Array]:
        assert isinstance(values, dict)
        if statement.outputs[0].name == victim:
            return {victim: values[statement.inputs[0].name]}
        return interpret(statement, values)

    found = check_statements(network(), forgetful, references(network(), 1))
    assert [item.name for item in found if not item.ok] == [victim]


def test_nan_equals_nan_with_a_warning_and_nothing_else() -> None:
    reference = np.array([1.0, np.nan, np.inf], np.float32)
    out = tensor("y", 3)
    same = check_outputs([out], {"y": reference.copy()}, {"y": reference})
    assert same.ok
    assert "NaN" in same.warnings[0]
    for wrong in ([1.0, 0.0, np.inf], [np.nan, np.nan, np.inf], [1.0, np.nan, -np.inf]):
        assert not check_outputs([out], {"y": np.array(wrong, np.float32)}, {"y": reference}).ok


def test_a_wrong_shape_differs() -> None:
    assert not difference("y", np.zeros((2, 1)), np.zeros((1, 2)), 1.0).ok


def test_magnitudes_of_a_convolution_are_sums_of_absolute_products() -> None:
    image, kernel = random_array(X), random_array(K)
    expression = convolution(SUM, X, K, 1).expression
    points = tuple(np.asarray(axis) for axis in np.unravel_index(np.arange(SUM.type.elements), (1, 4, 6, 6)))
    estimate = estimate_at(expression, points, {"x": image, "k": kernel})
    exact = evaluate(expression, {"x": image.astype(np.float64), "k": kernel.astype(np.float64)})
    magnitudes = evaluate(expression, {"x": abs(image).astype(np.float64), "k": abs(kernel).astype(np.float64)})
    np.testing.assert_allclose(estimate.value, exact.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(estimate.magnitude, magnitudes.ravel(), rtol=1e-5)


def test_estimates_go_through_nested_scopes() -> None:
    source, out = tensor("x", 3, 5), tensor("y", 3, 5)
    statements = softmax_statements(out, source)
    values: dict[str, Array] = {"x": random_array(source)}
    for statement in statements:
        values |= interpret(statement, values)
    points = (np.array([0, 1, 2]), np.array([4, 0, 2]))
    estimate = estimate_at(statements[-1].expression, points, values)
    np.testing.assert_allclose(estimate.value, values["y"][points], rtol=1e-6)
    assert (estimate.magnitude >= np.abs(estimate.value)).all()


def tf32(value: Array) -> Array:
    """An f32 with 11 digits."""
    return (value.view(np.uint32) + 0x1000 & 0xFFFFE000).view(np.float32)


def rounding_operands(statement: Statement, values: object) -> dict[str, Array]:
    """A convolution of rounded operands; other statements as they are."""
    assert isinstance(values, dict)
    summed = statement.outputs[0] is SUM
    return interpret(statement, {name: tf32(value) if summed else value for name, value in values.items()})


@given(st.integers(0, 20))
def test_rounded_operands_agree_where_they_may_be_rounded_and_explain_nothing_else(seed: int) -> None:
    known = references(network(), seed)
    strict = check_statements(network(), rounding_operands, known, seed)
    assert [item.name for item in strict if not item.ok] == ["s"]
    found = check_statements(network(), rounding_operands, known, seed, operand_roundoff=TF32_ROUNDOFF)
    assert all(item.ok for item in found)
    assert [item.allowed for item in found[1:]] == [item.allowed for item in strict[1:]]
    unknown = {name: value for name, value in known.items() if name != "s"}
    assert not all(item.ok for item in check_statements(network(), rounding_operands, unknown, seed))
    later = check_statements(network(), rounding_operands, unknown, seed, operand_roundoff=TF32_ROUNDOFF)
    assert [item.name for item in later if item.ok] == ["t", "y"]
    assert later[0].allowed < 1.5 * found[0].allowed, "what the sum errs by, and no more"
    (out,) = network().outputs
    near, far = ({"y": known["y"] * (1 + share)} for share in (1e-3, 3e-2))
    assert not check_outputs([out], near, known).ok
    assert check_outputs([out], near, known, operand_roundoff=TF32_ROUNDOFF).ok
    assert not check_outputs([out], far, known, operand_roundoff=TF32_ROUNDOFF).ok


OPERATIONS = [
    *("add", "sub", "mul", "div", "max", "min", "pow"),
    *(
        "neg",
        "abs",
        "relu",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "tanh",
        "sigmoid",
        "erf",
        "sin",
        "sinh",
        "cosh",
    ),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_errors_go_through_operations(operation: str, seed: int) -> None:
    """Of positive numbers and their errors, a hundredth at the most."""
    generator = np.random.default_rng(seed)
    entry = OPERATION_TABLE[operation]
    operands = [generator.uniform(0.3, 3, 50) for _ in range(entry.arity)]
    errors = [generator.uniform(0, 0.01, 50) for _ in range(entry.arity)]
    exact = entry.evaluate(*operands)
    allowed = passed_on(operation, exact, operands, errors)
    for signs in product((-1, 1), repeat=entry.arity):
        moved = [one + sign * error for one, sign, error in zip(operands, signs, errors, strict=True)]
        assert (np.abs(entry.evaluate(*moved) - exact) <= 1.04 * allowed + 1e-12).all(), (
            "but for what is of second order"
        )
    assert (allowed <= 100 * sum(errors)).all()


def test_derivatives_may_differ_as_the_reference_does_from_itself() -> None:
    out, reference = tensor("y", 2), np.array([1.0, 1.0], np.float32)
    near = {"y": np.array([1.0, 1.01], np.float32)}
    assert not check_outputs([out], near, {"y": reference}).ok
    disturbed = {"y": np.array([1.0, 0.995], np.float32)}
    assert check_outputs([out], near, {"y": reference}, disturbed).ok
    assert not check_outputs([out], {"y": np.array([1.0, 1.5], np.float32)}, {"y": reference}, disturbed).ok
    for edge in (np.nan, np.inf):  # switches nothing off
        wild = {"y": np.array([1.0, edge], np.float32)}
        assert not check_outputs([out], {"y": np.array([7.0, -50.0], np.float32)}, {"y": reference}, wild).ok
