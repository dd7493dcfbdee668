"""Rewrites that are wrong, some of them published: the checker refuses each with a reason, and no chain of rules derives them.

Each is offered as a rule that is dishonest: it gives the wrong form at every size, so its chain replays on smaller sizes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.rules import RULES, RULES_BY_NAME
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import Domain, choose_domain
from tensoropt.ir.expression import Access, Apply, Constant, Scalar, Scope, Tensor, accesses, map_scalar, scopes
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal, Site, replaced_at
from tests.passes.derive.soak import paths, points
from tests.strategies.expressions import F32, tensor
from tests.strategies.operators import convolution, transposed_convolution
from tests.strategies.random_sites import suggested

Rewrite = Callable[[Scope], Scope]


@dataclass(frozen=True, slots=True)
class Dishonest:
    """``f = g``, whatever g is."""

    rewrite: Rewrite
    name: str = "dishonest"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One."""
        yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """What the test says."""
        return self.rewrite(scope)


def replaced_body(scope: Scope, body: Scalar) -> Scope:
    return Scope(scope.traversal, body, scope.reduction, scope.reducer)


# The wrong rewrites --------------------------------------------------------------------------------------------------


def band(rows: int) -> Scope:
    """A band matmul of dilation 2, five diagonals."""
    b, m, w, k = Iterator("b", 2), Iterator("m", rows), Iterator("w", 5), Iterator("k", 8)
    keys = Access(tensor("B", 2, rows, 8), [b, Index.of(m) + Index.of(w) * 2 - 4, k])
    return Scope((b, m, w), Apply("mul", Access(tensor("A", 2, rows, 8), [b, m, k]), keys), (k,))


