"""The measuring process: costs, disagreement, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.build import compile_program
from codegen.targets.cpu import host_target
from codegen.tune.schedules import search
from codegen.tune.worker import MeasuredCost
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.plan_types import Plan


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


def test_schedules_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    output = square("y")
    program = Program("p", (square("a"), square("b")), (output,), {}, (Compute(output, product(transposed=False)),))
    plan = Plan({}, 0, 0)
    with MeasuredCost(host_target(2), seconds=0.02) as model:
        found = search(program, plan, model, "fast")
        spent = model.spent
        assert spent > 0
        assert search(program, plan, model, "fast") == found
        assert model.spent == spent
        assert search(program, plan, model, "off") == {}
    built = compile_program(program, plan, host_target(2), variants=found)
    values = {"a": np.eye(24, dtype=np.float32), "b": np.arange(576, dtype=np.float32).reshape(24, 24)}
    np.testing.assert_array_equal(built.model().run(values)["y"], values["b"])
