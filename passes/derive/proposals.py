"""Sites that the coefficients of an expression suggest, and how far a core is from a library operator.

An index is cut into components: terms by rising coefficient, a cut wherever the terms so far are digits below what follows. A
component with several terms mixes iterators; the moves here take such components apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import combinations
from math import gcd

from passes.derive.components import Terms, components
from passes.derive.operators.product import factors_of, is_constant
from passes.derive.rules.splitting import digit_iterators
from tensoropt.ir.expression import Access, Scope, accesses, free_iterators
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.rewrite.rule import Site

Move = tuple[tuple[str, Site], ...]
"""Rules and sites applied one after the other."""


_KERNELS = (3,)
"""Kernel sizes that convolutions with larger kernels are cut to, beside half of what they have: what libraries are fastest at."""

_LARGEST_KERNEL = 32
"""Longer sums are no kernels of a convolution."""

_BLOCKS = (64, 128)
"""Sizes of the dense blocks that a band is cut into: large enough for a matmul, small enough to waste little; wide bands also
into blocks of about half their width."""


def mixed_components(core: Scope) -> list[tuple[Access, Index, Terms]]:
    """The components with several terms, with the access and the index that they stand in."""
    return [
        (access, index, terms)
        for access in accesses(core.body)
        for index in access.indices
        for terms in components(index)
        if len(terms) > 1
    ]


def distance(core: Scope, constants: Collection[str] = ()) -> int:
    """0 where the core is an operator up to relayouts and windows; else about how many moves it is away.

    A component of several iterators counts by how many there are too many, divisions too. A pair that is a window of a convolution
    or of a band counts half, for a matmul needs no windows at all; not in a constant, which is no image.
    """
    total = 0
    shared = _shared(core)
    for access in accesses(core.body):
        image = not is_constant(access, constants)
        for index in access.indices:
            for terms in components(index):
                total += 2 * (len(terms) - 1)
                total -= len(terms) == 2 and image and _is_window(core, terms, shared)
                total += sum(isinstance(atom, FloorDiv | Modulo) for atom, _ in terms)
    return total


def _shared(core: Scope) -> frozenset[Iterator]:
    """The iterators that every read has."""
    return frozenset.intersection(
        *(frozenset().union(*(index.iterators() for index in access.indices)) for access in accesses(core.body))
    )


def _is_window(core: Scope, terms: Terms, shared: frozenset[Iterator]) -> bool:
    """Whether two terms are a row and a tap: a traversal and a reduction, or a traversal of all reads and one of this."""
    found = [atom for atom, _ in terms if isinstance(atom, Iterator)]
    if len(found) < 2:
        return False
    if sum(iterator in core.reduction for iterator in found) == 1:
        return True
    return sum(iterator in shared for iterator in found) == 1 and all(iterator in core.traversal for iterator in found)


def proposals(core: Scope, constants: Collection[str] = ()) -> Iterable[Move]:
    """Moves on a core, those that most likely lead on first; each once. ``constants`` are no images of convolutions."""
    seen: dict[Move, None] = {}
    for access, index, terms in mixed_components(core):
        moves = (*_skews(core, terms), *_splits(core, index, terms), *_stagings(core, terms), *_blocks(core, terms))
        seen |= dict.fromkeys(moves)
        if not is_constant(access, constants):
            seen |= dict.fromkeys(_kernels(core, terms))
    for access in accesses(core.body):
        for index in access.indices:
            for move in _atom_splits(core, index):
                seen[move] = None
    return seen | dict.fromkeys(_groupings(core))


def _groupings(core: Scope) -> Iterable[Move]:
    """One factor, or of three and more two, that alone are summed over something: their sum becomes an operand of its own."""
    factors = factors_of(core) or ()
    sizes = (1, 2) if len(factors) > 2 else (1,)
    for chosen in (places for size in sizes for places in combinations(range(len(factors)), size)):
        rest = [free_iterators(factor) for place, factor in enumerate(factors) if place not in chosen]
        inside = frozenset.intersection(*(free_iterators(factors[place]) for place in chosen)) - frozenset().union(
            *rest
        )
        if inside & set(core.reduction):
            yield (("group_factors", Site.of(term=0, factors=chosen)),)


def _linear(terms: Terms) -> list[tuple[Iterator, int]]:
    scale = gcd(*(coefficient for _, coefficient in terms))
    return [(atom, coefficient // scale) for atom, coefficient in terms if isinstance(atom, Iterator)]


def _skew(rule: str, chosen: Iterator, linear: list[tuple[Iterator, int]]) -> tuple[str, Site]:
    sign = next(coefficient for atom, coefficient in linear if atom is chosen)
    rest = tuple((atom.name, coefficient) for atom, coefficient in linear if atom is not chosen)
    return rule, Site.of(iterator=chosen.name, sign=sign, terms=rest)


def _skews(core: Scope, terms: Terms) -> list[Move]:
    """Skews of the component as it is: its traversal part, or a reduction by the whole form."""
    linear = _linear(terms)
    units = [(atom, coefficient) for atom, coefficient in linear if abs(coefficient) == 1]
    moves: list[Move] = []
    for form in (linear, units) if 1 < len(units) < len(linear) else (linear,):
        part = [(atom, coefficient) for atom, coefficient in form if atom in core.traversal]
        if len(part) > 1:
            moves += [(_skew("skew_traversal", atom, part),) for atom, coefficient in part if abs(coefficient) == 1]
        for atom, coefficient in form:
            if atom in core.reduction and abs(coefficient) == 1:
                moves.append((_skew("skew_reduction", atom, form),))
    return moves


def _stagings(core: Scope, terms: Terms) -> list[Move]:
    """Each single reduction of the component made a traversal, and the traversal part skewed with it."""
    linear = _linear(terms)
    moves: list[Move] = []
    for staged, step in linear:
        if staged not in core.reduction or len(core.reduction) < 2:
            continue
        part = [(atom, coefficient) for atom, coefficient in linear if atom in core.traversal]
        for chosen, coefficient in part:
            if abs(coefficient) == 1:
                stage = ("stage", Site.of(iterators=(staged.name,)))
                moves.append((stage, _skew("skew_traversal", chosen, [*part, (staged, step)])))
    return moves


def _splits(core: Scope, index: Index, terms: Terms) -> list[Move]:
    """An iterator with a finer coefficient split by the ratio to a coarser one."""
    linear = _linear(terms)
    moves: list[Move] = []
    for atom, fine in linear:
        for _, coarse in linear:
            factor = abs(coarse) // abs(fine)
            if abs(coarse) % abs(fine) or factor < 2 or atom.extent <= factor:
                continue
            rule = "split_traversal" if atom in core.traversal else "split_reduction"
            sign = 1 if fine > 0 else -1
            offsets = {index.constant // abs(fine) * sign % factor, 0} if rule == "split_traversal" else {0}
            for offset in sorted(offsets, reverse=True):
                moves.append(((rule, Site.of(iterator=atom.name, factor=factor, offset=offset)),))
    return moves


def _kernels(core: Scope, terms: Terms) -> list[Move]:
    """The tap of a window ``s·h + d·r`` cut to a smaller kernel: r split by k, the coarse digit staged, h skewed with it.

    ``d·k`` is to be a multiple of s, so that h moves by whole steps: ``s·(h + (d·k/s)·r₁) + d·r₂``. A kernel of R becomes one of
    k with ⌈R/k⌉ times the filters, and the parts are added at their offsets.
    """
    if len(terms) != 2:
        return []
    rows = [(atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in core.traversal]
    taps = [(atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in core.reduction]
    moves: list[Move] = []
    for (row, stride), (tap, dilation) in zip(rows, taps, strict=False):
        for size in dict.fromkeys((*_KERNELS, -(-tap.extent // 2))):
            wasteful = 4 * size * -(-tap.extent // size) > 5 * tap.extent
            if 1 < size < tap.extent <= _LARGEST_KERNEL and not wasteful and size * dilation % stride == 0:
                high, _, _ = digit_iterators(tap, size, 0, core)
                split = "split_reduction", Site.of(iterator=tap.name, factor=size, offset=0)
                stage = "stage", Site.of(iterators=(high.name,))
                moves.append(
                    (split, stage, _skew("skew_traversal", row, [(row, 1), (high, size * dilation // stride)]))
                )
    return moves


def _blocks(core: Scope, terms: Terms) -> list[Move]:
    """A band, ``f[m, …]·g[m + w, …]``: m, which both factors read, split into blocks that are dense where the band is."""
    shared = _shared(core)
    moves: list[Move] = []
    for atom, coefficient in _linear(terms):
        if atom in core.traversal and atom in shared and abs(coefficient) == 1 and len(terms) == 2:
            width = min(other.extent for other, _ in _linear(terms))
            for block in dict.fromkeys((*_BLOCKS, max(_BLOCKS[-1], 1 << (width // 2).bit_length()))):
                if atom.extent >= 2 * block:
                    moves.append((("split_traversal", Site.of(iterator=atom.name, factor=block, offset=0)),))
    return moves


def _atom_splits(core: Scope, index: Index) -> list[Move]:
    """An iterator that is divided split by the divisor."""
    moves: list[Move] = []
    for atom, _ in index.terms:
        if isinstance(atom, FloorDiv | Modulo):
            for inner, coefficient in atom.index.terms:
                if isinstance(inner, Iterator) and abs(coefficient) == 1 and inner.extent > atom.divisor:
                    rule = "split_traversal" if inner in core.traversal else "split_reduction"
                    offset = atom.index.constant * coefficient % atom.divisor if rule == "split_traversal" else 0
                    moves.append(((rule, Site.of(iterator=inner.name, factor=atom.divisor, offset=offset)),))
    return moves
