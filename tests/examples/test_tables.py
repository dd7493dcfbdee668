"""The tables hold what was measured, failures included; only the seventeen models count in the means."""

from __future__ import annotations

from typing import Any

from examples.tables import latencies, memories, skipped, speed_ups, summary
from tests.strategies.benchmark_rows import row

PEERS = ("onnxruntime", "torch")


def test_latencies_name_formulations_failures_and_who_is_skipped() -> None:
    chunked = row("longformer_gathered", 3.0, onnxruntime=2.0, torch=6.0)
    chunked["engines"]["onnxruntime"]["formulation"] = "longformer_chunked"
    rows: dict[str, dict[str, Any]] = {
        "longformer_gathered": chunked,
        "gcn": row("gcn", 1.0, onnxruntime=4.0),
        "srcnn": {"failed": "out of memory"},
    }
    lines = latencies(rows, PEERS).splitlines()
    assert lines[2] == (
        "| longformer_gathered | 3.000 | 2.000 (longformer_chunked) | 1.50 | 6.000 | 0.50 | 1.01 | 1.9 | 6.0e-06 | 12 |"
    )
    assert lines[3] == "| gcn | 1.000 | 4.000 | 0.25 | skipped |  | 1.01 | 1.9 | 4.0e-06 | 12 |"
    assert "failed: out of memory" in lines[4]
    assert {line.count("|") for line in lines} == {11}


def test_memories_are_those_of_each_engine() -> None:
    rows: dict[str, dict[str, Any]] = {"gcn": row("gcn", 1.0, onnxruntime=4.0), "srcnn": {"failed": "why"}}
    assert memories(rows, PEERS).splitlines()[2:] == ["| gcn | 10 | 40 |  |"]


def test_the_best_peer_is_that_of_each_model() -> None:
    rows = {"a": row("gcn", 1.0, onnxruntime=4.0, torch=2.0), "b": row("gcn", 1.0, onnxruntime=4.0)}
    assert speed_ups(rows, PEERS) == {"a": 2.0, "b": 4.0}
    assert speed_ups(rows, ["torch"]) == {"a": 2.0}


def test_means_are_geometric_and_count_models_once() -> None:
    rows: dict[str, dict[str, Any]] = {
        "gcn": row("gcn", 2.0, onnxruntime=1.0, torch=32.0),
        "infogan": row("infogan", 1.0, onnxruntime=8.0, torch=2.0),
        "infogan, batch 16": row("infogan", 1.0, 16, onnxruntime=3.0),
        "longformer_chunked": row("longformer_chunked", 1.0, onnxruntime=1000.0),
        "srcnn": {"failed": "why"},
    }
    assert summary(rows, PEERS).splitlines() == [
        "- Speed-up over onnxruntime, geometric mean: 2.00 over batch 1 (2), 3.00 over larger batches (1), "
        "8.00 over the models for derivation (1); smallest 0.50 (gcn).",
        "- Speed-up over torch, geometric mean: 5.66 over batch 1 (2), 2.00 over the models for derivation (1); "
        "smallest 2.00 (infogan).",
        "- Speed-up over the best peer of each model, geometric mean: 1.00 over batch 1 (2), 3.00 over larger batches (1), "
        "2.00 over the models for derivation (1); smallest 0.50 (gcn).",
        "- Failed: srcnn.",
    ]


def test_what_was_skipped_is_told() -> None:
    rows = {"gcn": {**row("gcn", 1.0), "skipped": {"torch": "it is not installed"}}, "srcnn": row("srcnn", 1.0)}
    assert skipped(rows) == "- gcn: torch is skipped: it is not installed"
