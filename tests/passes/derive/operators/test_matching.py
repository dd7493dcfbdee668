"""Matches are proved by the operator built anew; bands, depthwise convolutions and longer products derive and compute the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from passes.derive.candidate import Candidate, SearchLimits
from passes.derive.operators.matching import LibraryMatch, recognised
from passes.derive.operators.operands import windowed
from passes.derive.operators.patterns import MatchBandMatmul, MatchConvolution, MatchMatmul, MatchMatmulBand
from passes.derive.operators.product import Operand, pairing
from passes.derive.search import derive
from tensoropt.ir.expression import Access, Apply, Cast, Constant, Scope, Tensor, accesses, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, TensorType
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import tensor
from tests.strategies.operators import convolution, transposed_convolution


def expression(text: str, **shapes: tuple[int, ...]) -> Scope:
    return parse_scope(text, {name: tensor(name, *shape) for name, shape in shapes.items()})


def found_for(scope: Scope, constants: tuple[str, ...] = (), candidates: int = 40) -> list[Candidate]:
    limits = SearchLimits(candidates=candidates, dearer=math.inf)
    found = derive(Compute(Tensor("O", scope.type), scope), constants, limits)
    for candidate in found:
        assert computes_the_same(candidate, scope), candidate.label
        assert all(match.is_proved for match in candidate.matched)
    return found


def computes_the_same(candidate: Candidate, scope: Scope) -> bool:
    random = np.random.default_rng(1)
    values: dict[str, Any] = {
        read.name: random.integers(-4, 5, read.shape).astype(read.dtype.numpy) for read in tensors(scope)
    }
    wanted = evaluate(scope, values)
    for statement in candidate.statements:
        values[statement.output.name] = evaluate(statement.expression, values)
    return np.array_equal(values["O"], wanted)


def parameters(candidate: Candidate, operator: str) -> list[dict[str, object]]:
    return [dict(match.parameters) for match in candidate.matched if match.operator == operator]


def band(dilation: int, offset: int, rows: int = 12, width: int = 5) -> Scope:
    text = f"L<b:2, m:{rows}, w:{width}> sum<k:3> %A[b, m, k] * %B[b, m + {dilation}*w - {offset}, k]"
    return expression(text, A=(2, rows, 3), B=(2, rows, 3))


def transposed_band(dilation: int, offset: int, rows: int = 12, width: int = 5) -> Scope:
    text = f"L<b:2, m:{rows}, n:3> sum<w:{width}> %A[b, m, w] * %B[b, m + {dilation}*w - {offset}, n]"
    return expression(text, A=(2, rows, width), B=(2, rows, 3))


@pytest.mark.parametrize(
    ("dilation", "offset", "rows"), [(2, 4, 12), (3, 6, 12), (4, 8, 16), (2, 4, 13), (3, 0, 10), (2, 3, 9)]
)
def test_dilated_bands_are_folded_into_the_batch(dilation: int, offset: int, rows: int) -> None:
    for scope, operator in (
        (band(dilation, offset, rows), "band_matmul"),
        (transposed_band(dilation, offset, rows), "matmul_band"),
    ):
        found = [one for candidate in found_for(scope) for one in parameters(candidate, operator)]
        folded = {"batch": 2 * dilation, "m": -(-rows // dilation), "dilation": 1}
        assert any(folded.items() <= one.items() for one in found), found


def test_a_band_that_runs_backwards_is_turned() -> None:
    text = "L<b:2, m:9, w:5> sum<k:3> %A[b, m, k] * %B[b, m - 2*w + 4, k]"
    found = found_for(expression(text, A=(2, 9, 3), B=(2, 9, 3)))
    assert any(one["dilation"] == 1 for candidate in found for one in parameters(candidate, "band_matmul"))


def test_a_band_whose_row_only_one_operand_has_is_none() -> None:
    scope = expression("L<b:2, m:8, w:5> sum<k:3> %A[b, w, k] * %B[b, m + 2*w, k]", A=(2, 5, 3), B=(2, 16, 3))
    rule = MatchBandMatmul()
    for site in rule.sites(scope):
        assert dict(site.arguments)["row"] == "w", "w is in both operands, m is not"
    site = Site.of(
        first=0, second=1, carried=(), row="m", diagonal="w", batch=("b",), sums=("k",), left="bmk", right="bmk"
    )
    refused = rule.apply(scope, site)
    assert isinstance(refused, Refusal)
    assert "not in both" in refused.reason


def test_a_band_that_moves_by_several_rows_is_refused() -> None:
    scope = expression("L<m:8, w:5> sum<k:3> %A[m, k] * %B[2*m + w, k]", A=(8, 3), B=(20, 3))
    (site,) = MatchBandMatmul().sites(scope)
    refused = MatchBandMatmul().apply(scope, site)
    assert isinstance(refused, Refusal)
    assert "more than one row" in refused.reason


def test_depthwise_convolution_is_recognised_and_made_dense() -> None:
    scope = expression("L<n:2, g:4, y:9> sum<r:3> %A[n, g, y + 2*r - 2] * %K[g, r]", A=(2, 4, 9), K=(4, 3))
    found = [one for made in found_for(scope, ("K",)) for one in parameters(made, "depthwise_convolution")]
    assert any(one["dilations"] == (1,) and one["groups"] == 4 and one["images"] == 4 for one in found)


@pytest.mark.parametrize("height", [9, 10])
@pytest.mark.parametrize("dilation", [2, 3, 6])
def test_dilated_convolution_becomes_dense_also_where_sizes_do_not_divide(dilation: int, height: int) -> None:
    scope = convolution(1, 2, height, 3, (3, 3), dilation=dilation)
    found = [one for made in found_for(scope, ("K",), 60) for one in parameters(made, "convolution")]
    wanted = {"kernel": (3, 3), "dilations": (1, 1), "channels": 2, "filters": 3}
    assert any(wanted.items() <= one.items() for one in found)


@pytest.mark.parametrize(("kernel", "small"), [(5, 3), (7, 4), (9, 3)])
def test_a_large_kernel_is_cut_to_smaller_ones(kernel: int, small: int) -> None:
    scope = convolution(1, 2, 8, 2, (kernel, 1))
    found = [one for made in found_for(scope, ("K",)) for one in parameters(made, "convolution")]
    assert any(one["kernel"] == (small,) and one["filters"] == 2 * -(-kernel // small) for one in found), found


def test_strided_convolution_becomes_dense_over_more_channels() -> None:
    found = [
        one
        for made in found_for(convolution(1, 3, 8, 2, (5, 5), stride=2), ("K",))
        for one in parameters(made, "convolution")
    ]
    assert any(one["channels"] == 12 and one["strides"] == (1, 1) and one["kernel"] == (3, 3) for one in found), found


def test_a_strided_and_dilated_transposed_convolution_is_one_over_the_positions_that_are_not_zero() -> None:
    text = "L<f:3, y:11> sum<c:4, h:6> %A[c, h] * %K[c, f, y//2 - h + 17*(y%2) + 1]"
    scope = expression(text, A=(4, 6), K=(4, 3, 3))
    found = [one for made in found_for(scope, ("K",)) for one in parameters(made, "convolution")]
    assert any(one["filters"] == 3 and one["channels"] == 4 and one["kernel"] == (3,) for one in found), found


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 3), (1, 3)])
def test_transposed_convolutions_with_gaps_keep_their_zeros(kernel: int, stride: int) -> None:
    found = found_for(transposed_convolution(1, 3, 4, 2, kernel, stride, 0, stride - 1), ("K",))
    assert any(match.operator in ("matmul", "batch_matmul") for made in found for match in made.matched)


def test_stride_and_dilation_of_one_factor_leave_a_dense_convolution_of_every_second_row() -> None:
    scope = convolution(1, 2, 9, 3, (3, 3), stride=2, dilation=2)
    found = [one for made in found_for(scope, ("K",)) for one in parameters(made, "convolution")]
    assert any(one["strides"] == one["dilations"] == (1, 1) and one["images"] == 1 for one in found), found


def test_the_constant_is_never_the_image() -> None:
    for scope in (convolution(1, 3, 6, 2, (5, 5)), transposed_convolution(1, 3, 4, 2, 4, 2, 1)):
        matches = [match for candidate in found_for(scope, ("K",)) for match in candidate.matched]
        windows = [match.expression for match in matches if match.operator == "convolution"]
        assert windows
        for operator in windows:
            image, kernel = ([read.name for read in _read_by(access)] for access in accesses(operator.body))
            assert (image, kernel) == (["A"], ["K"])


def _read_by(access: Access) -> list[Tensor]:
    return [access.source] if isinstance(access.source, Tensor) else list(tensors(access.source))


# Longer products -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("L<m:6, h:5, n:7> sum<k:8> %A[m, h, k] * %B[k, n] * %g[n]", {"A": (6, 5, 8), "B": (8, 7), "g": (7,)}),
        ("L<m:6, h:5, n:7> sum<k:8> %A[m, h, k] * %B[k, n] * %g[k]", {"A": (6, 5, 8), "B": (8, 7), "g": (8,)}),
        ("L<m:6, h:5, n:7> sum<k:8> %A[m, h, k] * %B[k, n] * 0.5f32", {"A": (6, 5, 8), "B": (8, 7)}),
        ("L<m:6, h:5, n:7> sum<k:8> %A[m, h, k] * %B[k, n] * %g[m, k]", {"A": (6, 5, 8), "B": (8, 7), "g": (6, 8)}),
        ("L<n:7, m:5> sum<k:8, j:2> %A[n, k, j] * %B[k, m]", {"A": (7, 8, 2), "B": (8, 5)}),
    ],
)
def test_further_factors_go_along(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    found = found_for(expression(text, **shapes), ("B",))
    assert any(match.operator == "matmul" for candidate in found for match in candidate.matched)


def test_a_factor_of_the_channels_goes_into_the_kernel_of_a_convolution() -> None:
    scope = expression(
        "L<f:4, y:8> sum<c:5, r:3> %A[c, y + r - 1] * %K[f, c, r] * %g[c]", A=(5, 8), K=(4, 5, 3), g=(5,)
    )
    found = found_for(scope, ("K", "g"))
    assert found
    for candidate in found:
        readers = [made for made in candidate.statements if any(read.name == "g" for read in tensors(made.expression))]
        assert all({read.name for read in tensors(made.expression)} <= {"K", "g"} for made in readers)


def test_chains_of_contractions_match_two_operators() -> None:
    text = "L<m:6, n:7> sum<k:8, j:3> %A[m, k] * %B[k, j] * %C[j, n]"
    found = found_for(expression(text, A=(6, 8), B=(8, 3), C=(3, 7)), ("B", "C"))
    both = [candidate for candidate in found if [match.operator for match in candidate.matched] == ["matmul", "matmul"]]
    assert both
    assert {one["k"] for candidate in both for one in parameters(candidate, "matmul")} == {3, 8}


def test_a_factor_that_no_operand_can_carry_is_no_match() -> None:
    text = "L<m:6, n:7> sum<k:8> %A[m, k] * %B[k, n] * %C[m, n, k]"
    assert not found_for(expression(text, A=(6, 8), B=(8, 7), C=(6, 7, 8)))
    scope = expression("L<m:6, n:7> sum<k:8> %A[m, k] * %B[k, n] * %g[k]", A=(6, 8), B=(8, 7), g=(8,))
    refused = pairing(scope, 0, 1, ("outer",))
    assert isinstance(refused, Refusal)
    assert "summed over" in refused.reason
    site = Site.of(
        first=0, second=1, carried=("outer",), batch=(), rows=("m",), columns=("n",), sums=("k",), left="mk", right="kn"
    )
    assert isinstance(MatchMatmul().apply(scope, site), Refusal)


def test_a_window_carries_no_factor_of_its_row_nor_what_is_not_zero_outside() -> None:
    y, r = Iterator("y", 6), Iterator("r", 3)
    data, scale = tensor("A", 6), tensor("g", 6)
    read = Access(data, [Index.of(y) + r - 1])
    assert isinstance(windowed(Operand(read, (Access(scale, [y]),)), y, r, "p"), Refusal)
    ones = Access(data, [Index.of(y) + r - 1], 1.0)
    constant = Constant(2.0, DataType.FLOAT32)
    assert isinstance(windowed(Operand(ones, (constant,)), y, r, "p"), Refusal)
    assert not isinstance(windowed(Operand(read, (constant,)), y, r, "p"), Refusal)


def test_operands_that_are_cast_are_read_in_their_own_type() -> None:
    m, n, k, h = (Iterator(name, extent) for name, extent in zip("mnkh", (4, 5, 6, 2), strict=True))
    half = Tensor("A", TensorType(DataType.FLOAT16, tensor("A", 2, 4, 6).shape))
    body = Apply("mul", Cast(Access(half, [h, m, k]), DataType.FLOAT32), Access(tensor("B", 6, 5), [k, n]))
    found = found_for(Scope((h, m, n), body, (k,)), ("B",))
    assert found
    for candidate in found:
        moved = [made for made in candidate.statements if tensors(made.expression) == (half,)]
        assert all(made.output.dtype is DataType.FLOAT16 for made in moved)


# Proofs --------------------------------------------------------------------------------------------------------------


def _matches() -> list[LibraryMatch]:
    scopes = [
        (convolution(2, 4, 7, 6, (3, 2), stride=2, dilation=2, groups=2, pads=(0, 1, 2, 1)), ("K",)),
        (convolution(1, 3, 6, 4, (3, 3)), ("K",)),
        (band(2, 4), ()),
        (transposed_band(2, 3), ()),
    ]
    return [match for scope, constants in scopes for made in found_for(scope, constants) for match in made.matched]


def test_a_match_with_any_other_parameter_is_not_proved() -> None:
    wrong = 0
    for match in _matches():
        for place, (name, value) in enumerate(match.parameters):
            step = max(strides) if isinstance(strides := dict(match.parameters).get("strides"), tuple) else 1
            for other in _others(value, step if name == "pads_end" else 1):
                changed = (*match.parameters[:place], (name, other), *match.parameters[place + 1 :])
                claim = replace(match, parameters=changed)
                try:
                    proved = claim.is_proved
                except (ValueError, KeyError, ZeroDivisionError, IndexError):
                    proved = False  # there is no such operator over these operands
                assert not proved, (str(match), name, other)
                wrong += 1
    assert wrong > 100


def _others(value: int | str | tuple[int, ...], step: int) -> list[int | str | tuple[int, ...]]:
    match value:
        case int():
            return [value + step]
        case tuple():
            return [(value[0] + step, *value[1:])]
        case _:
            return [] if len(set(value)) < 2 else [value[1] + value[0] + value[2:]]


def test_statements_as_they_stand_are_recognised() -> None:
    value = tensor("A", 3, 4)
    x, y = Iterator("x", 3), Iterator("y", 4)
    folded = recognised(Scope((y,), Access(value, [x, y]), (x,)))
    assert folded is not None
    assert str(folded) == "reduction(reducer=sum, layout=rx)"
    added = recognised(Scope((x, y), Apply("add", Access(value, [x, y]), Access(tensor("B", 3, 4), [x, y]))))
    assert added is not None
    assert str(added) == "element_wise(operation=add)"
    assert recognised(Scope((y,), Access(value, [Index.of(x) - 1, Index.of(y)]), (x,))) is None
    assert recognised(Scope((x,), Apply("add", Access(value, [x, x]), Access(value, [x, x])))) is None


def test_every_library_rule_is_equal_to_what_it_rewrites() -> None:
    rules = (MatchMatmul(), MatchConvolution(), MatchBandMatmul(), MatchMatmulBand())
    scopes = (convolution(2, 3, 6, 4, (3, 3)), convolution(2, 3, 6, 4, (1, 1)), band(1, 2), transposed_band(1, 2))
    random = np.random.default_rng(2)
    applied = set()
    for scope in scopes:
        values = {read.name: random.integers(-4, 5, read.shape).astype(np.float32) for read in tensors(scope)}
        for rule in rules:
            for site in rule.sites(scope):
                result = rule.apply(scope, site)
                if not isinstance(result, Refusal):
                    applied.add(rule.name)
                    assert np.array_equal(evaluate(result, values), evaluate(scope, values))
    assert applied == {rule.name for rule in rules}
