"""Smaller expressions keep their form: nested scopes, windows, concatenations, bands; and random ones stay well-formed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.certify.shrinking import shrunk
from tensoropt.ir.expression import Scope, Tensor, accesses, scopes, tensors
from tensoropt.ir.index import Index
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.printer import format_scope
from tests.strategies.expressions import closed_scopes, contractions, tensor


def scope_of(text: str, **shapes: tuple[int, ...]) -> Scope:
    return parse_scope(text, {name: tensor(name, *shape) for name, shape in shapes.items()})


CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], str, dict[str, tuple[int, ...]]]] = {
    "a chain of matmuls": (
        "let $1 = L<b:1000, n:768> sum<k:512> %X[b, k] * %W[k, n]\nL<i:1000, j:300> sum<m:768> $1[i, m] * %V[m, j]",
        {"X": (1000, 512), "W": (512, 768), "V": (768, 300)},
        "let $1 = L<b:3, n:4> sum<k:3> %X[b, k] * %W[k, n]\nL<i:3, j:2> sum<m:4> $1[i, m] * %V[m, j]",
        {"X": (3, 3), "W": (3, 4), "V": (4, 2)},
    ),
    "a strided convolution of a convolution": (
        "let $1 = L<c:64, h:56> sum<d:32, r:3> %A[d, h + r - 1] * %K[c, d, r]\n"
        "L<f:128, y:28> sum<c:64, r:3> relu($1[c, 2*y + r - 1]) * %V[f, c, r]",
        {"A": (32, 56), "K": (64, 32, 3), "V": (128, 64, 3)},
        "let $1 = L<c:4, h:6> sum<d:2, r:3> %A[d, h + r - 1] * %K[c, d, r]\n"
        "L<f:3, y:3> sum<c:4, r:3> relu($1[c, 2*y + r - 1]) * %V[f, c, r]",
        {"A": (2, 6), "K": (4, 2, 3), "V": (3, 4, 3)},
    ),
    "a concatenation": (
        "L<i:2304> %A[i] + %B[i - 768]",
        {"A": (768,), "B": (1536,)},
        "L<i:5> %A[i] + %B[i - 3]",
        {"A": (3,), "B": (2,)},
    ),
    "a slice and a single element": (
        "L<i:100> %A[i + 1000] * %B[7]",
        {"A": (3000,), "B": (20,)},
        "L<i:3> %A[i + 2] * %B[3]",
        {"A": (9,), "B": (8,)},
    ),
    "a scope read twice": (
        "let $1 = L<s:128, n:768> sum<k:768> %X[s, k] * %W[k, n]\n"
        "L<h:12, s:128, t:128> sum<d:64> $1[s, 64*h + d] * $1[t, 64*h + d]",
        {"X": (128, 768), "W": (768, 768)},
        "let $1 = L<s:2, n:132> sum<k:3> %X[s, k] * %W[k, n]\n"
        "L<h:3, s:2, t:2> sum<d:4> $1[s, 64*h + d] * $1[t, 64*h + d]",
        {"X": (2, 3), "W": (3, 132)},
    ),
    "a band": (
        "L<m:4096, w:513> sum<k:64> %A[m, k] * %B[m + 2*w - 512, k]",
        {"A": (4096, 64), "B": (4096, 64)},
        "L<m:10, w:5> sum<k:4> %A[m, k] * %B[m + 2*w - 4, k]",
        {"A": (10, 4), "B": (10, 4)},
    ),
    "a mirrored axis": ("L<i:100> %A[99 - i]", {"A": (100,)}, "L<i:3> %A[2 - i]", {"A": (3,)}),
    "a transposed convolution": (
        "L<y:64> sum<h:32> %A[h] * %K[y + 1 - 2*h]",
        {"A": (32,), "K": (4,)},
        "L<y:10> sum<h:5> %A[h] * %K[y + 1 - 2*h]",
        {"A": (5,), "K": (4,)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_forms_are_kept(name: str) -> None:
    text, shapes, smaller, smaller_shapes = CASES[name]
    found = shrunk(scope_of(text, **shapes), 3, {})
    assert format_scope(found) == format_scope(scope_of(smaller, **smaller_shapes))
    assert {read.name: tuple(map(int, read.shape)) for read in tensors(found)} == smaller_shapes


def test_what_is_split_keeps_more_than_the_factor_and_its_residue() -> None:
    found = shrunk(scope_of("L<i:130, j:512> %A[i, j]", A=(130, 512)), 3, {"i": 4, "j": 64})
    assert tuple(map(int, found.shape)) == (6, 128)


@settings(max_examples=300, derandomize=True)
@given(st.one_of(closed_scopes(2), contractions()), st.sampled_from([3, 5, 12]))
def test_random_expressions_keep_their_structure(scope: Scope, room: int) -> None:
    found = shrunk(scope, room, {})
    assert len(scopes(found)) <= len(scopes(scope))
    one, other = scope, found
    for old, new in zip((*one.traversal, *one.reduction), (*other.traversal, *other.reduction), strict=True):
        assert new.name == old.name
        assert 1 <= new.extent <= old.extent
        assert (new.extent == 1) <= (old.extent == 1)
    for before, after in zip(accesses(scope.body), accesses(found.body), strict=True):
        assert isinstance(before.source, Tensor) == isinstance(after.source, Tensor)
        assert before.outside is after.outside
        for old_index, new_index in zip(before.indices, after.indices, strict=True):
            assert not old_index.is_affine or steps(old_index) == steps(new_index)


def steps(index: Index) -> list[int]:
    return sorted(abs(step) for _, step in index.terms)
