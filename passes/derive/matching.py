"""Matching: which library operators a core is, with all their parameters solved for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Iterator as Iteration
from dataclasses import dataclass
from itertools import permutations

from passes.derive.patterns import Group, MatchConvolution, MatchMatmul, digits, factor_accesses, fused_iterator, used
from passes.derive.proposals import components
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Scope, Tensor, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import view_source
from tensoropt.rewrite.rule import Site


@dataclass(frozen=True, slots=True)
class LibraryMatch:
    """A scope recognised as a library operator.

    ``expression`` is the operator applied to its operands; its canonical key is that of the operator built from
    ``parameters``, which is the proof of the match. ``relayouts`` are the scopes that bring operands into place, empty where
    they lie so already.
    """

    operator: str
    parameters: tuple[tuple[str, int | tuple[int, ...] | str], ...]
    expression: Scope
    relayouts: tuple[Scope, ...]

    @property
    def key(self) -> str:
        """The canonical key of the operator's expression."""
        return canonical_key(self.expression)

    def __str__(self) -> str:
        return f"{self.operator}({', '.join(f'{name}={value}' for name, value in self.parameters)})"


def in_order_of(access: Access, iterators: Collection[Iterator]) -> Group:
    """The iterators in the order in which the axes of the access hold them, coarser ones first."""
    places: dict[Iterator, tuple[int, int]] = {}
    for axis, index in enumerate(access.indices):
        for iterator in index.iterators():
            places.setdefault(iterator, (axis, -abs(index.coefficient(iterator))))
    return tuple(
        sorted(iterators, key=lambda iterator: (*places.get(iterator, (len(access.indices), 0)), iterator.name))
    )


def matmul_sites(scope: Scope, constants: Collection[str] = ()) -> Iteration[Site]:
    """Sites of ``MatchMatmul``: each operand on the left, and what leads the activation also as a batch."""
    factors = factor_accesses(scope)
    if factors is None or not scope.reduction:
        return
    in_left, in_right = used(factors[0]), used(factors[1])
    traversal, reduction = set(scope.traversal), set(scope.reduction)
    if not reduction <= in_left & in_right or not traversal <= in_left | in_right:
        return
    shared = traversal & in_left & in_right
    moving = next((place for place in (0, 1) if not _is_constant(factors[place], constants)), 0)
    activation, weights = factors[moving], factors[1 - moving]
    sums = in_order_of(activation, reduction)
    of_activation = in_order_of(activation, (traversal & used(activation)) - shared)
    of_weights = in_order_of(weights, (traversal & used(weights)) - shared)
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
            yield Site.of(
                first=moving if activation_left else 1 - moving,
                batch=_names(own),
                rows=_names(rows),
                columns=_names(columns),
                sums=_names(sums),
                left=left.replace("x", "m"),
                right=right.replace("x", "n"),
            )


def _leading(access: Access, group: Group, sums: Group) -> Group:
    """What stands before the reductions in an operand with more after them: a batch, as the images of NCHW are."""
    axes = {iterator: axis for axis, index in enumerate(access.indices) for iterator in index.iterators()}
    first = min(axes[iterator] for iterator in sums)
    lead = tuple(iterator for iterator in group if axes[iterator] < first)
    return lead if len(lead) < len(group) else ()


def _is_constant(access: Access, constants: Collection[str]) -> bool:
    return isinstance(access.source, Tensor) and access.source.name in constants


def _names(group: Iterable[Iterator]) -> tuple[str, ...]:
    return tuple(iterator.name for iterator in group)


def _best_layout(access: Access, groups: dict[str, Group], letters: str) -> str:
    """The order of the operand's axes in which it already lies, if there is one, else the given one."""
    axes = {letter: fused_iterator(letter, groups[letter]) for letter in letters}
    mapping: dict[Iterator, Index] = {}
    for letter in letters:
        mapping |= digits(axes[letter], groups[letter])
    moved = substitute(access, mapping)
    for order in permutations(letters):
        if view_source(Scope([axes[letter] for letter in order], moved)) is not None:
            return "".join(order)
    return letters


