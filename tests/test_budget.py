"""Budgets as people write them."""

import pytest

from tensoropt.budget import parse_budget
from tensoropt.errors import UsageError


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("4096", 4096),
        ("512MiB", 512 << 20),
        ("1.5 GB", 1_500_000_000),
        ("80%", 800),
        ("12.5 %", 125),
        ("100%", 1000),
        ("0", 0),
    ],
)
def test_bytes_units_and_shares(text: str, bytes_: int) -> None:
    assert parse_budget(text, 1000) == bytes_


def test_a_share_of_a_huge_peak_is_exact() -> None:
    assert parse_budget("50%", 2**80 + 2) == 2**79 + 1


@pytest.mark.parametrize("text", ["", "%", "many", "5 potatoes", "-3", "1e3", "80%%"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-budget"):
        parse_budget(text, 1000)