def undilated_without_batch(scope: Scope) -> Scope:
    """The residues put one after the other on the row axis, so that the band runs from one to the next."""
    (b, m, w), (k,) = scope.traversal, scope.reduction
    query, keys = (access.source for access in accesses(scope.body))
    each = m.extent // 2
    q = Iterator("q", m.extent)
    source = Index.of(q) % each * 2 + Index.of(q) // each
    moved = [Scope((b, q, k), Access(found, [b, source, k])) for found in (query, keys)]
    flat = Apply("mul", Access(moved[0], [b, q, k]), Access(moved[1], [b, Index.of(q) + w - w.extent // 2, k]))
    position = Index.of(m) % 2 * each + Index.of(m) // 2
    return Scope((b, m, w), Access(Scope((b, q, w), flat, (k,)), [b, position, w]))


def dilated() -> Scope:
    """A convolution of dilation 2 along one axis."""
    f, y, c, r = Iterator("f", 8), Iterator("y", 32), Iterator("c", 16), Iterator("r", 3)
    data = Access(tensor("A", 16, 32), [c, Index.of(y) + Index.of(r) * 2 - 2])
    return Scope((f, y), Apply("mul", data, Access(tensor("K", 8, 16, 3), [f, c, r])), (c, r))


def reshape_only(scope: Scope) -> Scope:
    """The residue classes taken for halves of the axis: a reshape where a transpose belongs."""
    (f, y), (c, r) = scope.traversal, scope.reduction
    data, kernel = accesses(scope.body)
    each = y.extent // 2
    half, e = Iterator("d", 2), Iterator("e", each)
    halves = Scope((c, half, e), Access(data.source, [c, Index.of(half) * each + e]))
    dense = Scope(
        (f, half, e),
        Apply("mul", Access(halves, [c, half, Index.of(e) + r - 1]), Access(kernel.source, [f, c, r])),
        (c, r),
    )
    return Scope((f, y), Access(dense, [f, Index.of(y) // each, Index.of(y) % each]))


def aligned() -> Scope:
    """``Σ A[r, s]·K[r, s]`` for every image."""
    n, r, s = Iterator("n", 4), Iterator("r", 16), Iterator("s", 16)
    return Scope(
        (n,), Apply("mul", Access(tensor("A", 4, 16, 16), [n, r, s]), Access(tensor("K", 16, 16), [r, s])), (r, s)
    )


def transposed_operand(scope: Scope) -> Scope:
    """The second operand read with its axes exchanged."""
    left, right = accesses(scope.body)
    return replaced_body(scope, Apply("mul", left, Access(right.source, right.indices[::-1])))


def activated(operation: str = "relu", outer: str = "") -> Scope:
    """``relu(Σ A·K + B)``, and a function of that."""
    m, n, k = Iterator("m", 8), Iterator("n", 6), Iterator("k", 16)
    product = Scope((m, n), Apply("mul", Access(tensor("A", 8, 16), [m, k]), Access(tensor("K", 16, 6), [k, n])), (k,))
    total = Apply("add", Access(product, [m, n]), Access(tensor("B", 6), [n]))
    body = Apply(operation, total)
    return Scope((m, n), Apply(outer, body) if outer else body)


def without(operation: str) -> Rewrite:
    """A unary operation dropped; of a sum the second operand."""

    def dropped(node: Scalar) -> Scalar:
        match node:
            case Apply() if node.operation == operation:
                return dropped(node.arguments[0])
            case Apply():
                return Apply(node.operation, *map(dropped, node.arguments))
            case _:
                return node

    return lambda scope: replaced_body(scope, dropped(scope.body))


def padded_by_one_more(scope: Scope) -> Scope:
    """Every shifted index of the first operand shifted once more."""
    first = accesses(scope.body)[0]
    moved = Access(first.source, [index - 1 if index.constant else index for index in first.indices], first.outside)
    return replaced_body(scope, map_scalar(scope.body, lambda node: moved if node is first else node))


def shifted_image() -> Scope:
    """A padded convolution of an image to which a number for each channel was added."""
    plain = convolution(1, 16, 14, 8, (3, 3))
    data, kernel = accesses(plain.body)
    n, c, h, w = (Iterator(name, int(extent)) for name, extent in zip("ncij", data.source.shape, strict=True))
    shifted = Scope((n, c, h, w), Apply("add", Access(data.source, [n, c, h, w]), Access(tensor("B", 16), [c])))
    body = Apply("mul", Access(shifted, data.indices), kernel)
    return replaced_body(plain, body)


def shift_without_border(scope: Scope) -> Scope:
    """``conv(A + B) = conv(A) + Σ B·K``, which holds where no tap lies in the padding."""
    read, kernel = accesses(scope.body)
    image = read.source
    assert isinstance(image, Scope)
    data, bias = accesses(image.body)
    n, f, y, x = scope.traversal
    c = scope.reduction[0]
    plain = Scope(scope.traversal, Apply("mul", Access(data.source, read.indices), kernel), scope.reduction)
    constant = Scope((f,), Apply("mul", Access(bias.source, [c]), kernel), scope.reduction)
    return Scope(scope.traversal, Apply("add", Access(plain, [n, f, y, x]), Access(constant, [f])))


WRONG: dict[str, tuple[Scope, Rewrite]] = {
    "the published band matmul, undilated without batch folding": (band(64), undilated_without_batch),
    "the dilated convolution by reshapes only": (dilated(), reshape_only),
    "A[r, s]·K[r, s] = A[r, s]·K[s, r]": (aligned(), transposed_operand),
    "relu(x) = x": (activated(), without("relu")),
    "relu(x) = x beside exp": (activated(outer="exp"), without("relu")),
    "relu(x) = x beside a comparison": (activated(outer="abs"), without("relu")),
    "a dropped bias": (activated("neg"), without("add")),
    "a dropped tanh": (activated("tanh"), without("tanh")),
    "a padding off by one": (convolution(1, 16, 14, 8, (3, 3)), padded_by_one_more),
    "a transposed padding off by one": (
        transposed_convolution(1, 16, 14, 8, 4, 2, 1),
        lambda scope: shifted_window(scope),
    ),
    "a shift before a padded convolution": (shifted_image(), shift_without_border),
}


def shifted_window(scope: Scope) -> Scope:
    """The kernel of a transposed convolution read one element further."""
    _, kernel = accesses(scope.body)
    moved = Access(kernel.source, [index + 1 if index.constant else index for index in kernel.indices], kernel.outside)
    return replaced_body(scope, map_scalar(scope.body, lambda node: moved if node is kernel else node))


@pytest.mark.parametrize("name", WRONG)
def test_the_checker_refuses_with_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start, rewrite = WRONG[name]
    verdict = checked(start, rewrite, monkeypatch)
    assert isinstance(verdict, Refusal)
    assert "differs" in verdict.reason


def checked(start: Scope, rewrite: Rewrite, monkeypatch: pytest.MonkeyPatch) -> Certificate | Refusal:
    monkeypatch.setitem(RULES_BY_NAME, "dishonest", Dishonest(rewrite))
    derivation = derive_along(start, [("dishonest", (), Site())], RULES_BY_NAME)
    output = Tensor("O", start.type)
    return Checker().check(derivation, Compute(output, start), (Compute(output, rewrite(start)),))


@pytest.mark.parametrize("name", WRONG)
def test_no_chain_of_rules_derives_it(name: str) -> None:
    start, rewrite = WRONG[name]
    assert canonical_key(rewrite(start)) not in reached(start, 150)


def reached(start: Scope, most: int) -> set[str]:
    """Keys of what rules derive, breadth first."""
    seen = {canonical_key(start)}
    queue = [start]
    for root in queue:
        if len(seen) >= most:
            break
        for path in paths(root)[:3]:
            scope = root
            for position in path:
                source = accesses(scope.body)[position].source
                assert isinstance(source, Scope)
                scope = source
            for rule in RULES:
                for site in suggested(rule, scope)[:6]:
                    after = rule.apply(scope, site)
                    if isinstance(after, Refusal):
                        continue
                    whole = replaced_at(root, path, after)
                    key = canonical_key(whole)
                    if key not in seen and len(seen) < most and len(scopes(whole)) < 8:
                        seen.add(key)
                        queue.append(whole)
    return seen


def test_a_right_rewrite_passes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused above is refused for being wrong: with the residues as a batch the band matmul passes."""

    def with_batch(scope: Scope) -> Scope:
        (b, m, w), (k,) = scope.traversal, scope.reduction
        query, keys = (access.source for access in accesses(scope.body))
        d, e = Iterator("d", 2), Iterator("e", m.extent // 2)
        folded = [Scope((b, d, e, k), Access(found, [b, Index.of(e) * 2 + d, k])) for found in (query, keys)]
        right = Access(folded[1], [b, d, Index.of(e) + w - w.extent // 2, k])
        dense = Scope((b, d, e, w), Apply("mul", Access(folded[0], [b, d, e, k]), right), (k,))
        return Scope((b, m, w), Access(dense, [b, Index.of(m) % 2, Index.of(m) // 2, w]))

    certificate = checked(band(64), with_batch, monkeypatch)
    assert isinstance(certificate, Certificate), certificate
    assert certificate.assignments >= 2
    assert certificate.error_bound is not None
    assert certificate.error_bound < 1e-15


@pytest.mark.parametrize("elements", [1, 4])
def test_relu_is_no_identity_however_few_elements_there_are(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    i = Iterator("i", elements)
    for outer in ("", "exp"):
        inner: Scalar = Apply("relu", Access(tensor("A", elements), [i]))
        start = Scope((i,), Apply(outer, inner) if outer else inner)
        assert choose_domain([start]) is (Domain.PAIRED if outer else Domain.INTEGER)
        assert isinstance(checked(start, without("relu"), monkeypatch), Refusal)


def test_what_fits_no_domain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    i = Iterator("i", 4)
    read = Access(tensor("A", 4), [i])
    chosen = Apply("where", Apply("gt", read, Constant(0.0, F32)), Apply("exp", read), read)
    verdict = checked(
        Scope((i,), chosen), lambda scope: replaced_body(scope, Apply("neg", Apply("neg", scope.body))), monkeypatch
    )
    assert isinstance(verdict, Refusal)
    assert "no exp" in verdict.reason
    assert points(Scope((i,), chosen)) == 4
