"""The rule of products at points: a chain over both axes of a convolution is certified at real sizes, and wrong chains are not."""

from __future__ import annotations

import pytest

from passes.combine.outlining import statements_of
from passes.derive.certify.certificate import Certificate, Checker
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.expression import Apply, Constant, Scope, Tensor
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation, derive_along
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies import networks
from tests.strategies.networks import tensor


def convolution(
    size: tuple[int, int] = (14, 13), taps: tuple[int, int] = (3, 3), images: int = 2, apart: int = 1
) -> Scope:
    """Images of 4 channels, 3 filters, one line and column of padding, and taps that are some lines and columns apart."""
    image, kernel = tensor("A", images, 4, *size), tensor("K", 3, 4, *taps)
    return networks.convolution(tensor("out", images, 3, *size), image, kernel, 1, (apart, apart)).expression


def chain(scope: Scope, tile: int) -> Derivation:
    """Both axes of a convolution."""
    moves = [
        ("winograd", (0,) * number, Site.of(iterator=axis, tap=tap, factor=tile))
        for number, (axis, tap) in enumerate((("h", "r"), ("w", "s")))
    ]
    return derive_along(scope, moves, RULES_BY_NAME)


@pytest.mark.parametrize("tile", [2, 3, 4])
@pytest.mark.parametrize(("taps", "apart"), [((3, 3), 1), ((2, 5), 1), ((3, 3), 2), ((3, 2), 3)])
def test_both_axes_are_certified(tile: int, taps: tuple[int, int], apart: int) -> None:
    scope = convolution(taps=taps, apart=apart)
    derivation = chain(scope, tile)
    output = Tensor("out", scope.type)
    statements = statements_of(derivation.result(RULES_BY_NAME), output, ["K"], ["A", "K"], ())
    certificate = Checker().check(derivation, Compute(output, scope), statements)
    assert isinstance(certificate, Certificate), certificate


def test_a_wrong_number_in_a_table_is_refused() -> None:
    scope = convolution()
    derivation = chain(scope, 2)
    output = Tensor("out", scope.type)
    *rest, last = statements_of(derivation.result(RULES_BY_NAME), output, ["K"], ["A", "K"], ())
    body = last.expression.body
    wrong = Scope(last.expression.traversal, Apply("mul", Constant(0.5, body.dtype), body), last.expression.reduction)
    assert isinstance(Checker().check(derivation, Compute(output, scope), (*rest, Compute(output, wrong))), Refusal)


def test_sites_are_the_axes_with_the_taps_that_move_their_window() -> None:
    found = {(site.text("iterator"), site.text("tap")) for site in RULES_BY_NAME["winograd"].sites(convolution())}
    assert found == {("h", "r"), ("w", "s")}


@pytest.mark.parametrize("images", [1, 2])
def test_an_image_smaller_than_a_tile_is_rewritten_too(images: int) -> None:
    scope = convolution((2, 3), images=images)
    derivation = chain(scope, 4)
    output = Tensor("out", scope.type)
    statements = statements_of(derivation.result(RULES_BY_NAME), output, ["K"], ["A", "K"], ())
    assert isinstance(Checker().check(derivation, Compute(output, scope), statements), Certificate)
