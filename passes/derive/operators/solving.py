"""Sites of library operators: which iterators and operands take which place, and the equations for windows solved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from collections.abc import Iterator as Iteration
from itertools import combinations, permutations

from passes.derive.components import components
from passes.derive.operators.operands import Group, digits, fused_iterator
from passes.derive.operators.product import LEFT, OUTER, RIGHT, Operand, factors_of, is_constant, pairing, read_of
from tensoropt.ir.expression import Access, Scalar, Scope, free_iterators, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import view_source
from tensoropt.rewrite.rule import Refusal, Site


def operand_pairs(scope: Scope, constants: Collection[str]) -> Iteration[tuple[int, int, tuple[str, ...]]]:
    """Two factors that can be the operands, the first one before the second, and where each of the others goes.

    A constant factor goes along with a constant operand, where it is folded; one that does not vary with the sums stands outside;
    any other goes along with an operand that has all of its iterators.
    """
    factors = factors_of(scope)
    if factors is None:
        return
    reads = [place for place, factor in enumerate(factors) if read_of(factor) is not None]
    for first, second in combinations(reads, 2):
        operands = {LEFT: factors[first], RIGHT: factors[second]}
        rest = [factor for place, factor in enumerate(factors) if place not in (first, second)]
        carried = [_carrier(factor, operands, scope, constants) for factor in rest]
        if None not in carried:
            yield first, second, tuple(found for found in carried if found is not None)


def _carrier(factor: Scalar, operands: dict[str, Scalar], scope: Scope, constants: Collection[str]) -> str | None:
    needed = free_iterators(factor)
    fitting = [side for side, operand in operands.items() if needed <= free_iterators(operand)]
    if is_constant(factor, constants):
        folded = [side for side in fitting if is_constant(operands[side], constants)]
        if folded:
            return folded[0]
    if not needed & set(scope.reduction):
        return OUTER
    return fitting[0] if fitting else None


def in_order_of(access: Access, iterators: Collection[Iterator]) -> Group:
    """The iterators in the order in which the axes of the access hold them, coarser ones first."""
    places: dict[Iterator, tuple[int, int]] = {}
    for axis, index in enumerate(access.indices):
        for iterator in index.iterators():
            places.setdefault(iterator, (axis, -abs(index.coefficient(iterator))))
    return tuple(
        sorted(iterators, key=lambda iterator: (*places.get(iterator, (len(access.indices), 0)), iterator.name))
    )


def several(iterators: Iterable[Iterator]) -> set[Iterator]:
    """Those with several elements; one of a single element stands in no index, and wherever it goes nothing changes."""
    return {iterator for iterator in iterators if iterator.extent != 1}


def parted(parts: Iterable[Iterator], whole: Iterable[Iterator]) -> bool:
    """Whether the parts hold each iterator of several elements of the whole exactly once: named twice, it would be summed twice."""
    counted = [Counter(iterator for iterator in found if iterator.extent != 1) for found in (parts, whole)]
    return counted[0] == counted[1]


def matmul_sites(scope: Scope, constants: Collection[str] = ()) -> Iteration[Site]:
    """Sites of ``MatchMatmul``: each operand on the left, and what leads the activation also as a batch."""
    if not scope.reduction:
        return
    for first, second, carried in operand_pairs(scope, constants):
        pair = pairing(scope, first, second, carried)
        assert not isinstance(pair, Refusal)
        yield from _matmuls(scope, (pair.left, pair.right), (first, second), carried, constants)


def _matmuls(
    scope: Scope,
    operands: tuple[Operand, Operand],
    places: tuple[int, int],
    carried: tuple[str, ...],
    constants: Collection[str],
) -> Iteration[Site]:
    in_left, in_right = operands[0].iterators, operands[1].iterators
    traversal, reduction = several(scope.traversal), several(scope.reduction)
    shared = traversal & in_left & in_right
    if not reduction <= in_left & in_right or not traversal <= in_left | in_right:
        return
    moving = next((place for place in (0, 1) if not is_constant(operands[place].access, constants)), 0)
    activation, weights = operands[moving].access, operands[1 - moving].access
    sums = in_order_of(activation, reduction)
    of_activation = in_order_of(activation, (traversal & operands[moving].iterators) - shared)
    of_weights = in_order_of(weights, (traversal & operands[1 - moving].iterators) - shared)
    batch = in_order_of(activation, shared)
    leads = [()] if batch else [(), _leading(activation, of_activation, sums)]
    for lead in dict.fromkeys(leads):
        rest = tuple(iterator for iterator in of_activation if iterator not in lead)
        own = (*batch, *lead)
        activation_text = _best_layout(activation, {"b": own, "x": rest, "k": sums}, "bxk" if own else "xk")
        weights_text = _best_layout(weights, {"b": batch, "x": of_weights, "k": sums}, "bxk" if batch else "xk")
        for activation_left in (False, True):
            rows, columns = (rest, of_weights) if activation_left else (of_weights, rest)
            left, right = (activation_text, weights_text) if activation_left else (weights_text, activation_text)
            one = moving if activation_left else 1 - moving
            yield Site.of(
                first=places[one],
                second=places[1 - one],
                carried=carried if one == 0 else _exchanged(carried),
                batch=_names(own),
                rows=_names(rows),
                columns=_names(columns),
                sums=_names(sums),
                left=left.replace("x", "m"),
                right=right.replace("x", "n"),
            )


def _exchanged(carried: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({LEFT: RIGHT, RIGHT: LEFT}.get(place, place) for place in carried)


def _leading(access: Access, group: Group, sums: Group) -> Group:
    """What stands before the reductions in an operand with more after them: a batch, as the images of NCHW are."""
    axes = {iterator: axis for axis, index in enumerate(access.indices) for iterator in index.iterators()}
    first = min((axes[iterator] for iterator in sums if iterator in axes), default=0)
    lead = tuple(iterator for iterator in group if axes.get(iterator, first) < first)
    return lead if len(lead) < len(group) else ()


def _names(group: Iterable[Iterator]) -> tuple[str, ...]:
    return tuple(iterator.name for iterator in group)


def _best_layout(access: Access, groups: dict[str, Group], letters: str) -> str:
    """The order of the operand's axes in which it already lies, if there is one, else the given one."""
    axes = {letter: fused_iterator(letter, groups[letter]) for letter in letters}
    mapping: dict[Iterator, Index] = {}
    for letter in letters:
        mapping |= digits(axes[letter], groups[letter])
    moved = substitute(access, mapping)
    if free_iterators(moved) <= set(axes.values()):
        for order in permutations(letters):
            if view_source(Scope([axes[letter] for letter in order], moved)) is not None:
                return "".join(order)
    return letters


