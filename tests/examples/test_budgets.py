"""A model within a budget is compared with itself without one, and looked at from outside while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples import budgets

ROWS = 1 << 14


def back(batch: int) -> onnx.ModelProto:
    """Three products forwards, and back with what was made forwards; every value has four megabytes."""
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    nodes = [helper.make_node("MatMul", [before, "w"], [after]) for before, after in ("xa", "ab", "bc")]
    for source, mirrored, after in (("c", "b", "d"), ("d", "a", "y")):
        nodes.append(helper.make_node("MatMul", [source, "w"], [f"{after}m"]))
        nodes.append(helper.make_node("Sub", [f"{after}m", mirrored], [after]))
    shape = [batch * ROWS, 64]
    graph = helper.make_graph(
        nodes,
        "back",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(budgets, "BUILDERS", {"back": back})
    row = budgets.measured("back", 1, 100)
    assert row["same_bits"] is True
    assert row["arena_bytes"] <= row["budget_bytes"] == row["peak_bytes_baseline"]
    assert row["callers_bytes"] == 2 * ROWS * 64 * 4
    # Everything that was planned for was touched, and no other value of four megabytes: threads and code take one.
    expected = row["arena_bytes"] + row["callers_bytes"]
    assert expected <= row["growth_bytes"] + (1 << 18)
    assert row["growth_bytes"] < expected + ROWS * 64 * 4
    refused = budgets.measured("back", 1, 1)
    assert "is the smallest budget that is known to fit" in refused["refused"]
    assert refused["same_bits"] is True
    assert refused["arena_bytes"] <= refused["budget_bytes"]


def test_the_table_has_a_cell_for_each_title() -> None:
    row: dict[str, Any] = {
        "budget_bytes": 2 << 20,
        "arena_bytes": 1 << 20,
        "arena_bytes_whole": 3 << 20,
        "status": "optimal",
        "recomputed": 2,
        "predicted_percent": 1.25,
        "measured_percent": -0.5,
        "peak_bytes_baseline": 4 << 20,
        "milliseconds": 2.0,
        "predicted_milliseconds": 1.0,
        "same_bits": True,
        "growth_bytes": 3 << 20,
        "callers_bytes": 1 << 20,
    }
    lines = budgets.table(
        {"a, 80 %": row, "b, 50 %": {**row, "refused": "no plan"}, "c": {"failed": "died"}}
    ).splitlines()
    cells = "2.00 | 66.7 | 1.00 | 3.00 | optimal | 2 | 1.25 | -0.50 | 0.983 | 2.000 | yes | 1.500 |"
    assert lines[2] == f"| a, 80 % | {cells}"
    assert lines[3] == f"| b, 50 % refused, smallest | {cells}"
    assert len({entry.count("|") for entry in lines}) == 1
