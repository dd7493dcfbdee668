"""The cost model by measurement: costs, disagreement, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.targets.cpu import host_target
from codegen.tune.worker import MeasuredCost
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, Extent, TensorType


def square(name: str) -> Tensor:
    """A matrix of 24 rows and columns."""
    return Tensor(name, TensorType(DataType.FLOAT32, (Extent(24), Extent(24))))


def product(transposed: bool) -> Scope:
    """``a·b`` or ``a·bᵀ``."""
    i, j, k = (Iterator(name, 24) for name in "ijk")
    right = Access(square("b"), [j, k] if transposed else [k, j])
    return Scope([i, j], Apply("mul", Access(square("a"), [i, k]), right), [k])


def test_alternatives_are_compared_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    output = square("y")
    same = Alternative((Compute(output, product(transposed=False)),), (output,), frozenset({"b"}))
    wrong = Alternative((Compute(output, product(transposed=True)),), (output,))
    reference = Alternative((Compute(output, product(transposed=False)),), (output,))
    with MeasuredCost(host_target(2), seconds=0.02) as model:
        costs = model.compare([reference, same, wrong])
        assert [cost.source for cost in costs] == ["measured", "measured", "failed"]
        assert "differs" in costs[2].reason
        assert costs[0].seconds > 0
    with MeasuredCost(host_target(2)) as again:
        assert again.compare([reference, same, wrong]) == costs
        assert again.worker.starts == 0
