"""Resize and Upsample: each axis is a sparse interpolation matrix, read by quasi-affine indices.

Coordinates are computed in f32 as ONNX Runtime does, so that nearest neighbours agree at ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.gather import read_table
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Statement

_LARGEST_DIVISOR = 64


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one axis is resized: extents and the input coordinate of every output position."""

    inner: int
    outer: int
    scale: float
    coordinates: Array


def lift_resize(node: Node) -> list[Statement]:
    """Nearest: one access. Linear and cubic: ``Σ<t..> x[base(i) + t ..] · W[i, t] ..`` with small weight tables."""
    mode = node.attribute("mode", "nearest")
    if node.attribute("antialias", 0) or mode not in ("nearest", "linear", "cubic"):
        raise NotExpressed(f"{mode} interpolation of this kind")
    axes = {axis: _axis(node, axis, scale) for axis, scale in _scales(node).items()}
    axes = {axis: found for axis, found in axes.items() if not _is_identity(found)}
    if mode == "nearest":
        return [_nearest(node, axes)]
    if not node.output.dtype.is_float:
        raise NotExpressed("interpolation of integers")
    weights = _linear_matrix if mode == "linear" else _cubic_matrix(node)
    return [_weighted(node, {axis: weights(found) for axis, found in axes.items()})]


def _is_identity(axis: _Axis) -> bool:
    return axis.inner == axis.outer and bool((axis.coordinates == np.arange(axis.outer)).all())


def _scales(node: Node) -> dict[int, float]:
    """The scale of each axis that takes part."""
    rank, shape = node.operand(0).rank, node.operand(0).shape
    if node.operator == "Upsample" or node.opset < 11:
        given = node.attribute("scales") if node.opset < 9 and node.operator == "Upsample" else node.constant(1)
        return {axis: float(scale) for axis, scale in enumerate(given)}
    axes = [normal_axis(axis, rank) for axis in node.integers("axes", range(rank))]
    scales, sizes = node.optional(2), node.optional(3)
    if scales is not None and scales.shape != (0,):
        return dict(zip(axes, (float(scale) for scale in node.constant(2)), strict=True))
    if sizes is None:
        raise NotExpressed("neither scales nor sizes")
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        wanted = dict(zip(axes, node.constant(3), strict=True))
        choose = min if node.attribute("keep_aspect_ratio_policy") == "not_larger" else max
        scale = choose(int(size) / shape[axis] for axis, size in wanted.items())
        return dict.fromkeys(axes, scale)
    return {axis: int(size) / shape[axis] for axis, size in zip(axes, node.constant(3), strict=True)}


def _axis(node: Node, axis: int, scale: float) -> _Axis:
    inner, outer = node.operand(0).shape[axis], node.shape[axis]
    mode = node.attribute("coordinate_transformation_mode", "half_pixel")
    if node.operator == "Upsample" or node.opset < 11:
        mode = "asymmetric"
    positions, factor, half = np.arange(outer, dtype=np.float32), np.float32(scale), np.float32(0.5)
    with np.errstate(all="ignore"):
        if mode == "half_pixel":
            coordinates = (positions + half) / factor - half
        elif mode == "pytorch_half_pixel":
            coordinates = (positions + half) / factor - half if outer > 1 else positions * 0
        elif mode == "asymmetric":
            coordinates = positions / factor
        elif mode == "align_corners":
            coordinates = positions * np.float32(inner - 1) / np.float32(outer - 1) if outer > 1 else positions * 0
        elif mode == "half_pixel_symmetric":
            adjustment = np.float32(outer) / (factor * np.float32(inner))
            offset = np.float32(inner / 2) * (1 - adjustment)
            coordinates = offset + (positions + half) / factor - half
        else:
            raise NotExpressed(f"the coordinates {mode}")
    if scale == 1 and inner == outer:
        coordinates = positions
    return _Axis(inner, outer, scale, coordinates)


def _nearest(node: Node, axes: dict[int, _Axis]) -> Statement:
    tables = {axis: _nearest_table(node, found) for axis, found in axes.items()}
    iterators = output_iterators(node.shape)

    def read(remaining: list[int], chosen: dict[int, Index]) -> Scalar:
        if not remaining:
            return node.operand(0).at(chosen.get(axis, Index.of(iterator)) for axis, iterator in enumerate(iterators))
        axis, *rest = remaining
        return read_table(tables[axis], [iterators[axis]], lambda index: read(rest, {**chosen, axis: index}))

    try:
        return node.compute(node.output, iterators, read(list(tables), {}))
    except NotExpressed:
        if not node.output.dtype.is_float:
            raise
    matrices: dict[int, Array] = {}
    for axis, table in tables.items():
        matrices[axis] = np.zeros((axes[axis].outer, axes[axis].inner))
        matrices[axis][np.arange(axes[axis].outer), table] = 1
    return _weighted(node, matrices)


