"""How far results may move because sums of products of f32 round their operands, as tensor cores do with tf32.

These errors are absolute, and bounds: all operands may err in one direction by as much as they can, and scalar operations pass
errors on by how steep they are. Everything else that rounds is in ``error_analysis``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensoropt.ir.expression import Reducer, Scope
from tensoropt.ir.program import Array
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType

TF32_DIGITS = 11
"""Binary digits of a tf32 number, as f16 has them; its exponents are those of f32."""
TF32_ROUNDOFF = 2.0**-TF32_DIGITS

_STEEPEST = {"erf": 2 / np.sqrt(np.pi), "tanh": 1.0, "sigmoid": 0.25}
"""How much steeper than the identity they get."""


@dataclass(frozen=True, slots=True)
class OperandRounding:
    """Each operand errs by at most the share ``roundoff``. ``carried``: how far values err that were computed so, by name."""

    roundoff: float = TF32_ROUNDOFF
    carried: Mapping[str, float] = field(default_factory=dict)

    def of_products(self, size: Array, passed_on: Array) -> Array:
        """The errors of products of an absolute value, whose operands are rounded when they have errors already."""
        return passed_on + self.roundoff * (2 + self.roundoff) * (size + passed_on)


def rounds_operands(scope: Scope) -> bool:
    """Whether a scope is a sum of products of f32."""
    summed = scope.reducer is Reducer.SUM and scope.dtype is DataType.FLOAT32
    return summed and len(product_factors(scope.body)) >= 2


def passed_on(operation: str, result: Array, operands: Sequence[Array], errors: Sequence[Array]) -> Any:
    """The errors of a scalar operation's results, by those of its operands."""
    sizes = [np.abs(operand) for operand in operands]
    size = np.abs(result)
    match operation:
        case "mul":
            first, second = errors
            return _times(sizes[0], second) + _times(sizes[1], first) + first * second
        case "div":
            return (errors[0] + _times(size, errors[1])) / sizes[1]
        case "max" | "min" | "fmod" | "mod":
            return np.maximum(errors[0], errors[1])
        case "neg" | "abs" | "relu":
            return errors[0]
        case "exp":
            return _times(size, np.expm1(errors[0]))
        case "sinh" | "cosh":
            return _times(np.cosh(operands[0]), np.expm1(errors[0]))
        case "log":
            return errors[0] / sizes[0]
        case "sqrt":
            return np.minimum(errors[0] / np.maximum(size, 1e-30), np.sqrt(errors[0]))
        case "rsqrt" | "reciprocal":
            return _times(size, errors[0]) / sizes[0]
        case "pow":
            ends = sizes[0] + errors[0], np.maximum(sizes[0] - errors[0], 0)
            moved = [np.abs(end ** operands[1] - sizes[0] ** operands[1]) for end in ends]
            return np.maximum(*moved) + _times(size * np.abs(np.log(sizes[0])), errors[1])
        case "where":  # a condition turns over where both are about the same, if what is computed is continuous
            either, chosen = np.maximum(errors[1], errors[2]), np.where(operands[0] != 0, errors[1], errors[2])
            return np.where(np.isfinite(either), either, chosen)
        case _:
            return _STEEPEST.get(operation, 1.0) * sum(errors)


def _times(factor: Any, error: Any) -> Any:
    """A product in which no error times infinity is none: of what a mask makes infinite."""
    return np.where(error == 0, 0.0, factor * error)
