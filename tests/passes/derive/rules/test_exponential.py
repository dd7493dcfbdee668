"""Blockwise exponentials, shifts and late division: exact in the paired domain, close in floats, refused where wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import Application
from tensoropt.ir.exact import Domain, choose_domain
from tensoropt.ir.expression import (
    Access,
    Apply,
    Constant,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    accesses,
    replace_sources,
    scopes,
    tensors,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import F32, tensor


def maximum(x: Iterator, j: Iterator) -> Scope:
    """``max<j> X[x, j]``."""
    return Scope((x,), Access(tensor("X", x.extent, j.extent), [x, j]), (j,), Reducer.MAX)


def exponential(x: Iterator, j: Iterator, value: Scalar | None = None) -> Scalar:
    """``exp(X[x, j] − max<j> X[x, j])``."""
    value = value or Access(tensor("X", x.extent, j.extent), [x, j])
    return Apply("exp", Apply("sub", value, Access(maximum(x, j), [x])))


def attention(rows: int, keys: int, columns: int) -> Scope:
    """``Σ<j> exp(X[x, j] − max X[x])·V[j, d]``."""
    x, j, d = Iterator("x", rows), Iterator("j", keys), Iterator("d", columns)
    value = Access(tensor("V", keys, columns), [j, d])
    return Scope((x, d), Apply("mul", exponential(x, j), value), (j,))


def same_in_floats(before: Scope, after: Scope, values: dict[str, np.ndarray] | None = None) -> None:
    random = np.random.default_rng(3)
    given_values = values or {
        found.name: random.standard_normal(found.shape).astype(np.float32) for found in tensors(before)
    }
    np.testing.assert_allclose(
        evaluate(after, given_values), evaluate(before, given_values), rtol=1e-4, atol=1e-5, equal_nan=True
    )


def applied(rule: str, scope: Scope, site: Site) -> Scope:
    result = RULES_BY_NAME[rule].apply(scope, site)
    assert isinstance(result, Scope), result
    return result


@settings(max_examples=25)
@given(st.integers(1, 3), st.sampled_from([4, 6, 8, 12]), st.integers(1, 3), st.sampled_from([2, 3, 4]))
def test_blocks_have_maxima_of_their_own(rows: int, keys: int, columns: int, block: int) -> None:
    start = attention(rows, keys, columns)
    split = RULES_BY_NAME["split_reduction"].apply(start, Site.of(iterator="j", factor=block, offset=0))
    if isinstance(split, Refusal):
        assert block >= keys
        return
    online = RULES_BY_NAME["block_exponentials"].apply(split, Site.of(iterators=("j2",)))
    if keys % block:
        assert isinstance(online, Refusal), "the last block holds padding, which a maximum would see"
        return
    assert isinstance(online, Scope)
    assert choose_domain([start, online]) is Domain.PAIRED
    assert difference(start, online, Domain.PAIRED, 7) is None
    same_in_floats(start, online)


def blocks(mask: float = 0.0) -> tuple[Scope, Scope]:
    start = attention(2, 6, 2)
    split = applied("split_reduction", start, Site.of(iterator="j", factor=2, offset=0))
    return start, applied("block_exponentials", split, Site.of(iterators=("j2",)))


def test_masked_blocks_add_nothing() -> None:
    start, online = blocks()
    scores = np.random.default_rng(4).standard_normal((2, 6)).astype(np.float32)
    scores[0, :4] = -math.inf
    scores[1, :] = -math.inf  # no key is left: NaN in both
    values = {"X": scores, "V": np.ones((6, 2), np.float32)}
    same_in_floats(start, online, values)
    assert np.isfinite(evaluate(online, values)[0]).all()


def test_a_block_without_a_maximum_of_its_own_is_noticed() -> None:
    """The rule's result with the outer factor dropped is another value."""
    start, online = blocks()
    body = online.body
    assert isinstance(body, Apply)
    wrong = Scope(online.traversal, body.arguments[1], online.reduction)
    assert difference(start, wrong, Domain.PAIRED, 7) is not None


def test_padded_blocks_are_refused() -> None:
    x, q, t = Iterator("x", 2), Iterator("q", 2), Iterator("t", 4)
    padded = Access(tensor("X", 2, 6), [x, Index.of(q) * 4 + t], -math.inf)
    shift = Access(maximum(x, Iterator("j", 6)), [x])
    body = Apply("mul", Apply("exp", Apply("sub", padded, shift)), Access(tensor("V", 8), [Index.of(q) * 4 + t]))
    refusal = RULES_BY_NAME["block_exponentials"].apply(Scope((x,), body, (q, t)), Site.of(iterators=("t",)))
    assert isinstance(refusal, Refusal)
    assert "outside" in refusal.reason


