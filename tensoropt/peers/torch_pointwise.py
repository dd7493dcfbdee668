"""ONNX operators that work element by element, without attributes, as PyTorch functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch

Function = Callable[..., Any]


def _quotient(left: Any, right: Any) -> Any:
    """Integers are divided towards zero."""
    return torch.div(left, right, rounding_mode=None if left.is_floating_point() else "trunc")


def _folded(function: Function) -> Function:
    """A function of two operands for any number of them."""
    return lambda *values: reduce(function, values)


POINTWISE: Mapping[str, Function] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _quotient,
    "Mod": torch.remainder,
    "Pow": torch.pow,
    "Sum": _folded(torch.add),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Sign": torch.sign,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Relu": torch.relu,
    "PRelu": lambda value, slope: torch.where(value < 0, value * slope, value),
    "Where": torch.where,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "Identity": lambda value: value,
    "Dropout": lambda value, *given: value,
}
"""By the name of the ONNX operator."""
