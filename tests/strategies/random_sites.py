"""Random sites for rules: those that they and the search suggest, those with an argument changed, and arguments drawn freely."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from passes.derive.proposals import proposals
from tensoropt.ir.expression import Scope, Tensor, accesses
from tensoropt.rewrite.rule import Argument, Rule, Site
from tests.strategies.random_scopes import Maker


def suggested(rule: Rule, scope: Scope) -> list[Site]:
    """The rule's own sites, and those that the search would propose."""
    found = dict.fromkeys(rule.sites(scope))
    for move in proposals(scope):
        found |= {site: None for name, site in move if name == rule.name}
    return list(found)


def _names(maker: Maker, scope: Scope) -> tuple[str, ...]:
    names = [iterator.name for iterator in (*scope.traversal, *scope.reduction)]
    return tuple(maker.some(names)[:2]) or ("x",)


def _name(maker: Maker, scope: Scope) -> str:
    return maker.pick([iterator.name for iterator in (*scope.traversal, *scope.reduction)] or ["x"])


def _terms(maker: Maker, scope: Scope) -> tuple[tuple[str, int], ...]:
    return tuple((name, maker.pick((1, -1, 2, -2, 3))) for name in _names(maker, scope))


def _place(maker: Maker, scope: Scope) -> int:
    return maker.random.randint(0, max(0, len(accesses(scope.body)) - 1))


def _few(maker: Maker) -> tuple[int, ...]:
    return tuple(maker.some((0, 1, 2), 1))


def _axis(maker: Maker) -> int:
    return maker.random.randint(0, 2)


def _concatenation(maker: Maker, scope: Scope) -> Site:
    iterator = maker.pick(scope.traversal) if scope.traversal else None
    before, after = maker.random.randint(0, 2), maker.random.randint(0, 2)
    parts: list[Argument] = []
    for place, access in enumerate(accesses(scope.body)):
        axes = [axis for axis, index in enumerate(access.indices) if iterator in index.iterators()]
        if isinstance(access.source, Tensor) and (axes or maker.chance(6)):
            ahead = (("V", before),) if before else ()
            behind = (("U", after + maker.chance(9)),) if after else ()
            text = "x".join(str(int(extent)) for extent in access.source.shape)
            key = f"{place}_{text}_{axes}{access.source.dtype.value}"
            named = [tuple((f"{name}{key}_{width}", width) for name, width in side) for side in (ahead, behind)]
            if not maker.chance(8):
                parts.append((place, *named))
    return Site.of(iterator=iterator.name if iterator else "x", before=before, after=after, parts=tuple(parts))


def _layers(maker: Maker, scope: Scope) -> Site:
    before, after = maker.random.randint(0, 2), maker.random.randint(0, 2)
    parts: list[Argument] = []
    for place, access in enumerate(accesses(scope.body)):
        if isinstance(access.source, Tensor) and maker.chance(2):
            text = "x".join(str(int(extent)) for extent in access.source.shape) + access.source.dtype.value
            names = tuple(f"L{place}_{text}_{other}" for other in range(before + after + maker.chance(12)))
            parts.append((place, names))
    return Site.of(before=before, after=after, parts=tuple(parts), stacked=())


FREE: dict[str, Callable[[Maker, Scope], Site]] = {
    "split": lambda m, s: Site.of(iterator=_name(m, s), factor=m.random.randint(1, 5), offset=m.random.randint(-1, 4)),
    "skew": lambda m, s: Site.of(iterator=_name(m, s), sign=m.pick((1, -1, 1, -1, 2)), terms=_terms(m, s)),
    "relax": lambda m, s: Site.of(iterator=_name(m, s), before=m.random.randint(-1, 2), after=m.random.randint(-1, 2)),
    "stage": lambda m, s: Site.of(iterators=_names(m, s)),
    "merge": lambda m, s: Site.of(access=_place(m, s)),
    "compact_window": lambda m, s: Site.of(iterator=_name(m, s), access=_place(m, s), axis=_axis(m)),
    "group_factors": lambda m, s: Site.of(term=m.random.randint(0, 1), factors=_few(m)),
    "flatten_product": lambda m, s: Site.of(access=_place(m, s)),
    "divide_by_reciprocal": lambda m, s: Site.of(term=m.random.randint(0, 1), factor=_axis(m)),
    "distribute": lambda m, s: Site.of(term=m.random.randint(0, 1), factor=_axis(m)),
    "separate_terms": lambda m, s: Site.of(access=_place(m, s)),
    "group_terms": lambda m, s: Site.of(terms=_few(m)),
    "concatenate": _concatenation,
    "stack": _layers,
    "cut_range": lambda m, s: Site.of(iterator=_name(m, s), at=m.random.randint(0, 6)),
    "join_ranges": lambda m, s: Site.of(iterator=_name(m, s)),
    "collapse_traversal": lambda m, s: Site.of(terms=_terms(m, s)),
    "split_overlapping": lambda m, s: Site.of(iterator=_name(m, s), factor=m.pick((2, 2, 3)), offset=m.pick((0, 0, 1))),
    "view_residues": lambda m, s: Site.of(access=_place(m, s), axis=_axis(m), factor=m.random.randint(1, 4)),
    "block_exponentials": lambda m, s: Site.of(iterators=_names(m, s)),
    "divide_after": lambda m, s: Site.of(factor=_axis(m)),
    "winograd": lambda m, s: Site.of(iterator=_name(m, s), tap=_name(m, s), factor=m.random.randint(1, 5)),
}
"""Arguments drawn freely, most of which a rule refuses; by the rule's name or its first word. Rules without any take none."""