def _summand(case: str) -> tuple[Scalar, Reducer]:
    x, q, t = Iterator("x", 2), Iterator("q", 3), Iterator("t", 2)
    scores = Access(tensor("X", 2, 3, 2), [x, q, t])
    shifts = {
        "shift sees the block": Access(tensor("M", 2, 2), [x, t]),
        "shift sees the blocks": Access(tensor("M", 2, 3), [x, q]),
    }
    shift = shifts.get(case, Access(tensor("M", 2), [x]))
    power: Scalar = Apply("exp", Apply("sub", scores, shift))
    if case == "no shift":
        power = Apply("exp", scores)
    if case == "two exponentials":
        power = Apply("mul", power, power)
    if case == "exponent does not see the block":
        power = Apply("exp", Apply("sub", Access(tensor("Y", 2, 3), [x, q]), shift))
    body = Apply("mul", power, Access(tensor("V", 3, 2), [q, t]))
    return body, Reducer.MAX if case == "a maximum" else Reducer.SUM


@pytest.mark.parametrize(
    "case",
    [
        "shift sees the block",
        "shift sees the blocks",
        "no shift",
        "two exponentials",
        "exponent does not see the block",
        "a maximum",
    ],
)
def test_near_misses_of_blocks_are_refused(case: str) -> None:
    body, reducer = _summand(case)
    scope = Scope((Iterator("x", 2),), body, (Iterator("q", 3), Iterator("t", 2)), reducer)
    assert isinstance(RULES_BY_NAME["block_exponentials"].apply(scope, Site.of(iterators=("t",))), Refusal)


def test_the_block_rule_names_a_proper_part() -> None:
    rule = RULES_BY_NAME["block_exponentials"]
    assert list(rule.sites(attention(2, 6, 2))) == []
    assert isinstance(rule.apply(attention(2, 6, 2), Site.of(iterators=("j",))), Refusal)
    assert isinstance(rule.apply(attention(2, 6, 2), Site.of(iterators=("k",))), Refusal)


def softmax(shift: str) -> Scope:
    """``exp(X − a) / Σ exp(X − a)`` over rows of 5, the shift of the kind named."""
    x, j = Iterator("x", 3), Iterator("j", 5)

    def power(row: Iterator, key: Iterator) -> Scalar:
        scores = Access(tensor("X", 3, 5), [row, key])
        match shift:
            case "none":
                return Apply("exp", scores)
            case "row":
                return Apply("exp", Apply("sub", scores, Access(tensor("B", 3), [row])))
            case "key":
                return Apply("exp", Apply("sub", scores, Access(tensor("B", 5), [key])))
            case _:
                return Apply("exp", Apply("sub", scores, Access(maximum(row, key), [row])))

    total = Scope((x,), power(x, j), (j,))
    return Scope((x, j), Apply("div", power(x, j), Access(total, [x])))


@pytest.mark.parametrize("shift", ["none", "row"])
def test_any_shift_becomes_the_maximum(shift: str) -> None:
    start = softmax(shift)
    stable = applied("shift_to_maximum", start, Site())
    assert any(scope.reducer is Reducer.MAX for scope in scopes(stable))
    assert difference(start, stable, Domain.PAIRED, 7) is None
    same_in_floats(start, stable)


def test_the_maximum_keeps_large_scores_finite() -> None:
    stable = applied("shift_to_maximum", softmax("none"), Site())
    found = evaluate(stable, {"X": np.full((3, 5), 200, np.float32)})
    np.testing.assert_allclose(found, 0.2, rtol=1e-6)


@pytest.mark.parametrize("shift", ["key", "maximum"])
def test_other_shifts_are_refused(shift: str) -> None:
    assert isinstance(RULES_BY_NAME["shift_to_maximum"].apply(softmax(shift), Site()), Refusal)


def test_numerator_and_divisor_are_shifted_alike() -> None:
    row, none = softmax("row"), softmax("none")
    assert isinstance(row.body, Apply)
    assert isinstance(none.body, Apply)
    mixed = Scope(row.traversal, Apply("div", row.body.arguments[0], none.body.arguments[1]))
    refusal = RULES_BY_NAME["shift_to_maximum"].apply(mixed, Site())
    assert isinstance(refusal, Refusal)
    assert "alike" in refusal.reason


