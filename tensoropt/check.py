"""The check: a compiled model against ONNX Runtime, end to end and statement by statement.

End to end, every output of f32 must agree within 1e-4 of the output's maximum. Derivatives are not continuous (a rectifier's mask
and a pooling's choice turn over with the last bit of what they compare), so those of a training step may differ by as much as the
reference's own do when its inputs are changed in their last bits. Statement by statement, each kernel is run on the
reference's inputs and compared with the reference's value within the bound that follows from its reduction length and precision
(``ir.error_analysis``), which sees a single dropped bias that the end of a network hides. NaN equals NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensoropt.ir.error_analysis import CONFIDENCE, Estimate, chain_length, error_bound, estimate_at, unit_roundoff
from tensoropt.ir.expression import Tensor
from tensoropt.ir.operand_rounding import OperandRounding
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.types import DataType

END_TO_END = {DataType.FLOAT16: 2e-2, DataType.BFLOAT16: 1e-1, DataType.FLOAT32: 1e-4, DataType.FLOAT64: 1e-10}
"""Largest difference end to end, as a share of the output's maximum."""

SENSITIVITY = 4.0
"""By how much more than the reference under one random change in the last bits a derivative may differ."""

SAMPLED_POINTS = 48
"""Elements of each statement whose magnitude is computed exactly."""

Execute = Callable[[Statement, Mapping[str, Array]], Mapping[str, Array]]
"""Runs one statement on given values and returns what it assigns."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one value is from the reference; ``allowed`` is absolute."""

    name: str
    max_abs_error: float
    max_rel_error: float
    allowed: float
    origin: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the difference is allowed. A NaN is not."""
        return self.max_abs_error <= self.allowed


@dataclass(frozen=True, slots=True)
class CheckResult:
    """All differences. ``ok`` is None where nothing could be run, with the reason."""

    outputs: tuple[Difference, ...] = ()
    statements: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether everything agrees."""
        return None if self.reason else all(difference.ok for difference in (*self.outputs, *self.statements))

    @property
    def worst(self) -> Difference | None:
        """The first statement that differs, else the first output that does."""
        return next((difference for difference in (*self.statements, *self.outputs) if not difference.ok), None)

    def as_json(self) -> dict[str, Any]:
        """The ``check`` object of ``--json``."""
        return {
            "max_abs_error": max((difference.max_abs_error for difference in self.outputs), default=0.0),
            "max_rel_error": max((difference.max_rel_error for difference in self.outputs), default=0.0),
            "ok": self.ok,
            "statements_checked": len(self.statements),
            "max_share_of_bound": max((_share(difference) for difference in self.statements), default=0.0),
            "warnings": list(self.warnings),
            **({"reason": self.reason} if self.reason else {}),
        }


def _share(difference: Difference) -> float:
    if difference.max_abs_error == 0:
        return 0.0
    return difference.max_abs_error / difference.allowed if difference.allowed else float("inf")


def difference(name: str, result: Array, reference: Array, allowed: float, origin: tuple[str, ...] = ()) -> Difference:
    """The largest difference of two arrays; infinite where shapes differ or only one of them is NaN or infinite."""
    if result.shape != reference.shape:
        return Difference(name, np.inf, np.inf, allowed, origin)
    ours, theirs = (np.asarray(array).astype(np.float64) for array in (result, reference))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(all="ignore"):
        gaps = np.where(same, 0.0, np.abs(ours - theirs))
    gap = float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))
    finite = np.abs(theirs[np.isfinite(theirs)])
    largest = float(finite.max(initial=0.0))
    return Difference(name, gap, gap / largest if largest else (0.0 if gap == 0 else np.inf), allowed, origin)


def check_outputs(
    outputs: Iterable[Tensor],
    results: Mapping[str, Array],
    references: Mapping[str, Array],
    disturbed: Mapping[str, Array] | None = None,
    operand_roundoff: float = 0.0,
) -> CheckResult:
    """The outputs of the whole model against the reference's; ``disturbed`` are the reference's on ``last_bits_changed`` inputs.

    ``operand_roundoff``: by which share operands of sums of products of f32 may have been rounded, to the digits of an f16.
    """
    found: list[Difference] = []
    warnings: list[str] = []
    for tensor in dict.fromkeys(outputs):
        reference = references[tensor.name]
        if tensor.dtype.is_float and np.isnan(reference.astype(np.float64)).any():
            warnings.append(f"output {tensor.name} holds NaN, which counts as equal to NaN")
        rounded = operand_roundoff and tensor.dtype is DataType.FLOAT32
        allowed = END_TO_END.get(DataType.FLOAT16 if rounded else tensor.dtype, 0.0) * _largest(reference)
        if disturbed is not None and tensor.dtype.is_float:
            allowed = max(allowed, SENSITIVITY * _largest(_changes(disturbed[tensor.name], reference)))
        found.append(difference(tensor.name, results[tensor.name], reference, allowed))
    return CheckResult(tuple(found), warnings=tuple(warnings))


