"""The canonical key is exact: equal for renamings and reorderings, different for everything else."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import reduce

import pytest

from tensoropt.ir.canonical import canonical_form, canonical_kernel_key, canonical_key
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor, replace_sources
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType, TensorType


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, shape))  # type: ignore[arg-type]


def convolution(names: str = "nfyxcrs", tensors: str = "AK", swapped: bool = False) -> Scope:
    extents = (1, 8, 7, 7, 4, 3, 3)
    n, f, y, x, c, r, s = (Iterator(name, extent) for name, extent in zip(names, extents, strict=True))
    image = Access(tensor(tensors[0], 1, 4, 7, 7), [n, c, Index.of(y) + r - 1, Index.of(x) + s - 1])
    kernel = Access(tensor(tensors[1], 8, 4, 3, 3), [f, c, r, s])
    factors = (kernel, image) if swapped else (image, kernel)
    return Scope((n, f, y, x), Apply("mul", *factors), (s, r, c) if swapped else (c, r, s))


def full_product(image_axes: str, kernel_axes: str) -> Scope:
    r, s = Iterator("r", 3), Iterator("s", 3)
    image = Access(tensor("A", 3, 3), [{"r": r, "s": s}[axis] for axis in image_axes])
    kernel = Access(tensor("K", 3, 3), [{"r": r, "s": s}[axis] for axis in kernel_axes])
    return Scope((), Apply("mul", image, kernel), (r, s))


def test_renaming_and_reordering_keep_the_key() -> None:
    plain, other = convolution(), convolution("abcdzyx", swapped=True)
    assert plain is not other
    assert canonical_key(plain) == canonical_key(other)
    assert canonical_form(plain) == canonical_form(other)


def test_a_transposed_operand_is_told_apart() -> None:
    assert canonical_key(full_product("rs", "rs")) != canonical_key(full_product("rs", "sr"))
    assert canonical_key(full_product("rs", "sr")) == canonical_key(full_product("sr", "rs"))


def test_tensor_names_count_in_the_key_and_not_in_the_kernel_key() -> None:
    plain, other = convolution(), convolution(tensors="XB")
    assert canonical_key(plain) != canonical_key(other)
    key, order = canonical_kernel_key(plain)
    other_key, other_order = canonical_kernel_key(other)
    assert key == other_key
    assert [found.name for found in order] == [{"X": "A", "B": "K"}[found.name] for found in other_order]


@pytest.mark.parametrize(
    "changed",
    [
        lambda i: Access(tensor("A", 5), [i], 1.0),
        lambda i: Access(tensor("A", 6), [i]),
        lambda i: Access(tensor("A", 5), [Index.of(i) + 1]),
        lambda i: Access(tensor("A", 5), [Index.of(i) * 2]),
        lambda i: Access(tensor("A", 5), [Index.of(i) // 2]),
        lambda i: Access(tensor("A", 5), [i], -0.0),
        lambda i: Apply("neg", Access(tensor("A", 5), [i])),
        lambda i: Apply("add", Access(tensor("A", 5), [i]), Constant(0.0, DataType.FLOAT32)),
        lambda i: Access(tensor("A", 5, dtype=DataType.FLOAT64), [i]),
    ],
)
def test_what_counts(changed: object) -> None:
    i = Iterator("i", 5)
    base = Scope((i,), Access(tensor("A", 5), [i]))
    assert canonical_key(base) != canonical_key(Scope((i,), changed(i)))  # type: ignore[operator]


def test_traversal_order_and_reducer_count() -> None:
    i, j = Iterator("i", 4), Iterator("j", 4)
    body = Access(tensor("A", 4, 4), [i, j])
    assert canonical_key(Scope((i, j), body)) != canonical_key(Scope((j, i), body))
    assert canonical_key(Scope((i,), body, (j,))) != canonical_key(Scope((i,), body, (j,), Reducer.MAX))


def test_seven_interchangeable_reductions_are_individualised_once() -> None:
    rows = [Iterator(f"r{place}", 3) for place in range(7)]
    factors: list[Scalar] = [Access(tensor("A", 3), [row]) for row in rows]
    forward = Scope((), reduce(lambda left, right: Apply("mul", left, right), factors), rows)
    backward = Scope((), reduce(lambda left, right: Apply("mul", right, left), factors[::-1]), rows[::-1])
    assert canonical_key(forward) == canonical_key(backward)


def test_a_cycle_and_two_cycles_are_told_apart() -> None:
    """Refinement alone cannot separate a 6-cycle from two 3-cycles; individualisation does."""
    rows = [Iterator(f"r{place}", 3) for place in range(6)]
    matrix = Tensor("A", TensorType(DataType.FLOAT32, (3, 3)))  # type: ignore[arg-type]

    def graph(edges: list[tuple[int, int]]) -> Scope:
        factors: list[Scalar] = [Access(matrix, [rows[tail], rows[head]]) for tail, head in edges]
        return Scope((), reduce(lambda left, right: Apply("mul", left, right), factors), rows)

    cycle = [(place, (place + 1) % 6) for place in range(6)]
    shifted = [(place * 5 % 6, (place + 1) * 5 % 6) for place in range(6)]
    triangles = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    assert canonical_key(graph(cycle)) == canonical_key(graph(shifted))
    assert canonical_key(graph(cycle)) != canonical_key(graph(triangles))


def test_nested_scopes_are_compared_by_what_they_are() -> None:
    def doubled(name: str) -> Scope:
        inner, outer = Iterator(name, 5), Iterator("o", 5)
        nested = Scope((inner,), Apply("neg", Access(tensor("A", 5), [inner])))
        return Scope((outer,), Apply("add", Access(nested, [outer]), Access(nested, [4 - Index.of(outer)])))

    assert canonical_key(doubled("i")) == canonical_key(doubled("j"))


def test_kernel_keys_see_which_tensor_is_shared() -> None:
    i = Iterator("i", 5)

    def total(*names: str) -> Scope:
        parts: list[Scalar] = [Access(tensor(name, 5), [i]) for name in names]
        return Scope((i,), reduce(lambda left, right: Apply("add", left, right), parts))

    assert canonical_kernel_key(total("A", "B"))[0] == canonical_kernel_key(total("Y", "X"))[0]
    assert canonical_kernel_key(total("A", "A"))[0] != canonical_kernel_key(total("A", "B"))[0]
    key, order = canonical_kernel_key(total("A", "B", "A"))
    other_key, other_order = canonical_kernel_key(total("A", "B", "B"))
    assert key == other_key
    assert [found.name for found in order] == [found.name for found in other_order][::-1]


def test_keys_are_the_same_in_another_process() -> None:
    program = (
        "import importlib.util as u; s = u.spec_from_file_location('t', " + repr(__file__) + ");"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "print(m.canonical_key(m.convolution()), m.canonical_kernel_key(m.convolution())[0])"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert printed.split() == [canonical_key(convolution()), canonical_kernel_key(convolution())[0]]


def test_kernel_keys_of_many_alike_tensors_are_quick_and_free_of_names() -> None:
    i = Iterator("i", 5)

    def total(names: list[str]) -> Scope:
        parts: list[Scalar] = [Access(tensor(name, 5), [i]) for name in names]
        return Scope((i,), reduce(lambda left, right: Apply("add", left, right), parts))

    names = [f"t{place}" for place in range(40)]
    assert canonical_kernel_key(total(names))[0] == canonical_kernel_key(total(names[::-1]))[0]


def test_kernel_keys_pair_tensors_as_the_products_do() -> None:
    i = Iterator("i", 5)

    def paired(names: str) -> Scope:
        one, two, three, four = (Access(tensor(name, 5), [i]) for name in names)
        return Scope((i,), Apply("add", Apply("mul", one, two), Apply("mul", three, four)))

    forms = []
    for names in ("ABCD", "ACBD", "DBCA"):
        key, order = canonical_kernel_key(paired(names))
        numbered: dict[Tensor | Scope, Tensor | Scope] = {
            found: Tensor(f"n{place}", found.type) for place, found in enumerate(order)
        }
        forms.append((key, canonical_key(replace_sources(paired(names), numbered))))
    assert len(set(forms)) == 1, "tensors taken in the key's order make the same expression"
