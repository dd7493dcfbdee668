"""The vocabulary of library operators: what each computes, as an expression built from its parameters.

A match of an expression is proved by building the operator that it should be and comparing canonical keys, so an operator that
is named with the wrong stride, padding or layout is none. Operands are tensors or scopes; a layout gives a letter for each of
their axes, and a dot for an axis that is read at 0. Reading outside an operand gives 0, which is what padding means here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

from tensoropt.ir.expression import Access, Apply, Cast, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

Source = Tensor | Scope
Parameter = int | tuple[int, ...] | str
Parameters = tuple[tuple[str, Parameter], ...]


class Operator(Protocol):
    """A library operator with its parameters."""

    @property
    def name(self) -> str:
        """The operator's name; operators with other parameters have the same."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Names and values, all that ``operator_named`` needs."""
        ...

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """What the operator computes of its operands, accumulated in a type."""
        ...


@dataclass(frozen=True, slots=True)
class _Parametric:
    @property
    def parameters(self) -> Parameters:
        """The fields, in their order."""
        return tuple((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Matmul(_Parametric):
    """``L<b, m, n> Σ<k> P[b, m, k]·Q[b, k, n]``.

    The layouts are orders of ``bmk`` and ``bkn``; an operand may lack b, and without b in either there is no batch.
    """

    batch: int
    m: int
    n: int
    k: int
    left: str
    right: str

    @property
    def name(self) -> str:
        """With or without a batch."""
        return "batch_matmul" if "b" in self.left + self.right else "matmul"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``. ValueError for a batch that no operand has."""
        if self.batch != 1 and self.name == "matmul":
            raise ValueError(f"no operand has the {self.batch} elements of the batch")
        axes = {"b": Iterator("b", self.batch), "m": Iterator("m", self.m), "n": Iterator("n", self.n)}
        axes["k"] = Iterator("k", self.k)
        outer = [axes[letter] for letter in ("bmn" if self.name == "batch_matmul" else "mn")]
        return _contraction(outer, [axes["k"]], operands, (self.left, self.right), axes, dtype)


@dataclass(frozen=True, slots=True)
class Convolution(_Parametric):
    """``L<i, g, f, y…> Σ<c, r…> D[i, g, c, s·y + d·r − p…]·K[g, f, c, r…]`` in 1 to 3 dimensions.

    ``filters`` and ``channels`` are those of all groups; without groups there is no g. Positive dilations; pads may be negative at
    the end. Layouts name spatial axes ``0``, ``1``, ``2``. One channel and one filter in each group make it depthwise.
    """

    images: int
    filters: int
    channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]
    groups: int
    data: str
    weights: str

    @property
    def name(self) -> str:
        """A depthwise one has a name of its own."""
        return "depthwise_convolution" if self.groups > 1 and self.channels == self.groups else "convolution"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``. ValueError where the groups do not divide channels and filters."""
        if self.filters % self.groups or self.channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.channels} channels and {self.filters} filters")
        axes: dict[str, Iterator | Index] = {
            "i": (image := Iterator("i", self.images)),
            "g": (group := Iterator("g", self.groups)),
            "f": (filter_ := Iterator("f", self.filters // self.groups)),
            "c": (channel := Iterator("c", self.channels // self.groups)),
        }
        seen, taps, rows = dict(axes), dict(axes), []
        for place, extent in enumerate(self.kernel):
            size = int(operands[0].shape[self.data.index(str(place))])
            stride, dilation, begin = self.strides[place], self.dilations[place], self.pads_begin[place]
            count = (size + begin + self.pads_end[place] - dilation * (extent - 1) - 1) // stride + 1
            rows.append(Iterator(f"y{place}", count))
            taps[str(place)] = tap = Iterator(f"r{place}", extent)
            seen[str(place)] = Index.of(rows[-1]) * stride + Index.of(tap) * dilation - begin
        grouped = "g" in self.data + self.weights
        if self.groups > 1 and not grouped:
            raise ValueError(f"no operand has the {self.groups} groups")
        reduction = [channel, *(tap for letter, tap in taps.items() if letter.isdigit() and isinstance(tap, Iterator))]
        body = _product(_read(operands[0], self.data, seen), _read(operands[1], self.weights, taps), dtype)
        return Scope([image, *([group] if grouped else []), filter_, *rows], body, reduction, Reducer.SUM)


@dataclass(frozen=True, slots=True)
class BandMatmul(_Parametric):
    """``L<b, m, w> Σ<k> P[b, m, k]·Q[b, m + d·w − o, k]``: the diagonals of a product, general by general to a band.

    w numbers the ``width`` diagonals, ``offset`` o is where they begin before the main one: (width − 1)·d / 2 for a window
    that is centred, 0 for one that looks ahead only. Layouts name the axis of m in both operands ``m``.
    """

    batch: int
    m: int
    width: int
    k: int
    dilation: int
    offset: int
    left: str
    right: str

    name: ClassVar[str] = "band_matmul"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``."""
        b, m, w = Iterator("b", self.batch), Iterator("m", self.m), Iterator("w", self.width)
        k = Iterator("k", self.k)
        diagonal = Index.of(m) + Index.of(w) * self.dilation - self.offset
        left = _read(operands[0], self.left, {"b": b, "m": m, "k": k})
        right = _read(operands[1], self.right, {"b": b, "m": diagonal, "k": k})
        return Scope([b, m, w], _product(left, right, dtype), [k], Reducer.SUM)


@dataclass(frozen=True, slots=True)
class MatmulBand(_Parametric):
    """``L<b, m, n> Σ<w> P[b, m, w]·Q[b, m + d·w − o, n]``: a band by general, as ``BandMatmul`` has them."""

    batch: int
    m: int
    n: int
    width: int
    dilation: int
    offset: int
    left: str
    right: str

    name: ClassVar[str] = "matmul_band"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``."""
        b, m, n = Iterator("b", self.batch), Iterator("m", self.m), Iterator("n", self.n)
        w = Iterator("w", self.width)
        diagonal = Index.of(m) + Index.of(w) * self.dilation - self.offset
        left = _read(operands[0], self.left, {"b": b, "m": m, "w": w})
        right = _read(operands[1], self.right, {"b": b, "m": diagonal, "n": n})
        return Scope([b, m, n], _product(left, right, dtype), [w], Reducer.SUM)


@dataclass(frozen=True, slots=True)
class Reduction(_Parametric):
    """``L<x…> reducer<r…> P[x…, r…]``: whole axes of one operand folded. ``layout`` has an ``x`` or an ``r`` for each axis."""

    reducer: str
    layout: str

    name: ClassVar[str] = "reduction"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``."""
        (operand,) = operands
        axes = [
            (letter, Iterator(f"{letter}{place}", int(extent)))
            for place, (letter, extent) in enumerate(zip(self.layout, operand.shape, strict=True))
        ]
        read = Access(operand, [axis for _, axis in axes])
        body = read if operand.dtype is dtype else Cast(read, dtype)
        outer, inner = ([axis for found, axis in axes if found == letter] for letter in "xr")
        return Scope(outer, body, inner, Reducer(self.reducer))


@dataclass(frozen=True, slots=True)
class ElementWise(_Parametric):
    """``L<x…> operation(P[x…], Q[x…], …)`` over operands of one shape."""

    operation: str

    name: ClassVar[str] = "element_wise"

    def expression(self, operands: Sequence[Source], dtype: DataType) -> Scope:
        """See ``Operator``."""
        axes = [Iterator(f"x{place}", int(extent)) for place, extent in enumerate(operands[0].shape)]
        reads = [Access(operand, axes) for operand in operands]
        return Scope(axes, Apply(self.operation, *reads))


_CLASSES: Mapping[str, type[_Parametric]] = {
    "matmul": Matmul,
    "batch_matmul": Matmul,
    "convolution": Convolution,
    "depthwise_convolution": Convolution,
    "band_matmul": BandMatmul,
    "matmul_band": MatmulBand,
    "reduction": Reduction,
    "element_wise": ElementWise,
}

NAMES = tuple(_CLASSES)
"""The names of all operators."""


def operator_named(name: str, parameters: Parameters) -> Operator:
    """The operator of a name with parameters as ``Operator.parameters`` gives them. KeyError for a name that is none."""
    made = _CLASSES[name](**dict(parameters))
    assert isinstance(made, Matmul | Convolution | BandMatmul | MatmulBand | Reduction | ElementWise)
    return made


def _contraction(
    outer: Sequence[Iterator],
    inner: Sequence[Iterator],
    operands: Sequence[Source],
    layouts: Sequence[str],
    axes: Mapping[str, Iterator],
    dtype: DataType,
) -> Scope:
    left, right = (_read(operand, layout, axes) for operand, layout in zip(operands, layouts, strict=True))
    return Scope(outer, _product(left, right, dtype), inner, Reducer.SUM)


def _read(operand: Source, layout: str, axes: Mapping[str, Iterator | Index]) -> Access:
    return Access(operand, [0 if letter == "." else axes[letter] for letter in layout])


def _product(left: Access, right: Access, dtype: DataType) -> Scalar:
    return Apply("mul", *(read if read.dtype is dtype else Cast(read, dtype) for read in (left, right)))