def convolution_sites(scope: Scope, constants: Collection[str] = ()) -> Iteration[Site]:
    """Sites of ``MatchConvolution``; with constants known, the kernel is one of them."""
    for one, other, carried in operand_pairs(scope, constants):
        for data, kernel, sides in ((one, other, carried), (other, one, _exchanged(carried))):
            pair = pairing(scope, data, kernel, sides)
            assert not isinstance(pair, Refusal)
            if constants and not is_constant(pair.right.access, constants):
                continue
            groups = _solve_convolution(scope, pair.left, pair.right)
            if groups is not None:
                yield Site.of(
                    data=data, kernel=kernel, carried=sides, **{name: _names(group) for name, group in groups.items()}
                )


def _solve_convolution(scope: Scope, data: Operand, kernel: Operand) -> dict[str, Group] | None:
    in_data, in_kernel = data.iterators, kernel.iterators
    spatial: list[Iterator] = []
    taps: list[Iterator] = []
    for index in data.access.indices:
        windows = [terms for terms in components(index) if len(terms) > 1]
        if not windows:
            continue
        atoms = [atom for atom, _ in windows[0]]
        rows = [atom for atom in atoms if isinstance(atom, Iterator) and atom in scope.traversal]
        sums = [atom for atom in atoms if isinstance(atom, Iterator) and atom in scope.reduction]
        if len(windows) > 1 or len(atoms) != 2 or len(rows) != 1 or len(sums) != 1:
            return None
        if index.coefficient(rows[0]) < 0 or rows[0] in in_kernel or sums[0] not in in_kernel:
            return None
        spatial.append(rows[0])
        taps.append(sums[0])
    both = {*spatial, *taps}
    if any(len(index.iterators() & both) not in (0, 2) for index in data.access.indices):
        return None
    if not spatial or len(set(spatial)) < len(spatial) or len(set(taps)) < len(taps):
        return None
    traversal, reduction = several(scope.traversal), several(scope.reduction)
    channels = reduction - set(taps)
    if not channels <= in_data & in_kernel or not traversal <= in_data | in_kernel:
        return None
    return {
        "images": in_order_of(data.access, traversal - in_kernel - set(spatial)),
        "groups": in_order_of(data.access, traversal & in_data & in_kernel),
        "filters": in_order_of(kernel.access, traversal - in_data),
        "channels": in_order_of(data.access, channels),
        "spatial": tuple(spatial),
        "taps": tuple(taps),
    }


def band_sites(scope: Scope, inner: Group, constants: Collection[str] = ()) -> Iteration[Site]:
    """Sites of ``MatchBandMatmul`` (diagonals among the traversals) or ``MatchMatmulBand`` (diagonals summed over).

    In one index of one operand a component of exactly a row, which both operands have, and a diagonal.
    """
    for one, other, carried in operand_pairs(scope, constants):
        for first, second, sides in ((one, other, carried), (other, one, _exchanged(carried))):
            pair = pairing(scope, first, second, sides)
            assert not isinstance(pair, Refusal)
            for row, tap in _bands(scope, pair.left, pair.right):
                if tap not in inner:
                    continue
                rest = (several(scope.traversal) | several(scope.reduction)) - {row, tap}
                if tap in scope.traversal:
                    free, name, left, right = rest & set(scope.reduction), "sums", "bmk", "bmk"
                else:
                    free, name, left, right = rest - pair.left.iterators, "columns", "bmw", "bmn"
                batch = rest - free
                if not batch <= pair.left.iterators & pair.right.iterators or batch & set(scope.reduction):
                    continue
                yield Site.of(
                    first=first,
                    second=second,
                    carried=sides,
                    row=row.name,
                    diagonal=tap.name,
                    batch=_names(in_order_of(pair.left.access, batch)),
                    left=left,
                    right=right,
                    **{name: _names(in_order_of(pair.right.access, free))},
                )


def _bands(scope: Scope, left: Operand, right: Operand) -> Iteration[tuple[Iterator, Iterator]]:
    for index in right.access.indices:
        for terms in components(index):
            atoms = [atom for atom, _ in terms if isinstance(atom, Iterator)]
            if len(terms) == 2 and len(atoms) == 2:
                for row, tap in (atoms, reversed(atoms)):
                    if row in scope.traversal and row in left.iterators:
                        yield row, tap
