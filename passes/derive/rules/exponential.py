"""The pair of exponentials and their sum in softmax: blockwise with maxima of their own, shifted, and divided late.

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); Dao and others, "FlashAttention" (2022).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from passes.derive.polynomials import product_of
from tensoropt.ir.expression import (
    Access,
    Apply,
    Constant,
    Reducer,
    Scalar,
    Scope,
    accesses,
    free_iterators,
    substitute,
)
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType
from tensoropt.rewrite.rule import Refusal, Site

_LOWEST = {
    dtype: Constant(float(np.finfo(kind).min), dtype)
    for dtype, kind in (
        (DataType.FLOAT16, np.float16),
        (DataType.FLOAT32, np.float32),
        (DataType.FLOAT64, np.float64),
    )
}
"""The least finite number of each type that has exponentials."""


@dataclass(frozen=True, slots=True)
class BlockExponentials:
    """``Σ<q, t> exp(a(q, t) − b)·v(q, t)  =  Σ<q> exp(c(q) − b) · { L<q> Σ<t> exp(a(q, t) − c(q))·v(q, t) }[q]``.

    c(q) = max({ L<q> max<t> a(q, t) }[q], lowest), the block's maximum; b sees neither q nor t. ``lowest`` is the least finite
    number: a block of −∞ (masked) then adds 0 instead of NaN. a reads nothing outside its source, so that no padding takes part
    in a maximum. The online form of softmax and attention.
    """

    name: str = "block_exponentials"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each single reduction iterator as the block, where others stay."""
        if len(scope.reduction) > 1:
            for iterator in scope.reduction:
                yield Site.of(iterators=(iterator.name,))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula; the site names t."""
        names = set(site.names("iterators"))
        inner = tuple(iterator for iterator in scope.reduction if iterator.name in names)
        outer = tuple(iterator for iterator in scope.reduction if iterator.name not in names)
        if len(inner) != len(names) or not inner or not outer:
            return Refusal("the site does not name a proper part of the reduction")
        if scope.reducer is not Reducer.SUM:
            return Refusal("only a sum of exponentials is rescaled")
        factors = product_factors(scope.body)
        found = [factor for factor in factors if is_exponential(factor)]
        if len(found) != 1:
            return Refusal("the summand does not have exactly one exponential")
        value, shift = _difference(found[0])
        if shift is None:
            return Refusal("the exponential has no shift")
        if free_iterators(shift) & set(scope.reduction):
            return Refusal("the shift depends on the reduction")
        if not set(inner) & free_iterators(value):
            return Refusal("the exponent does not see the block")
        if any(not access.stays_inside for access in accesses(value)):
            return Refusal("the exponent reads outside its source, which a block's maximum would see")
        own = tuple(iterator for iterator in scope.traversal if iterator in free_iterators(value))
        blocks = tuple(iterator for iterator in outer if iterator in free_iterators(value))
        lowest = _LOWEST.get(scope.dtype)
        if lowest is None:
            return Refusal(f"no exponentials of {scope.dtype.value}")
        maxima = Scope((*blocks, *own), value, tuple(i for i in inner if i in free_iterators(value)), Reducer.MAX)
        top = Apply("max", Access(maxima, maxima.traversal, lowest), lowest)
        rest = [factor for factor in factors if factor is not found[0]]
        moved = [factor for factor in rest if not free_iterators(factor) & set(inner)]
        summand = product_of([Apply("exp", Apply("sub", value, top)), *(f for f in rest if f not in moved)])
        part = Scope((*outer, *scope.traversal), summand, inner)
        body = product_of([Apply("exp", Apply("sub", top, shift)), *moved, Access(part, part.traversal)])
        return Scope(scope.traversal, body, outer)


@dataclass(frozen=True, slots=True)
class ShiftToMaximum:
    """``exp(a(j) − b) / { Σ<j> exp(a(j) − b) }  =  exp(a(j) − m) / { Σ<j> exp(a(j) − m) }``, m = { max<j> a(j) }.

    b, if there is one, does not see j: a quotient of exponentials does not change with the shift. With the maximum nothing
    overflows and the sum is at least 1.
    """

    name: str = "shift_to_maximum"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: the body is the quotient."""
        if isinstance(scope.body, Apply) and scope.body.operation == "div":
            yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        body = scope.body
        if not isinstance(body, Apply) or body.operation != "div" or scope.reduction:
            return Refusal("not a quotient at every point")
        above, below = body.arguments
        if not is_exponential(above) or not isinstance(below, Access) or not isinstance(below.source, Scope):
            return Refusal("not an exponential over a sum")
        total = below.source
        if total.reducer is not Reducer.SUM or not is_exponential(total.body) or not below.stays_inside:
            return Refusal("the divisor is no sum of exponentials")
        value, shift = _difference(above)
        summed, summed_shift = _difference(total.body)
        if summed_shift is not None and free_iterators(summed_shift) & set(total.reduction):
            return Refusal("the shift depends on what is summed")
        if any(not access.stays_inside for access in accesses(summed)):
            return Refusal("the exponent reads outside its source, which a maximum would see")
        outside = _LOWEST.get(scope.dtype)
        if outside is None:
            return Refusal(f"no exponentials of {scope.dtype.value}")
        mapping = dict(zip(total.traversal, below.indices, strict=True))
        if (None if summed_shift is None else substitute(summed_shift, mapping)) is not shift:
            return Refusal("numerator and divisor are not shifted alike")
        top = Scope(total.traversal, summed, total.reduction, Reducer.MAX)
        if isinstance(summed_shift, Access) and summed_shift.source is top:
            return Refusal("the shift is the maximum already")
        lower = Access(top, total.traversal, outside)
        upper = Access(top, below.indices, outside)
        new_total = Scope(total.traversal, Apply("exp", Apply("sub", summed, lower)), total.reduction)
        divisor = Access(new_total, below.indices, below.outside)
        return Scope(scope.traversal, Apply("div", Apply("exp", Apply("sub", value, upper)), divisor))


def is_exponential(node: Scalar) -> bool:
    """Whether a scalar is an exponential."""
    return isinstance(node, Apply) and node.operation == "exp"


def _difference(node: Scalar) -> tuple[Scalar, Scalar | None]:
    """What an exponential is of, and what is subtracted there."""
    assert isinstance(node, Apply)
    inside = node.arguments[0]
    if isinstance(inside, Apply) and inside.operation == "sub":
        return inside.arguments[0], inside.arguments[1]
    return inside, None
