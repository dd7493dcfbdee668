"""Small constant matrices times vectors in registers, with sums that several rows share computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from codegen.lower import tir
from codegen.schedules.cpu.contraction.emit import multiply_add

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """How a matrix is applied: ``shared`` vectors first + ratio · second, numbered after the inputs, then sums."""

    shared: tuple[tuple[int, int, float], ...]
    rows: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def operations(self) -> int:
        """Vector operations, a multiply-add being one."""
        scaled = sum(not row or row[0][1] != 1 for row in self.rows)
        return len(self.shared) + scaled + sum(max(0, len(row) - 1) for row in self.rows)


@cache
def combination(matrix: Matrix) -> Combination:
    """Greedy elimination of common sums: while two rows hold two entries in the same proportion, these become one vector.

    It gives the usual counts for the matrices of Toom and Cook, whose symmetric points share even and odd parts.
    """
    rows = [{place: entry for place, entry in enumerate(line) if entry} for line in matrix]
    shared: list[tuple[int, int, float]] = []
    while (found := _most_shared(rows)) is not None:
        first, second, ratio = found
        number = len(matrix[0]) + len(shared)
        shared.append(found)
        for row in rows:
            if first in row and second in row and row[second] / row[first] == ratio:
                row[number] = row.pop(first)
                del row[second]
    ordered = (sorted(row.items(), key=lambda term: (term[1] != 1, abs(term[1]) != 1, term[0])) for row in rows)
    return Combination(tuple(shared), tuple(map(tuple, ordered)))


def combine(matrix: Matrix, vectors: Sequence[Any], dtype: str, lanes: int, bind: Callable[[Any], Any]) -> list[Any]:
    """``matrix · vectors``; ``bind`` names a value so that its uses share it."""
    plan = combination(matrix)
    values = list(vectors)
    for first, second, ratio in plan.shared:
        values.append(bind(_added(values[first], values[second], ratio, dtype, lanes)))
    return [bind(_sum(row, values, dtype, lanes)) for row in plan.rows]


def _most_shared(rows: Sequence[dict[int, float]]) -> tuple[int, int, float] | None:
    counts: Counter[tuple[int, int, float]] = Counter()
    for row in rows:
        places = sorted(row)
        for number, first in enumerate(places):
            for second in places[number + 1 :]:
                counts[first, second, row[second] / row[first]] += 1
    if not counts:
        return None
    best, count = max(counts.items(), key=lambda found: (found[1], abs(found[0][2]) == 1, found[0]))
    return best if count > 1 else None


def _added(first: Any, second: Any, ratio: float, dtype: str, lanes: int) -> Any:
    if ratio == 1:
        return first + second
    if ratio == -1:
        return first - second
    return multiply_add(second, tir.number(ratio, dtype, lanes), first, dtype, lanes)


def _sum(row: Sequence[tuple[int, float]], values: Sequence[Any], dtype: str, lanes: int) -> Any:
    if not row:
        return tir.number(0, dtype, lanes)
    (place, factor), *rest = row
    total = values[place] if factor == 1 else values[place] * tir.number(factor, dtype, lanes)
    for place, factor in rest:
        total = _added(total, values[place], factor, dtype, lanes)
    return total