def quotient(divisor: Scalar, reducer: Reducer = Reducer.SUM) -> Scope:
    x, j, d = Iterator("x", 2), Iterator("j", 4), Iterator("d", 3)
    share = Apply("div", Access(tensor("E", 2, 4), [x, j]), divisor)
    return Scope((x, d), Apply("mul", share, Access(tensor("V", 4, 3), [j, d])), (j,), reducer)


def test_a_sum_is_divided_once() -> None:
    start = quotient(Access(tensor("S", 2), [Iterator("x", 2)]))
    late = applied("divide_after", start, Site.of(factor=0))
    assert late.reducer is None
    assert len(accesses(late.body)) == 2
    assert difference(start, late, choose_domain([start, late]), 7) is None


@pytest.mark.parametrize(
    ("divisor", "reducer", "reason"),
    [
        (Access(tensor("S", 4), [Iterator("j", 4)]), Reducer.SUM, "depends"),
        (Access(tensor("S", 2, 4), [Iterator("x", 2), Iterator("j", 4)]), Reducer.SUM, "depends"),
        (Constant(2, F32), Reducer.MAX, "sum"),
    ],
)
def test_divisions_that_cannot_wait_are_refused(divisor: Scalar, reducer: Reducer, reason: str) -> None:
    refusal = RULES_BY_NAME["divide_after"].apply(quotient(divisor, reducer), Site.of(factor=0))
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason


def test_what_is_no_quotient_is_not_divided() -> None:
    assert isinstance(RULES_BY_NAME["divide_after"].apply(quotient(Constant(2, F32)), Site.of(factor=1)), Refusal)


# The pseudo-random order of the paired domain ------------------------------------------------------------------------


def _extremes(x: Iterator, *names: str) -> Scalar:
    value: Scalar = Apply("exp", Access(tensor(names[0], x.extent), [x]))
    for name in names[1:]:
        value = Apply("max", value, Apply("exp", Access(tensor(name, x.extent), [x])))
    return value


def test_maxima_in_the_paired_domain_obey_the_semilattice_laws() -> None:
    x = Iterator("x", 40)
    one, other = Scope((x,), _extremes(x, "A", "B", "C", "A")), Scope((x,), _extremes(x, "C", "A", "B"))
    assert choose_domain([one, other]) is Domain.PAIRED
    assert difference(one, other, Domain.PAIRED, 1) is None


@pytest.mark.parametrize("law", ["nothing is below zero", "order goes with addition", "the left one"])
def test_what_is_no_law_of_semilattices_differs(law: str) -> None:
    """The second one holds for numbers; refusing it is the price of a domain with exponentials."""
    x = Iterator("x", 40)
    left, right = (Apply("exp", Access(tensor(name, 40), [x])) for name in "AB")
    zero = Constant(0, F32)
    pairs = {
        "nothing is below zero": (Apply("max", left, zero), left),
        "order goes with addition": (
            Apply("max", Apply("sub", left, right), zero),
            Apply("sub", Apply("max", left, right), right),
        ),
        "the left one": (Apply("max", left, right), left),
    }
    one, other = (Scope((x,), body) for body in pairs[law])
    assert difference(one, other, Domain.PAIRED, 1) is not None


@pytest.mark.parametrize(("rows", "keys", "columns", "block"), [(64, 256, 32, 64), (12, 96, 8, 32)])
def test_the_online_form_has_a_certificate(rows: int, keys: int, columns: int, block: int) -> None:
    start = attention(rows, keys, columns)
    moves: list[Application] = [
        ("split_reduction", (), Site.of(iterator="j", factor=block, offset=0)),
        ("block_exponentials", (), Site.of(iterators=("j2",))),
    ]
    derivation = derive_along(start, moves, RULES_BY_NAME)
    made: dict[Tensor | Scope, Tensor | Scope] = {}
    statements: list[Compute] = []
    for scope in scopes(derivation.result(RULES_BY_NAME)):
        part = Tensor(f"part{len(made)}", scope.type)
        statements.append(Compute(part, replace_sources(scope, made)))
        made[scope] = part
    certificate = Checker().check(derivation, Compute(statements[-1].output, start), tuple(statements))
    assert isinstance(certificate, Certificate)
    assert certificate.domain is Domain.PAIRED
