"""What the search finds from bare operators, with chains that replay, certificates and statements that compute the same."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.certify.certificate import Checker, substituted
from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from passes.derive.search import derive
from passes.derive.tasks.cache import DeriveCache
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import Domain
from tensoropt.ir.expression import Access, Apply, Scope, Tensor, replace_sources, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation, ReplayError
from tensoropt.rewrite.rule import Refusal
from tests.strategies.expressions import tensor
from tests.strategies.operators import convolution, transposed_convolution


def limits(candidates: int) -> SearchLimits:
    """So many candidates, however dear their estimates are: the operators of these tests are tiny."""
    return SearchLimits(candidates=candidates, dearer=math.inf)


MANY = limits(12)


def found_for(scope: Scope, within: SearchLimits = MANY) -> list[Candidate]:
    return derive(Compute(Tensor("O", scope.type), scope, ("node",)), {"K"}, within)


def parameters(candidate: Candidate) -> dict[str, object]:
    return dict(candidate.matched[0].parameters)


def result_of(candidate: Candidate, scope: Scope) -> float:
    """The largest difference to the original, on random floats, where the original is at most about 1."""
    random = np.random.default_rng(1)
    values = {found.name: random.standard_normal(found.shape).astype(np.float32) for found in tensors(scope)}
    wanted = evaluate(scope, values)
    for statement in candidate.statements:
        values[statement.output.name] = evaluate(statement.expression, values)
    return float(np.abs(values["O"] - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [(4, 2, 1, 0), (4, 1, 0, 0), (9, 4, 3, 1), (3, 2, 1, 0), (6, 3, 2, 0), (5, 3, 1, 0)],
)
def test_transposed_convolution_becomes_matmul_and_gather_add(
    kernel: int, stride: int, padding: int, output_padding: int
) -> None:
    scope = transposed_convolution(1, 6, 5, 4, kernel, stride, padding, output_padding)
    candidates = found_for(scope, limits(40))
    columns = kernel * kernel * 4
    matched = [
        candidate
        for candidate in candidates
        if candidate.matched[0].operator == "matmul"
        and {parameters(candidate)["m"], parameters(candidate)["n"]} == {25, columns}
    ]
    assert matched, [candidate.label for candidate in candidates]
    taps = -(-kernel // stride)
    for candidate in matched:
        assert parameters(candidate)["k"] == 6
        gather = candidate.statements[-1].expression
        assert [iterator.extent for iterator in gather.reduction] == [min(taps, 5), min(taps, 5)]
    for candidate in candidates:
        assert result_of(candidate, scope) < 1e-5


def test_transposed_convolution_becomes_a_convolution_and_a_shuffle() -> None:
    scope = transposed_convolution(1, 6, 16, 4, 4, 2, 1)
    candidates = found_for(scope, limits(30))
    labels = [parameters(found) for found in candidates if found.matched[0].operator == "convolution"]
    assert any(found["kernel"] == (2, 2) and found["filters"] == 16 and found["channels"] == 6 for found in labels)


@pytest.mark.parametrize(("kernel", "height"), [((3, 3), 7), ((1, 7), 14), ((7, 1), 14), ((5, 5), 8)])
def test_convolution_becomes_matmul_and_offset_add(kernel: tuple[int, int], height: int) -> None:
    scope = convolution(1, 5, height, 6, kernel)
    candidates = found_for(scope, limits(20))
    sizes = {height * height, kernel[0] * kernel[1] * 6}
    matched = [
        found
        for found in candidates
        if found.matched[0].operator == "matmul" and {parameters(found)["m"], parameters(found)["n"]} == sizes
    ]
    assert matched, [found.label for found in candidates]
    gather = matched[0].statements[-1].expression
    assert sorted(found.extent for found in gather.reduction) == sorted(tap for tap in kernel if tap > 1)
    for found in candidates:
        assert result_of(found, scope) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolution_is_a_matmul(stride: int) -> None:
    candidates = found_for(convolution(1, 8, 10, 6, (1, 1), stride))
    positions = (10 // stride) ** 2
    assert {parameters(candidates[0])[name] for name in "mnk"} == {positions, 6, 8}
    activation = [match for match in candidates[0].matched[0].relayouts if tensors(match)[0].name == "A"]
    assert len(activation) == (0 if stride == 1 else 1), "only a strided one moves its data"


def test_images_become_rows_or_a_batch() -> None:
    candidates = found_for(transposed_convolution(3, 6, 4, 4, 4, 2, 1), limits(30))
    operators = {
        (found.matched[0].operator, parameters(found)["batch"]) for found in candidates if "batch" in parameters(found)
    }
    assert ("batch_matmul", 3) in operators
    assert any(48 in (parameters(found).get("m"), parameters(found).get("n")) for found in candidates)


def test_grouped_and_dilated_convolutions_are_solved() -> None:
    grouped = found_for(convolution(1, 8, 6, 8, (3, 3), groups=4), limits(20))
    assert any(found.matched[0].operator == "batch_matmul" and parameters(found)["batch"] == 4 for found in grouped)
    dilated = found_for(convolution(1, 4, 8, 4, (3, 3), dilation=2), limits(30))
    dense = [found for found in dilated if parameters(found).get("dilations") == (1, 1)]
    assert any(parameters(found)["images"] == 4 for found in dense), [found.label for found in dilated]
    for found in (*grouped, *dense):
        assert result_of(found, found.derivation.start) < 1e-5


def test_asymmetric_padding_and_stride() -> None:
    scope = convolution(2, 4, 9, 6, (3, 3), stride=2, pads=(0, 1, 1, 0))
    candidates = found_for(scope)
    assert candidates
    for found in candidates:
        assert result_of(found, scope) < 1e-5


def test_chains_replay_after_json_and_on_other_sizes() -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    candidate = found_for(scope)[0]
    data = json.loads(json.dumps(candidate.as_json()))
    read = {found.name: found for found in tensors(scope)}
    derivation = Derivation.from_json(data["derivation"], read)
    assert derivation == candidate.derivation
    assert canonical_key(derivation.result(RULES_BY_NAME)) == canonical_key(substituted(candidate.statements))
    other = transposed_convolution(1, 3, 9, 2, 4, 2, 1)
    elsewhere = derivation.replayed_on(other, RULES_BY_NAME)
    assert difference(other, elsewhere.result(RULES_BY_NAME), Domain.PRIME, 3) is None


def test_a_changed_chain_is_refused() -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    candidate = found_for(scope)[0]
    steps = candidate.derivation.steps
    with pytest.raises(ReplayError, match="starts at another expression"):
        Derivation(scope, (*steps[:1], *steps[2:])).result(RULES_BY_NAME)


def test_certificates_hold_and_wrong_statements_get_none() -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    compute = Compute(Tensor("O", scope.type), scope)
    candidate = found_for(scope)[0]
    assert candidate.certificate.domain is Domain.PRIME
    assert candidate.certificate.real_points >= 20
    assert not isinstance(Checker().check(candidate.derivation, compute, candidate.statements), Refusal)
    last = candidate.statements[-1]
    wrong = Scope(last.expression.traversal, Apply("neg", last.expression.body), last.expression.reduction)
    tampered = (*candidate.statements[:-1], Compute(last.output, wrong))
    assert isinstance(Checker().check(candidate.derivation, compute, tampered), Refusal)


def test_the_search_is_deterministic_and_bounded() -> None:
    scope = convolution(1, 5, 7, 6, (3, 3))
    first, second = found_for(scope), found_for(scope)
    assert [found.as_json() for found in first] == [found.as_json() for found in second]
    report = SearchReport()
    derive(Compute(Tensor("O", scope.type), scope), {"K"}, SearchLimits(states=3), (), report)
    assert report.visited == 3
    assert report.truncated == "states"


def test_time_ends_a_search_with_what_it_has() -> None:
    scope = transposed_convolution(1, 6, 16, 4, 4, 2, 1)
    compute = Compute(Tensor("O", scope.type), scope)
    report = SearchReport()
    assert derive(compute, {"K"}, MANY, (), report, deadline=time.monotonic() - 1) == []
    assert (report.truncated, report.visited) == ("time", 0)
    report = SearchReport()
    found = derive(compute, {"K"}, MANY, (), report, deadline=time.monotonic() + 0.02)
    assert bool(found) == bool(report.goals), "one candidate is checked however late it is"


def test_the_report_counts_every_rule() -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    report = SearchReport()
    derive(Compute(Tensor("O", scope.type), scope), {"K"}, SearchLimits(), (), report)
    used = {"stage", "skew_traversal", "split_traversal", "merge", "tighten", "compact_window", "match_matmul"}
    for name in used | {"match_convolution"}:
        counts = report.rules[name]
        assert counts.applied >= 1, name
        assert counts.tried == counts.applied + counts.refused.total(), name
        assert counts.seconds > 0
    assert report.truncated is None, "the space of this operator is exhausted"
    assert report.first_goal_seconds is not None
    assert report.first_goal_seconds <= report.seconds


@pytest.mark.parametrize(
    "rule",
    ["stage", "skew_traversal", "split_traversal", "merge", "tighten", "drop_units", "compact_window", "match_matmul"],
)
def test_excluded_rules_are_not_used(rule: str) -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    report = SearchReport()
    candidates = derive(Compute(Tensor("O", scope.type), scope), {"K"}, limits(4), {rule}, report)
    assert all(rule not in (step.rule for step in found.derivation.steps) for found in candidates)
    assert rule not in report.rules


def test_the_cache_renames_tensors() -> None:
    scope = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
    cache = DeriveCache()
    first = cache.derive(Compute(Tensor("O", scope.type), scope), {"K"})
    report = cache.report(Compute(Tensor("P", scope.type), scope), {"K"})
    assert report is not None
    assert report.visited > 10
    data, weights = tensors(scope)
    other = replace_sources(scope, {data: Tensor("X", data.type), weights: Tensor("W", weights.type)})
    second = cache.derive(Compute(Tensor("P", scope.type), other), {"W"})
    assert [found.label for found in second] == [found.label for found in first]
    for found in second:
        read = {used.name for statement in found.statements for used in statement.inputs}
        made = {statement.output.name for statement in found.statements}
        assert read - made == {"X", "W"}
        assert found.statements[-1].output.name == "P"
        assert canonical_key(found.derivation.start) == canonical_key(other)
        assert canonical_key(found.derivation.result(RULES_BY_NAME)) == canonical_key(substituted(found.statements))


def test_nothing_is_derived_for_what_is_no_contraction() -> None:
    i = Iterator("i", 4)
    scope = Scope((i,), Apply("relu", Access(tensor("A", 4), [i])))
    assert derive(Compute(Tensor("O", scope.type), scope)) == []


def test_undilated_band_matmul_without_batch_folding_is_refused() -> None:
    """The published rewrite lets the band run across residue classes; with the residue as a batch it is right."""
    rows, window, dilation = 12, 2, 2
    b, m, w, k = Iterator("b", 2), Iterator("m", rows), Iterator("w", 2 * window + 1), Iterator("k", 3)
    query, keys = tensor("A", 2, rows, 3), tensor("B", 2, rows, 3)
    band = Scope(
        (b, m, w),
        Apply(
            "mul",
            Access(query, [b, m, k]),
            Access(keys, [b, Index.of(m) + Index.of(w) * dilation - dilation * window, k]),
        ),
        (k,),
    )
    each = rows // dilation
    q = Iterator("q", rows)
    source = Index.of(q) % each * dilation + Index.of(q) // each
    moved = [Scope((b, q, k), Access(found, [b, source, k])) for found in (query, keys)]
    flat = Apply("mul", Access(moved[0], [b, q, k]), Access(moved[1], [b, Index.of(q) + w - window, k]))
    merged = Scope((b, q, w), flat, (k,))
    position = Index.of(m) % dilation * each + Index.of(m) // dilation
    published = Scope((b, m, w), Access(merged, [b, position, w]))
    assert difference(band, published, Domain.PRIME, 1) is not None

    d, e = Iterator("d", dilation), Iterator("e", each)
    folded = [Scope((b, d, e, k), Access(found, [b, Index.of(e) * dilation + d, k])) for found in (query, keys)]
    dense = Apply("mul", Access(folded[0], [b, d, e, k]), Access(folded[1], [b, d, Index.of(e) + w - window, k]))
    batched = Scope((b, d, e, w), dense, (k,))
    right = Scope((b, m, w), Access(batched, [b, Index.of(m) % dilation, Index.of(m) // dilation, w]))
    assert difference(band, right, Domain.PRIME, 1) is None
