"""The numbers of what is computed, however it is cut, on whatever target; ``features`` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

from codegen.schedules.sums_of_products import Contraction


def of_contraction(found: Contraction, rows: int, columns: int) -> Mapping[str, float]:
    """A sum of products, its sides in the order in which schedules of the target have them."""
    moved = found.batches * (found.depth * (rows + columns) + rows * columns)
    constants = sum(side.constant for side in found.sides)
    sizes = rows, columns, found.depth, found.batches
    return described_work(sizes, float(found.products), moved, found.dtype.itemsize, constants)


def described_work(
    sizes: tuple[int, int, int, int], products: float, moved: int, itemsize: int, constants: int
) -> Mapping[str, float]:
    """``sizes``: rows, columns, depth and batches; ``moved``: elements of operands and result, which are of so many bytes each."""
    names = ("rows", "columns", "depth", "batches")
    return {
        **{name: log2(max(1, size)) for name, size in zip(names, sizes, strict=True)},
        "intensity": log2(max(1.0, products) / max(1, moved)),
        "itemsize": float(itemsize),
        "constants": float(constants),
    }
