"""How likely two different expressions agree at random contents: degrees of what expressions are as quotients of polynomials."""

from __future__ import annotations

from math import prod

from tensoropt.ir.exact_domains import Domain
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor, scopes

Degrees = tuple[int, int]
"""Of the numerator and of the denominator, in the elements of all tensors; upper bounds."""

_LIKELIEST = 2 / 2**31
"""How likely one element of a tensor has a given value."""


def error_bound(one: Scope, other: Scope, domain: Domain, assignments: int) -> float | None:
    """The probability that expressions that differ agree at all of so many random assignments (Schwartz, Zippel).

    For exponentials it is that of exponents that differ and agree, taking powers of a generator for random numbers. None among
    integers, where order matters: a difference may lie in a part of space that no assignment meets.
    """
    if domain is Domain.INTEGER:
        return None
    (above, below), (upper, lower) = degrees(one), degrees(other)
    once = float(max(above + lower, upper + below, 1)) * _LIKELIEST
    return min(1.0, once) ** assignments


def degrees(root: Scope) -> Degrees:
    """The degrees of the elements of a scope."""
    found: dict[Scope, Degrees] = {}
    for scope in scopes(root):
        above, below = _of(scope.body, found)
        count = prod(iterator.extent for iterator in scope.reduction)
        if scope.reducer is Reducer.PROD:
            above, below = above * count, below * count
        elif scope.reducer is Reducer.SUM and below:
            above, below = above + max(0, count - 1) * below, below * count
        found[scope] = above, below
    return found[root]


def _of(node: Scalar, found: dict[Scope, Degrees]) -> Degrees:
    match node:
        case Constant() | IndexValue():
            return 0, 0
        case Access():
            return (1, 0) if isinstance(node.source, Tensor) else found[node.source]
        case Cast():
            return _of(node.argument, found)
        case Apply():
            operands = [_of(argument, found) for argument in node.arguments]
            return _combined(node.operation, operands)


def _combined(operation: str, operands: list[Degrees]) -> Degrees:
    above, below = zip(*operands, strict=True)
    match operation:
        case "add" | "sub":
            return max(above[0] + below[1], above[1] + below[0]), below[0] + below[1]
        case "mul":
            return above[0] + above[1], below[0] + below[1]
        case "div":
            return above[0] + below[1], below[0] + above[1]
        case "reciprocal":
            return below[0], above[0]
        case "neg" | "where" | "max" | "min" | "relu":
            return max(above), max(below)
        case _:  # a random function of its operands, which are told apart with this degree
            return max(above) + max(below) + 1, 0
