"""Memory budgets as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

from tensoropt.errors import UsageError

UNITS = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip


def parse_budget(text: str, peak_bytes: int) -> int:
    """Bytes of a budget: ``512MiB``, ``1.5 GB``, ``4096``, or a share of a peak, ``80%``, rounded down. UsageError otherwise."""
    match = re.fullmatch(r"\s*(\d{1,400}(?:\.\d{1,400})?)\s*(%|[A-Za-z]*)\s*", text)
    unit = match.group(2).lower() if match else ""
    if match is None or (unit != "%" and unit not in UNITS):
        raise UsageError(
            f"--memory-budget {text!r} is neither a number of bytes such as 512MiB nor a share such as 80%"
        )
    number = Fraction(match.group(1))
    return int(number * peak_bytes / 100) if unit == "%" else int(number * UNITS[unit])
