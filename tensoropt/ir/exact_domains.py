"""The domains of exact evaluation, and which one gives expressions a meaning.

* ``PRIME``: the field Z_p with p = 2³¹ − 1, for add, sub, mul, neg, division, sums and products. Two different polynomials of
  degree d agree at a random point with probability at most d/p (Schwartz, Zippel).
* ``INTEGER``: signed integers, and rationals as soon as a division or a fraction appears, where order matters (max, min, relu,
  comparison, where).
* ``PAIRED``: pairs in Z_p × Z_q with p = 2·q + 1 and exp(x) = g^x, for exp, sums and division; what exp gives has no second
  part, so exp of it is refused.

Functions that no rule knows anything of (tanh, say) are in ``PRIME`` and ``PAIRED`` some random function of their operand: equal
operands give equal results and nothing else does. Beside exp, max and min are associative, commutative and idempotent and no
more, as if numbers were ordered at random; relu is the maximum with 0. What holds for these holds for the true ones.

A mixture that fits none is refused. Rounding, wrapping of integers, 0·NaN and 0·∞ are outside the algebra.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from math import isfinite, isinf
from typing import Any

from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    Reducer,
    Scalar,
    Scope,
    children,
    scopes,
)
from tensoropt.ir.structure import is_of_indices
from tensoropt.ir.types import DataType

PRIME = 2**31 - 1
SAFE_PRIME = 2147483579  # p = 2·q + 1 with q prime, the largest below 2³¹
SUBGROUP = (SAFE_PRIME - 1) // 2

Value = tuple[Any, ...]
"""Arrays, one for each part of a domain; the second of ``PAIRED`` is None where it is not defined."""


class Domain(Enum):
    """Where an exact evaluation takes place; the value is what a certificate records."""

    PRIME = "Z_p, p = 2^31 - 1"
    INTEGER = "integers and rationals"
    PAIRED = "Z_p x Z_q, p = 2q + 1"


class DomainRefusal(Exception):
    """The expressions have no exact meaning in any domain (or none in the one asked for); the text says why."""


UNKNOWN = frozenset(
    {"log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"}
    | {"asinh", "acosh", "atanh", "pow", "atan2", "fmod", "mod"}
)
"""Operations of which nothing is known but that equal operands give equal results."""

ROUNDING = frozenset({"abs", "sign", "floor", "ceil", "trunc", "round"})
"""Operations that have a meaning of their own among integers; beside exp nothing is known of them."""

_RING = frozenset({"add", "sub", "mul", "neg", "where"})
_FIELD = _RING | {"div", "reciprocal"}
_ORDERED = _FIELD | {"max", "min", "relu", "abs", "sign", "floor", "ceil", "trunc", "eq", "ne", "lt", "le", "gt", "ge"}
_ORDERED |= {"not", "and", "or", "xor"}
_OPERATORS = {
    Domain.PRIME: _FIELD | UNKNOWN,
    Domain.INTEGER: _ORDERED,
    Domain.PAIRED: _FIELD | UNKNOWN | ROUNDING | {"exp", "max", "min", "relu"},
}
_REDUCERS = {
    Domain.PRIME: frozenset({Reducer.SUM, Reducer.PROD}),
    Domain.INTEGER: frozenset(Reducer),
    Domain.PAIRED: frozenset(Reducer),
}


def choose_domain(roots: Iterable[Scope]) -> Domain:
    """The first domain that gives all the scopes a meaning; DomainRefusal names what stands against each."""
    inner = {scope: None for root in roots for scope in scopes(root)}
    reasons = []
    for domain in Domain:
        reason = next((found for scope in inner if (found := _misfit(scope, domain)) is not None), None)
        if reason is None:
            return domain
        reasons.append(f"{domain.value}: {reason}")
    raise DomainRefusal("; ".join(reasons))


def _misfit(scope: Scope, domain: Domain) -> str | None:
    if scope.reducer is not None and scope.reducer not in _REDUCERS[domain]:
        return f"no {scope.reducer.value} over values"
    return _scalar_misfit(scope.body, domain)


def is_static(node: Scalar) -> bool:
    """Whether the value depends on iterators only: an integer or truth value computed without data."""
    return not node.dtype.is_float and is_of_indices(node)


def _scalar_misfit(node: Scalar, domain: Domain) -> str | None:
    if is_static(node):
        return None
    match node:
        case Apply() if node.operation not in _OPERATORS[domain]:
            return f"no {node.operation} of values"
        case Apply() if node.operation == "where" and domain is not Domain.INTEGER and not is_static(node.arguments[0]):
            return "no where that looks at values"
        case Apply() if node.operation in ("div", "reciprocal", "mod", "fmod", "pow") and not node.dtype.is_float:
            return "integer division rounds"
        case Cast() if node.argument.dtype.is_float and not node.dtype.is_float:
            return "a conversion to integers rounds"
        case Access() | Constant() if node.dtype is DataType.BOOL and domain is not Domain.INTEGER:
            return "no truth values"
        case Access() if domain is not Domain.INTEGER and not isfinite(node.outside.value):
            return "no infinity"
        case Constant() if not isfinite(node.value) and not (domain is Domain.INTEGER and isinf(node.value)):
            return f"no {node.value}"
        case _:
            found = (_scalar_misfit(operand, domain) for operand in children(node))
            return next((reason for reason in found if reason is not None), None)