def _nearest_table(node: Node, axis: _Axis) -> Array:
    where = axis.coordinates
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    if node.operator == "Upsample" or node.opset < 11:
        rounding = "ceil" if axis.scale < 1 else "floor"
    nearest: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda found: np.ceil(found - np.float32(0.5)),
        "round_prefer_ceil": lambda found: np.floor(found + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return np.clip(nearest[rounding](where), 0, axis.inner - 1).astype(np.int64)


def _linear_matrix(axis: _Axis) -> Array:
    where = np.clip(axis.coordinates.astype(np.float64), 0, axis.inner - 1)
    left = np.floor(where).astype(np.int64)
    right = np.minimum(left + 1, axis.inner - 1)
    matrix = np.zeros((axis.outer, axis.inner))
    rows = np.arange(axis.outer)
    np.add.at(matrix, (rows, left), 1 - (where - left))
    np.add.at(matrix, (rows, right), where - left)
    return matrix


def _cubic_matrix(node: Node) -> Callable[[_Axis], Array]:
    a = float(node.attribute("cubic_coeff_a", -0.75))
    exclude = bool(node.attribute("exclude_outside", 0))

    def build(axis: _Axis) -> Array:
        where = axis.coordinates.astype(np.float64)
        base = np.floor(where).astype(np.int64)
        matrix = np.zeros((axis.outer, axis.inner))
        rows = np.arange(axis.outer)
        for tap in range(-1, 3):
            distance = np.abs(where - (base + tap))
            near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
            far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
            weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
            column = base + tap
            if exclude:
                weight = np.where((column >= 0) & (column < axis.inner), weight, 0.0)
            np.add.at(matrix, (rows, np.clip(column, 0, axis.inner - 1)), weight)
        return matrix / matrix.sum(axis=1, keepdims=True) if exclude else matrix

    return build


def _weighted(node: Node, matrices: dict[int, Array]) -> Statement:
    iterators = output_iterators(node.shape)
    indices = [Index.of(iterator) for iterator in iterators]
    taps: list[Iterator] = []
    factors: list[Scalar] = []
    for axis, matrix in matrices.items():
        base, weights = _tap_form(matrix, iterators[axis])
        tap = Iterator(f"t{axis}", weights.shape[1])
        taps.append(tap)
        indices[axis] = base + tap
        table = node.new_constant(f"weights{axis}", weights.astype(node.output.dtype.numpy))
        factors.append(table.read([iterators[axis], tap]))
    value = node.operand(0).at(indices)
    body = reduce(lambda left, right: apply("mul", left, right), [value, *factors])
    return node.compute(node.output, iterators, body, taps)


def _tap_form(matrix: Array, iterator: Iterator) -> tuple[Index, Array]:
    """A quasi-affine base and a weight for each output position and tap, so that ``out[i] = Σ<t> x[base(i) + t] · W[i, t]``."""
    outer, inner = matrix.shape
    first = np.argmax(matrix != 0, axis=1)
    last = inner - 1 - np.argmax(matrix[:, ::-1] != 0, axis=1)
    rows = np.arange(outer)
    for width in range(int((last - first).max()) + 1, inner + 1):
        found = _base(last - width + 1, first, rows)
        if found is not None:
            factor, offset, divisor = found
            base = (Index.of(iterator) * factor + offset) // divisor
            columns = ((factor * rows + offset) // divisor)[:, None] + np.arange(width)
            inside = (columns >= 0) & (columns < inner)
            return base, np.where(inside, matrix[rows[:, None], np.clip(columns, 0, inner - 1)], 0.0)
    return Index.of(0), matrix


def _base(low: Array, high: Array, rows: Array) -> tuple[int, int, int] | None:
    """``(a, b, c)`` with ``low ≤ (a·i + b) // c ≤ high`` for every row i."""
    if rows.size == 1:
        return 0, int(high[0]), 1
    slope = Fraction(int(low[-1] + high[-1] - low[0] - high[0]), 2 * (rows.size - 1))
    for divisor in range(1, _LARGEST_DIVISOR + 1):
        for factor in sorted({int(slope * divisor), int(slope * divisor) + 1, round(slope * divisor)}):
            least = int((divisor * low - factor * rows).max())
            most = int((divisor * high - factor * rows).min()) + divisor - 1
            if least <= most:
                return factor, least, divisor
    return None