def convolution_sites(scope: Scope, constants: Collection[str] = ()) -> Iteration[Site]:
    """Sites of ``MatchConvolution``; with constants known, the kernel is one of them."""
    factors = factor_accesses(scope)
    if factors is None:
        return
    for first in (0, 1):
        data, kernel = factors[first], factors[1 - first]
        if constants and not _is_constant(kernel, constants):
            continue
        site = _solve_convolution(scope, data, kernel, first)
        if site is not None:
            yield site


def _solve_convolution(scope: Scope, data: Access, kernel: Access, first: int) -> Site | None:
    in_data, in_kernel = used(data), used(kernel)
    spatial: list[Iterator] = []
    taps: list[Iterator] = []
    for index in data.indices:
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
    if any(len(index.iterators() & both) not in (0, 2) for index in data.indices):
        return None
    if not spatial or len(set(spatial)) < len(spatial) or len(set(taps)) < len(taps):
        return None
    traversal, reduction = set(scope.traversal), set(scope.reduction)
    channels = reduction - set(taps)
    if not channels <= in_data & in_kernel or not traversal <= in_data | in_kernel:
        return None
    groups = traversal & in_data & in_kernel
    return Site.of(
        data=first,
        images=_names(in_order_of(data, traversal - in_kernel - set(spatial))),
        groups=_names(in_order_of(data, groups)),
        filters=_names(in_order_of(kernel, traversal - in_data)),
        channels=_names(in_order_of(data, channels)),
        spatial=_names(spatial),
        taps=_names(taps),
    )


def describe(rule: str, library: Scope) -> LibraryMatch:
    """The operator that a library rule built, with its parameters read off its expression."""
    relayouts = tuple(
        access.source
        for access in _operands(library)
        if isinstance(access.source, Scope) and view_source(access.source) is None
    )
    parameters: list[tuple[str, int | tuple[int, ...] | str]] = []
    if rule == MatchMatmul().name:
        left, right = _operands(library)
        named = {iterator.name: iterator.extent for iterator in (*library.traversal, *library.reduction)}
        parameters += [("batch", named.get("b", 1)), ("m", named["m"]), ("n", named["n"]), ("k", named["k"])]
        parameters += [("left", _layout_text(left)), ("right", _layout_text(right))]
        return LibraryMatch("batch_matmul" if "b" in named else "matmul", tuple(parameters), library, relayouts)
    assert rule == MatchConvolution().name
    data, _ = _operands(library)
    named = {iterator.name: iterator.extent for iterator in library.traversal}
    taps = library.reduction[1:]
    windows = [
        (index, tap, int(extent))
        for tap in taps
        for index, extent in zip(data.indices, data.source.shape, strict=True)
        if index.coefficient(tap)
    ]
    rows = [next(iterator for iterator in library.traversal if index.coefficient(iterator)) for index, _, _ in windows]
    strides = tuple(index.coefficient(row) for (index, _, _), row in zip(windows, rows, strict=True))
    parameters += [
        ("images", named["i"]),
        ("filters", named["f"] * named.get("g", 1)),
        ("channels", library.reduction[0].extent * named.get("g", 1)),
        ("kernel", tuple(tap.extent for tap in taps)),
        ("strides", strides),
        ("dilations", tuple(index.coefficient(tap) for index, tap, _ in windows)),
        ("pads_begin", tuple(-index.constant for index, _, _ in windows)),
        ("pads_end", tuple(index.high - extent + 1 for index, _, extent in windows)),
        ("groups", named.get("g", 1)),
    ]
    return LibraryMatch("convolution", tuple(parameters), library, relayouts)


def _operands(library: Scope) -> tuple[Access, Access]:
    factors = factor_accesses(library)
    assert factors is not None
    return factors


def _layout_text(access: Access) -> str:
    return "".join(repr(index) for index in access.indices)
