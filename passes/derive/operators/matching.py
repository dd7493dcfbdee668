"""Matching: which library operator a rule built, with all its parameters read off its expression and proved."""

from __future__ import annotations

from dataclasses import dataclass

from passes.derive.operators.product import factor_accesses
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Apply, Scope, accesses
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.operators import (
    BandMatmul,
    Convolution,
    ElementWise,
    Matmul,
    MatmulBand,
    Operator,
    Parameters,
    Reduction,
    operator_named,
)
from tensoropt.ir.structure import view_source


@dataclass(frozen=True, slots=True)
class LibraryMatch:
    """A scope recognised as a library operator.

    ``expression`` is the operator applied to its operands. The proof of the match is that the operator built from
    ``parameters`` over the same operands has its canonical key. ``relayouts`` are the scopes that bring operands into place, empty
    where they lie so already.
    """

    operator: str
    parameters: Parameters
    expression: Scope
    relayouts: tuple[Scope, ...]

    @property
    def key(self) -> str:
        """The canonical key of the operator built anew from its name and parameters."""
        operands = [access.source for access in accesses(self.expression.body)]
        built = operator_named(self.operator, self.parameters).expression(operands, self.expression.dtype)
        return canonical_key(built)

    @property
    def is_proved(self) -> bool:
        """Whether the operator that is named is the expression."""
        return self.key == canonical_key(self.expression)

    def __str__(self) -> str:
        shown = (f"{name}={value}" for name, value in self.parameters if name not in ("data", "weights"))
        return f"{self.operator}({', '.join(shown)})"


def describe(rule: str, library: Scope) -> LibraryMatch | None:
    """The operator that a library rule built; None where what its parameters say is not what stands there."""
    read = _READERS[rule]
    operator = read(library, *_operands(library))
    relayouts = tuple(
        access.source
        for access in _operands(library)
        if isinstance(access.source, Scope) and view_source(access.source) is None
    )
    match = LibraryMatch(operator.name, operator.parameters, library, relayouts)
    return match if match.is_proved else None


def recognised(expression: Scope) -> LibraryMatch | None:
    """A fold of whole axes or an operation on whole operands that a statement is as it stands; None for anything else."""
    operator: Operator | None = None
    body = expression.body
    if expression.reducer is not None and isinstance(body, Access):
        taken = [index.terms[0][0] if len(index.terms) == 1 else None for index in body.indices]
        layout = "".join("r" if atom in expression.reduction else "x" for atom in taken)
        operator = Reduction(expression.reducer.value, layout)
    elif expression.reducer is None and isinstance(body, Apply):
        reads = [one for one in body.arguments if isinstance(one, Access) and one.source.shape == expression.shape]
        operator = ElementWise(body.operation) if reads and len(reads) == len(body.arguments) else None
    if operator is None:
        return None
    match = LibraryMatch(operator.name, operator.parameters, expression, ())
    return match if match.is_proved else None


def _operands(library: Scope) -> tuple[Access, Access]:
    factors = factor_accesses(library)
    assert factors is not None
    return factors


def _extents(library: Scope) -> dict[str, int]:
    return {iterator.name: iterator.extent for iterator in (*library.traversal, *library.reduction)}


def _layout(access: Access) -> str:
    """A letter for each axis: that of its iterator, a dot where it is read at a constant."""
    return "".join(_letter(index) for index in access.indices)


def _letter(index: Index) -> str:
    (name,) = [atom.name for atom, _ in index.terms if isinstance(atom, Iterator)] or ["."]
    return name


def _matmul(library: Scope, left: Access, right: Access) -> Operator:
    sizes = _extents(library)
    return Matmul(sizes.get("b", 1), sizes["m"], sizes["n"], sizes["k"], _layout(left), _layout(right))


def _convolution(library: Scope, data: Access, weights: Access) -> Operator:
    sizes = _extents(library)
    groups, taps = sizes.get("g", 1), library.reduction[1:]
    places = [next(axis for axis, index in enumerate(data.indices) if index.coefficient(tap)) for tap in taps]
    windows = [data.indices[place] for place in places]
    layout = ["." if index.is_constant else repr(index) for index in data.indices]
    for number, place in enumerate(places):
        layout[place] = str(number)
    rows = [next(iterator for iterator in library.traversal if index.coefficient(iterator)) for index in windows]
    return Convolution(
        images=sizes["i"],
        filters=sizes["f"] * groups,
        channels=library.reduction[0].extent * groups,
        kernel=tuple(tap.extent for tap in taps),
        strides=tuple(index.coefficient(row) for index, row in zip(windows, rows, strict=True)),
        dilations=tuple(index.coefficient(tap) for index, tap in zip(windows, taps, strict=True)),
        pads_begin=tuple(-index.constant for index in windows),
        pads_end=tuple(
            index.high - int(data.source.shape[place]) + 1 for index, place in zip(windows, places, strict=True)
        ),
        groups=groups,
        data="".join(layout),
        weights=_layout(weights).replace("r", ""),
    )


def _band_matmul(library: Scope, left: Access, right: Access) -> Operator:
    sizes, (dilation, offset, layout) = _extents(library), _band(right)
    return BandMatmul(sizes["b"], sizes["m"], sizes["w"], sizes["k"], dilation, offset, _layout(left), layout)


def _matmul_band(library: Scope, left: Access, right: Access) -> Operator:
    sizes, (dilation, offset, layout) = _extents(library), _band(right)
    return MatmulBand(sizes["b"], sizes["m"], sizes["n"], sizes["w"], dilation, offset, _layout(left), layout)


def _band(right: Access) -> tuple[int, int, str]:
    """Dilation, offset and layout of the operand that is read along a band."""
    place = next(axis for axis, index in enumerate(right.indices) if len(index.terms) == 2)
    index = right.indices[place]
    tap = next(atom for atom, _ in index.terms if isinstance(atom, Iterator) and atom.name == "w")
    letters = ["m" if axis == place else _letter(other) for axis, other in enumerate(right.indices)]
    return index.coefficient(tap), -index.constant, "".join(letters)


_READERS = {
    "match_matmul": _matmul,
    "match_convolution": _convolution,
    "match_band_matmul": _band_matmul,
    "match_matmul_band": _matmul_band,
}
