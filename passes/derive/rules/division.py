"""Divisions by what a sum does not see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.polynomials import product_of
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, free_iterators
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class DivideAfter:
    """``Σ<j> (f(x, j) / g(x)) · h(x, j)  =  { Σ<j> f(x, j)·h(x, j) }[x] / g(x)``, where g does not see j.

    One division for each sum instead of one for each summand.
    """

    name: str = "divide_after"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each factor that is a quotient."""
        for position, factor in enumerate(product_factors(scope.body)):
            if isinstance(factor, Apply) and factor.operation == "div":
                yield Site.of(factor=position)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        if scope.reducer is not Reducer.SUM:
            return Refusal("only a sum is divided as a whole")
        factors = product_factors(scope.body)
        position = site.place("factor")
        quotient = factors[position] if position < len(factors) else None
        if not isinstance(quotient, Apply) or quotient.operation != "div":
            return Refusal("the factor is no quotient")
        if not scope.dtype.is_float:
            return Refusal("a division of integers rounds")
        above, below = quotient.arguments
        if free_iterators(below) & set(scope.reduction):
            return Refusal("the divisor depends on the reduction")
        factors[position] = above
        inner = Scope(scope.traversal, product_of(factors), scope.reduction)
        return Scope(scope.traversal, Apply("div", Access(inner, scope.traversal), below))
