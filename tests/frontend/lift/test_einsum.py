"""Einsum of any equation agrees with ONNX Runtime."""

from __future__ import annotations

import pytest

from tests.strategies.single_nodes import assert_agrees, model_of, normal


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (1, 3, 4)]),
        ("...ij,...jk", [(5, 1, 2, 3), (1, 2, 3, 4)]),
        ("a...b,b->a...", [(2, 3, 4, 5), (5,)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("ab,bc,cd,de->ae", [(2, 3), (3, 4), (4, 2), (2, 5)]),
        ("a,a,a->", [(3,), (3,), (3,)]),
        ("ij,kl,jk->", [(2, 3), (4, 5), (3, 4)]),
        ("bhid,bhjd->bhij", [(1, 2, 3, 4), (1, 2, 5, 4)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
        ("iij,j->i", [(3, 3, 2), (2,)]),
        ("...->...", [(2, 3)]),
        ("ba...,b...->a...", [(2, 3, 4), (2, 4)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = {f"x{number}": normal(number, *shape) for number, shape in enumerate(shapes)}
    program = assert_agrees(model_of("Einsum", inputs, equation=equation), inputs)
    assert len(program.statements) == max(len(shapes) - 1, 1)
