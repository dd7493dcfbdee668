"""Attention as one nested expression, in the forms that models have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of attention: so many heads, queries, keys, elements of a query and of a value."""

    heads: int
    rows: int
    keys: int
    depth: int
    columns: int


def tensor(name: str, dtype: DataType, *shape: int) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def attention(sizes: Sizes, dtype: DataType, scaled: bool, masked: bool) -> Scope:
    """``softmax(q kᵀ · scale + mask) v`` of [heads, rows or keys, width]."""
    h, i, j = Iterator("h", sizes.heads), Iterator("i", sizes.rows), Iterator("j", sizes.keys)
    q = tensor("q", dtype, sizes.heads, sizes.rows, sizes.depth)
    k = tensor("k", dtype, sizes.heads, sizes.keys, sizes.depth)
    v = tensor("v", dtype, sizes.heads, sizes.keys, sizes.columns)
    mask = tensor("mask", dtype, sizes.rows, sizes.keys)

    def arithmetic(score: Scalar) -> Scalar:
        scale = Constant(0.5, dtype)
        score = Apply("mul", score, scale) if scaled else score
        return Apply("add", score, Access(mask, [i, j])) if masked else score

    c, e = Iterator("c", sizes.depth), Iterator("e", sizes.columns)
    products = Scope([h, i, j], Apply("mul", Access(q, [h, i, c]), Access(k, [h, j, c])), [c])
    return weighted((h, i, j), e, products, arithmetic, Access(v, [h, j, e]))


def band(sizes: Sizes, dtype: DataType, step: int, shift: int, masked: bool = False) -> Scope:
    """Attention of each row to ``keys`` rows around it, ``step`` apart, from ``shift`` before it on; what lies outside is zero."""
    mask = tensor("mask", dtype, sizes.rows, sizes.keys)
    h, i, j = Iterator("h", sizes.heads), Iterator("i", sizes.rows), Iterator("j", sizes.keys)
    q, k = (tensor(name, dtype, sizes.rows, sizes.heads, sizes.depth) for name in "qk")
    v = tensor("v", dtype, sizes.rows, sizes.heads, sizes.columns)
    c, e = Iterator("c", sizes.depth), Iterator("e", sizes.columns)
    at = Index.of(i) + Index.of(j) * step - shift
    products = Scope([h, i, j], Apply("mul", Access(k, [at, h, c]), Access(q, [i, h, c])), [c])

    def arithmetic(score: Scalar) -> Scalar:
        return Apply("add", score, Access(mask, [i, j])) if masked else score

    return weighted((h, i, j), e, products, arithmetic, Access(v, [at, h, e]))


def weighted(
    axes: tuple[Iterator, Iterator, Iterator],
    column: Iterator,
    products: Scope,
    arithmetic: Callable[[Scalar], Scalar],
    value: Scalar,
) -> Scope:
    """Values weighted by the softmax of scores [heads, rows, keys] after some arithmetic."""
    h, i, j = axes
    score = Scope(axes, arithmetic(Access(products, axes)))
    top = Scope([h, i], Access(score, axes), [j], Reducer.MAX)
    power = Scope(axes, Apply("exp", Apply("sub", Access(score, axes), Access(top, [h, i]))))
    total = Scope([h, i], Access(power, axes), [j])
    share = Scope(axes, Apply("div", Access(power, axes), Access(total, [h, i])))
    return Scope([h, i, column], Apply("mul", Access(share, axes), value), [j])


def values_of(scope: Scope, seed: int) -> dict[str, Array]:
    """Normal numbers; of a mask a third is minus infinity, and the whole of its last row."""
    numbers = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for source in tensors(scope):
        shape = tuple(int(extent) for extent in source.shape)
        array = numbers.standard_normal(shape)
        if source.name == "mask":
            array = np.where(numbers.random(shape) < 1 / 3, -np.inf, array)
            array[-1] = -np.inf
        values[source.name] = array.astype(source.dtype.numpy)
    return values
