"""Einsum of any equation agrees with ONNX Runtime."""

from __future__ import annotations

from math import prod

import pytest

from tensoropt.ir.program import Compute
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
    products = [found for found in program.statements if ".sum" not in found.outputs[0].name]
    assert len(products) == max(len(shapes) - 1, 1)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...i,ij,...j->...", [(1, 3), (3, 5), (4, 5)]),
        ("...ij,jk,...kl->...il", [(1, 6, 3), (3, 7), (2, 7, 2)]),
        ("bi,bi,bj->ij", [(1, 3), (1, 3), (4, 5)]),
        ("bi,bi,bj->ij", [(1, 3), (4, 3), (1, 5)]),
        ("bi,bj->ij", [(1, 3), (4, 5)]),
        ("bi,bi,j->j", [(4, 3), (1, 3), (5,)]),
    ],
)
def test_letters_that_an_operand_broadcasts_are_summed_once(equation: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = {f"x{number}": normal(number, *shape) for number, shape in enumerate(shapes)}
    assert_agrees(model_of("Einsum", inputs, equation=equation), inputs)


@pytest.mark.parametrize(
    ("equation", "shapes", "most"),
    [
        ("ij,jk,lm->ik", [(8, 9), (9, 7), (5, 6)], 8 * 9 * 7),
        ("ia,ib,ic->i", [(8, 9), (8, 7), (8, 11)], 8 * 11),
        ("ij,kl,mn->", [(8, 9), (9, 7), (5, 6)], 8 * 9),
        ("bi,bjk,lm->ij", [(1, 3), (4, 5, 2), (6, 7)], 6 * 7),
        ("ii,jk,k->ik", [(5, 5), (4, 6), (6,)], 5 * 6),
        ("ij,kl->i", [(5, 5), (4, 6)], 5 * 5),
    ],
)
def test_what_one_operand_alone_is_summed_over_is_not_multiplied(
    equation: str, shapes: list[tuple[int, ...]], most: int
) -> None:
    inputs = {f"x{number}": normal(number, *shape) for number, shape in enumerate(shapes)}
    program = assert_agrees(model_of("Einsum", inputs, equation=equation), inputs)
    for statement in program.statements:
        assert isinstance(statement, Compute)
        scope = statement.expression
        assert prod(found.extent for found in (*scope.traversal, *scope.reduction)) <= most
