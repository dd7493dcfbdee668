"""Whether a candidate computes the right thing: its outputs against the interpreter at single points, and against the reference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice, product
from math import prod

import numpy as np

from tensoropt.ir.error_analysis import error_bound, estimate_at
from tensoropt.ir.exact_domains import is_static
from tensoropt.ir.expression import Scalar, Scope, Tensor, accesses, children, scopes
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.operand_rounding import OperandRounding
from tensoropt.ir.program import Array, Compute, Statement
from tensoropt.ir.types import DataType

TOLERANCE = 1e-3
"""Largest difference of several kernels one after another from others, as a share of the maximum: another order of summation, not
another result."""

_POINTS = 64
"""Elements that are compared with the interpreter: corners first, then random ones."""
_WORK = 1 << 24
"""Additions that these may take together."""
_MOST_WORK = 1 << 27
"""An element that takes more is not computed."""
_WHOLE = 1 << 22
"""Points of a kernel with integer arithmetic, which the interpreter evaluates as a whole, as only it wraps as integers do."""


def seeded(tensor: Tensor, largest: int | None = None, counted: bool = False) -> Array:
    """Reproducible values: integers of at most ``largest`` in absolute value, or standard normal floats where that is None.

    Integer tensors hold 0 and 1 where these may count something (``counted``) or ``largest`` is None.
    """
    digest = hashlib.blake2b(f"{tensor.name} {tensor.type}".encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest))
    shape = tuple(int(extent) for extent in tensor.shape)
    if tensor.dtype.is_float and largest is None:
        return generator.standard_normal(shape, np.float32).astype(tensor.dtype.numpy)
    if (
        largest is None
        or (counted and not tensor.dtype.is_float)
        or not (tensor.dtype.is_float or tensor.dtype.is_integer)
    ):
        return generator.integers(0, 2, shape).astype(tensor.dtype.numpy)
    least = 0 if tensor.dtype.value.startswith("u") else -largest
    return generator.integers(least, largest + 1, shape).astype(tensor.dtype.numpy)


class Judge:
    """What the outputs of one alternative are measured by: its statements and the values that they read.

    A single kernel is compared with the interpreter at single points. ``problem`` says what is wrong, nothing where all is right.
    ``operand_roundoff``: by which share operands of sums of products of f32 may be rounded.
    """

    def __init__(
        self, kernels: Sequence[Statement], values: Mapping[str, Array], operand_roundoff: float = 0.0
    ) -> None:
        self.kernels = tuple(kernels)
        self._kernel = kernels[0] if len(kernels) == 1 and isinstance(kernels[0], Compute) else None
        self._values, self._roundoff = values, operand_roundoff
        self._points: tuple[Array, ...] = ()
        self._expected: Array | None = None
        self.allowed: float | None = None
        """What rounding explains, for a single kernel of which that is known."""
        if self._kernel is not None:
            self._sample(self._kernel)

    def problem(
        self, actual: Mapping[str, Array], reference: Mapping[str, Array] | None, exact: bool, growth: float
    ) -> str:
        """See the class. ``reference`` holds the outputs of what is known to be right, by name."""
        if self._kernel is not None:
            wrong = self._differs_at_points(actual[self._kernel.output.name], exact, growth)
            if wrong:
                return f"{self._kernel.output.name} {wrong}"
        for name, expected in (reference or {}).items():
            result = actual.get(name)
            if result is None or result.shape != expected.shape:
                return f"{name} has another shape"
            if exact:
                wrong = _differs(result, expected)
            else:
                known = self._tolerance * _largest(expected) if self.allowed is None else 2 * self.allowed
                allowed = growth * known
                wrong = _differs(result, expected, max(allowed, 1e-30))
            if wrong:
                return f"{name} {wrong}"
        return ""

    @property
    def _tolerance(self) -> float:
        return TOLERANCE + 2 * self._roundoff

    def _sample(self, kernel: Compute) -> None:
        expression = kernel.expression
        work = max(1, _work(expression))
        shape = tuple(int(extent) for extent in expression.shape)
        count = min(_POINTS, max(1, _WORK // work), prod(shape))
        if count == 0:
            return
        if not _follows_floats(expression):
            if _size(expression) <= _WHOLE:
                self._points = _chosen(shape, count)
                self._expected = np.asarray(evaluate(expression, self._values)[self._points]).reshape(-1)
            return
        if work > _MOST_WORK:
            return
        self._points = _chosen(shape, count)
        rounding = OperandRounding(self._roundoff) if self._roundoff else None
        estimate = estimate_at(expression, self._points, self._values, rounding)
        with np.errstate(all="ignore"):
            self._expected = estimate.value.astype(expression.dtype.numpy)
        magnitude = 2 * max(_largest(estimate.magnitude), _largest(estimate.value))
        self.allowed = float(2 * error_bound(expression, magnitude) + 2 * _largest(estimate.error))

    def _differs_at_points(self, actual: Array, exact: bool, growth: float) -> str:
        if self._expected is None:
            return ""
        found = actual[self._points] if actual.ndim else actual.reshape(1)
        allowed = self._tolerance * _largest(self._expected) if self.allowed is None else self.allowed
        wrong = _differs(found, self._expected, None if exact else max(growth * allowed, 1e-30))
        return f"{wrong} from the interpreter's" if wrong else ""


def _differs(actual: Array, expected: Array, allowed: float | None = None) -> str:
    """How two arrays differ by more than is allowed (None: at all, but for the sign of zero); nothing where they do not."""
    ours, theirs = actual.astype(np.float64), expected.astype(np.float64)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    if same.all():
        return ""
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return "differs in NaN"
    with np.errstate(all="ignore"):
        gap = float(np.where(same, 0.0, np.abs(ours - theirs)).max())
    if allowed is not None and gap <= allowed:
        return ""
    return f"differs by {gap:.3g} of {_largest(expected):.3g} in {int((~same).sum())} of {same.size} elements"


def _largest(array: Array) -> float:
    wide = np.abs(array.astype(np.float64))
    return float(wide[np.isfinite(wide)].max(initial=0.0))


def _chosen(shape: tuple[int, ...], count: int) -> tuple[Array, ...]:
    """Positions of elements, an array for each axis: corners, where boundaries meet, and random ones."""
    corners = list(islice(product(*({0, extent - 1} for extent in shape)), max(1, count // 4)))
    generator = np.random.default_rng(len(shape))
    random = [tuple(int(generator.integers(extent)) for extent in shape) for _ in range(count - len(corners))]
    return tuple(np.array(axis, np.int64) for axis in zip(*corners, *random, strict=True)) if shape else ()


def _follows_floats(expression: Scope) -> bool:
    """Whether the values are floats throughout, so that evaluation in f64 means the same; integers may stand for positions."""
    for scope in scopes(expression):
        if scope.dtype.is_integer or (scope.reducer is not None and not scope.dtype.is_float):
            return False
        pending: list[Scalar] = [scope.body]
        while pending:
            node = pending.pop()
            if node.dtype.is_integer and not (is_static(node) and node.dtype in (DataType.INT32, DataType.INT64)):
                return False
            pending += children(node)
    return True


def _size(expression: Scope) -> int:
    """Points of scalar arithmetic of a scope and of those nested in it."""
    return sum(
        scope.type.elements * prod(iterator.extent for iterator in scope.reduction) for scope in scopes(expression)
    )


def _work(expression: Scope) -> int:
    """Points that are visited for one element, nested scopes at each of theirs."""
    inner = [_work(access.source) for access in accesses(expression.body) if isinstance(access.source, Scope)]
    return prod(iterator.extent for iterator in expression.reduction) * (1 + sum(inner))
