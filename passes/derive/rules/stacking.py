"""Expressions of one form and shape as the layers of one: merging along a new axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import fresh_iterator
from passes.derive.polynomials import sum_of
from tensoropt.ir.expression import Access, Scalar, Scope, Tensor, accesses, map_scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Argument, Refusal, Site


@dataclass(frozen=True, slots=True)
class Stack:
    """``L<x> red<r> f(W)  =  { L<i, x> red<r> f({ L<i, z> V[z]·[i = 0] + W[z]·[i = 1] + U[z]·[i = 2] }[i]) }[1, x]``.

    V and U are any other tensors of the type of W, for one access or several at once; [i = j] is spelled as a layer that is 0
    outside. Accesses to what was stacked before follow the new axis. For any f and any reducer.
    """

    name: str = "stack"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """None: which tensors are the other layers is known to the program only."""
        return ()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. ``parts`` name the other tensors for each access, ``stacked`` the accesses that follow."""
        before, after = site.integer("before"), site.integer("after")
        if before < 0 or after < 0 or before + after == 0:
            return Refusal("there are no other layers")
        reads = accesses(scope.body)
        layer = fresh_iterator("i", before + 1 + after, (*scope.traversal, *scope.reduction))
        replaced: dict[int, Scalar] = {}
        for position in site.integers("stacked"):
            if position >= len(reads):
                return Refusal("no such access here")
            read = reads[position]
            if not read.indices or read.indices[0] is not Index.of(before) or read.source.shape[0] != layer.extent:
                return Refusal("the access does not read this layer of as many")
            replaced[position] = Access(read.source, (Index.of(layer), *read.indices[1:]), read.outside)
        for position, names in _parts(site.argument("parts")):
            if position >= len(reads) or position in replaced:
                return Refusal("no such access here")
            source = reads[position].source
            if not isinstance(source, Tensor) or len(names) != before + after:
                return Refusal("a part is a tensor with one other for each other layer")
            layers = [Tensor(name, source.type) for name in names]
            layers.insert(before, source)
            stacked = _stacked(layers)
            replaced[position] = Access(stacked, (Index.of(layer), *reads[position].indices), reads[position].outside)
        inner = Scope((layer, *scope.traversal), _with_reads(scope.body, replaced), scope.reduction, scope.reducer)
        return Scope(scope.traversal, Access(inner, (Index.of(before), *scope.traversal)))


def _parts(argument: Argument) -> list[tuple[int, tuple[str, ...]]]:
    """Pairs of an access and the names of the other tensors."""
    assert isinstance(argument, tuple)
    parts = []
    for part in argument:
        assert isinstance(part, tuple)
        site = Site.of(access=part[0], names=part[1])
        parts.append((site.integer("access"), site.names("names")))
    return parts


def _stacked(layers: list[Tensor]) -> Scope:
    """The tensors side by side along a new first axis."""
    axes = [Iterator(f"a{axis}", int(extent)) for axis, extent in enumerate(layers[0].shape)]
    layer, single = Iterator("layer", len(layers)), Iterator("single", 1)
    terms: list[tuple[int, Scalar]] = []
    for place, tensor in enumerate(layers):
        alone = Scope((single, *axes), Access(tensor, axes))
        terms.append((1, Access(alone, (Index.of(layer) - place, *axes))))
    return Scope((layer, *axes), sum_of(terms))


def _with_reads(body: Scalar, reads: dict[int, Scalar]) -> Scalar:
    """The body with some accesses, counted from the left, replaced."""
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if not isinstance(node, Access):
            return node
        count += 1
        return reads.get(count, node)

    return map_scalar(body, leaf)