def _changes(one: Array, other: Array) -> Array:
    """The differences of what is finite in both, so that no edge switches the check off."""
    with np.errstate(all="ignore"):
        return np.asarray(one).astype(np.float64) - np.asarray(other).astype(np.float64)


def check_statements(
    program: Program,
    execute: Execute,
    references: Mapping[str, Array],
    seed: int = 0,
    skip: Sequence[str] = (),
    operand_roundoff: float = 0.0,
) -> tuple[Difference, ...]:
    """Every statement on the reference's inputs against the reference's value.

    ``references`` holds the inputs and every intermediate of the model that the reference can give. A value that the model does
    not have (one that a derivation introduced) is computed from reference values by the statements before it, and its rounding
    is added to the bound of those that read it. ``skip`` names values that are not compared. ``operand_roundoff`` as in
    ``check_outputs``.
    """
    values: dict[str, Array] = {**program.constants, **references}
    terms: dict[str, int] = {}
    carried: dict[str, float] = {}
    rounding = OperandRounding(operand_roundoff, carried) if operand_roundoff else None
    found: list[Difference] = []
    for statement in program.statements:
        results = execute(statement, values)
        inherited = sum(terms.get(tensor.name, 0) for tensor in statement.inputs)
        for tensor in statement.outputs:
            result = results[tensor.name]
            reference = references.get(tensor.name)
            if reference is None or tensor.name in skip:
                values[tensor.name] = result
                own = chain_length(statement.expression) if isinstance(statement, Compute) else 1
                terms[tensor.name] = inherited + own
                if rounding is not None and isinstance(statement, Compute):
                    estimate = _sampled(statement, result, values, seed, rounding)
                    carried[tensor.name] = _largest(estimate.error)
            else:
                allowed = statement_bound(statement, tensor, values, reference, inherited, seed, rounding)
                found.append(difference(tensor.name, result, reference, allowed, statement.origin))
    return tuple(found)


def statement_bound(
    statement: Statement,
    tensor: Tensor,
    values: Mapping[str, Array],
    reference: Array,
    inherited: int,
    seed: int,
    rounding: OperandRounding | None = None,
) -> float:
    """The largest difference that rounding explains: both sides err, and the magnitude is that of the largest sampled element.

    Twice the largest sampled magnitude stands for the largest of all elements. The reference rounds no operands.
    """
    roundoff = unit_roundoff(tensor.dtype)
    if roundoff == 0.0 or reference.size == 0:
        return 0.0
    if not isinstance(statement, Compute):
        return CONFIDENCE * 32 * roundoff * _largest(reference)
    estimate = _sampled(statement, reference, values, seed, rounding)
    magnitude = 2 * max(_largest(estimate.magnitude), _largest(reference))
    summed = error_bound(statement.expression, magnitude, chain_length(statement.expression) + inherited)
    return float(2 * summed + 2 * _largest(estimate.error))


def _sampled(
    statement: Compute, like: Array, values: Mapping[str, Array], seed: int, rounding: OperandRounding | None
) -> Estimate:
    """Some elements of a statement's value, which has the shape of ``like``."""
    generator = np.random.default_rng(seed)
    count = min(SAMPLED_POINTS, like.size)
    flat = (
        generator.choice(like.size, count, replace=False)
        if like.size < 1 << 20
        else generator.integers(0, like.size, count)
    )
    positions = tuple(np.asarray(axis, np.int64) for axis in np.unravel_index(flat, like.shape)) if like.ndim else ()
    return estimate_at(statement.expression, positions, values, rounding)


def _largest(array: Array) -> float:
    finite = np.abs(np.asarray(array).astype(np.float64))
    return float(finite[np.isfinite(finite)].max(initial=0.0))


def random_feeds(inputs: Iterable[Tensor], seed: int) -> dict[str, Array]:
    """Inputs for a check: standard normal floats, small non-negative integers  (0 and 1), coin flips."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for tensor in inputs:
        shape = tuple(int(extent) for extent in tensor.shape)
        if tensor.dtype.is_float:
            feeds[tensor.name] = generator.standard_normal(shape).astype(tensor.dtype.numpy)
        else:
            feeds[tensor.name] = generator.integers(0, 2, shape).astype(tensor.dtype.numpy)
    return feeds


def last_bits_changed(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The inputs with every float changed by a random share of one unit in its last place."""
    generator = np.random.default_rng(seed)
    changed: dict[str, Array] = {}
    for name, array in feeds.items():
        dtype = DataType.from_numpy(array.dtype)
        share = generator.uniform(-1, 1, array.shape) * 2 * unit_roundoff(dtype)
        changed[name] = (array * (1 + share)).astype(array.dtype) if dtype.is_float else array
    return changed