FAMILIES_OF: dict[str, tuple[str, ...]] = {
    "compact_window": ("contraction", "windows", "products"),
    "skew_reduction": ("contraction", "windows"),
    "split_reduction": ("contraction", "closed"),
    "relax_reduction": ("contraction", "closed"),
    "group_factors": ("products", "polynomial"),
    "scale_source": ("products", "matmul", "polynomial"),
    "divide_by_reciprocal": ("quotients", "polynomial"),
    "divide_after": ("quotients",),
    "distribute": ("polynomial",),
    "distribute_sum": ("polynomial",),
    "separate_terms": ("polynomial",),
    "group_terms": ("polynomial",),
    "join_ranges": ("ranges",),
    "collapse_traversal": ("windows", "contraction"),
    "split_overlapping": ("closed",),
    "block_exponentials": ("exponentials",),
    "shift_to_maximum": ("softmax",),
    "winograd": ("correlation",),
    "match_matmul": ("matmul",),
    "match_convolution": ("windows",),
    "match_band_matmul": ("band",),
    "match_matmul_band": ("band",),
}
"""Families of expressions in which a rule has work to do; of those not named here, all."""


def free(rule: str, maker: Maker, scope: Scope) -> Site | None:
    """A site drawn freely; None for a rule of which only its own sites are known."""
    draw = FREE.get(rule) or FREE.get(rule.partition("_")[0])
    return draw(maker, scope) if draw else None


def changed(site: Site, maker: Maker, scope: Scope) -> Site:
    """A site with one argument changed: a number a little, a name to another one, a list shorter, longer or in another order."""
    if not site.arguments:
        return site
    place = maker.random.randrange(len(site.arguments))
    arguments = list(site.arguments)
    name, value = arguments[place]
    others = [other for key, other in arguments if key != name and isinstance(other, tuple)]
    arguments[place] = name, _changed(value, maker, scope, others)
    return Site(tuple(arguments))


def _changed(value: Argument, maker: Maker, scope: Scope, others: list[tuple[Argument, ...]]) -> Argument:
    if isinstance(value, int):
        return value + maker.pick((-1, 1, 2))
    if isinstance(value, str):
        if value in ("left", "right", "outer"):
            return maker.pick(("left", "right", "outer"))
        named = any(value == iterator.name for iterator in (*scope.traversal, *scope.reduction))
        if named:
            return _name(maker, scope)
        letters = [letter for letter in value if not maker.chance(3)]
        return "".join(letters) or value
    items = list(value)
    match maker.random.randrange(4):
        case 0 if items:
            items.pop(maker.random.randrange(len(items)))
        case 1 if items:
            at = maker.random.randrange(len(items))
            items[at] = _changed(items[at], maker, scope, others)
        case 2 if others:
            items += list(maker.pick(others))[:1]
        case _:
            maker.random.shuffle(items)
    return tuple(items)


def random_site(rule: Rule, scope: Scope, random: Random) -> Site | None:
    """A site for the rule, mostly one that it suggests; None where there is none."""
    maker = Maker(random)
    found = suggested(rule, scope)
    drawn = free(rule.name, maker, scope)
    if found and (drawn is None or not maker.chance(3)):
        site = maker.pick(found)
        return changed(site, maker, scope) if maker.chance(4) else site
    return drawn
